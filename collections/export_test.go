package collections

import (
	"context"

	"github.com/skerry-sync/skerry/collections/access"
)

// Rank is rank, for tests.
func (s *Server) Rank(ctx context.Context, identity string) (access.Rank, error) {
	return s.rank(ctx, identity)
}
