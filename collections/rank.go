package collections

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/skerry-sync/skerry/collections/access"
	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/collections/store"
)

// standing tells how much an identity's list of revocations matters here, beside whether
// certificates of its were presented, and since when something of its is here.
func (s *Server) standing(ctx context.Context, identity string) (access.Standing, error) {
	c := s.Config()
	if c.Names(identity) {
		return access.Standing{Rank: access.Named}, nil
	}
	asked := map[string]bool{}
	for _, col := range c.All() {
		place, ok := placeOf(col.StoragePath, identity)
		if !ok || asked[place] {
			continue
		}
		asked[place] = true
		key, err := s.first(ctx, place)
		if err == nil && key != "" {
			var since time.Time
			if since, err = s.since(ctx, key); err == nil {
				return access.Standing{Rank: access.Owner, Since: since}, nil
			}
		}
		if err != nil {
			return access.Standing{}, fmt.Errorf("what belongs to %s: %w", identity, err)
		}
	}
	return access.Standing{}, nil
}

// first returns the first key at a place or below it, "" if there is none. Only what lies there is
// looked at: a list of what begins alike would read the names of all others.
func (s *Server) first(ctx context.Context, place string) (string, error) {
	keys, err := s.opts.Documents.Store().List(ctx, place+"/", "", 1)
	if err != nil {
		return "", err
	}
	if len(keys) > 0 {
		return keys[0], nil
	}
	_, err = s.opts.Documents.Store().Get(ctx, place)
	if errors.Is(err, store.ErrNotFound) {
		return "", nil
	}
	return place, err
}

// since returns when a document was written, as this server's clock or another's has told; zero if
// that is not known, as of a file, or of a log, whose writers name times themselves.
func (s *Server) since(ctx context.Context, key string) (time.Time, error) {
	o := s.Reach().At(key)
	if o == nil || o.Collection.Binary() || o.Collection.AppendOnly != nil {
		return time.Time{}, nil
	}
	d, err := s.opts.Documents.Get(ctx, o.Key)
	if errors.Is(err, document.ErrCorrupt) {
		return time.Time{}, nil
	}
	if err != nil || d == nil || d.Time <= 0 {
		return time.Time{}, err
	}
	return time.UnixMilli(d.Time), nil
}

// placeOf returns what lies under an identity in a template: the path up to {identity}. ok is false
// if there is no {identity}, or another parameter before it.
func placeOf(template, identity string) (place string, ok bool) {
	before, _, ok := strings.Cut(template, "{"+config.IdentityParam+"}")
	return before + identity, ok && !strings.Contains(before, "{")
}
