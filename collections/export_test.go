package collections

import (
	"context"

	"github.com/skerry-sync/skerry/collections/access"
)

// Standing is standing, for tests.
func (s *Server) Standing(ctx context.Context, identity string) (access.Rank, error) {
	return s.standing(ctx, identity)
}
