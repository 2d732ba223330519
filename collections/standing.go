package collections

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/skerry-sync/skerry/collections/access"
	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/store"
)

// standing tells how much an identity's list of revocations matters here, beside whether its
// certificates were presented.
func (s *Server) standing(ctx context.Context, identity string) (access.Rank, error) {
	c := s.Config()
	if c.Names(identity) {
		return access.Named, nil
	}
	asked := map[string]bool{}
	for _, col := range c.All() {
		place, ok := placeOf(col.StoragePath, identity)
		if !ok || asked[place] {
			continue
		}
		asked[place] = true
		owns, err := s.holds(ctx, place)
		if err != nil {
			return 0, fmt.Errorf("what belongs to %s: %w", identity, err)
		}
		if owns {
			return access.Owner, nil
		}
	}
	return access.Stranger, nil
}

// holds reports whether there is something at a place or below it, whether or not it can be read.
// Only what lies there is looked at: a list of what begins alike would read the names of all
// others.
func (s *Server) holds(ctx context.Context, place string) (bool, error) {
	in := s.opts.Documents.Store()
	keys, err := in.List(ctx, place+"/", "", 1)
	if err != nil || len(keys) > 0 {
		return err == nil, err
	}
	_, err = in.Get(ctx, place)
	if err == nil || errors.Is(err, store.ErrNotFound) {
		return err == nil, nil
	}
	// What cannot be read now has a name all the same, which is the first of those that begin so.
	keys, err = in.List(ctx, place, "", 1)
	return len(keys) > 0 && keys[0] == place, err
}

// placeOf returns what lies under an identity in a template: the path up to {identity}. ok is false
// if there is no {identity}, or another parameter before it.
func placeOf(template, identity string) (place string, ok bool) {
	before, _, ok := strings.Cut(template, "{"+config.IdentityParam+"}")
	return before + identity, ok && !strings.Contains(before, "{")
}
