package collections

import (
	"context"
	"fmt"
	"strings"

	"github.com/skerry-sync/skerry/collections/access"
	"github.com/skerry-sync/skerry/collections/config"
)

// rank tells how much an identity's list of revocations matters here, beside whether certificates of its
// were presented.
func (s *Server) rank(ctx context.Context, identity string) (access.Rank, error) {
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
		keys, err := s.opts.Documents.Store().List(ctx, place, "", 1)
		if err != nil {
			return access.Stranger, fmt.Errorf("what belongs to %s: %w", identity, err)
		}
		if len(keys) > 0 && (keys[0] == place || strings.HasPrefix(keys[0], place+"/")) {
			return access.Owner, nil
		}
	}
	return access.Stranger, nil
}

// placeOf returns what lies under an identity in a template: the path up to {identity}. ok is false if
// there is no {identity}, or another parameter before it.
func placeOf(template, identity string) (place string, ok bool) {
	before, _, ok := strings.Cut(template, "{"+config.IdentityParam+"}")
	return before + identity, ok && !strings.Contains(before, "{")
}
