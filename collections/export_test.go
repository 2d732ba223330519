package collections

import (
	"context"

	"github.com/skerry-sync/skerry/collections/access"
)

// Standing is standing, for tests.
func (s *Server) Standing(ctx context.Context, identity string) (access.Rank, error) {
	return s.standing(ctx, identity)
}

// TakeTurns takes all turns of those who read long logs, until the function that it returns is
// called.
func (s *Server) TakeTurns() (give func()) {
	for range longAtOnce {
		s.turns <- struct{}{}
	}
	return func() {
		for range longAtOnce {
			<-s.turns
		}
	}
}

// Turns returns how many turns are taken.
func (s *Server) Turns() int { return len(s.turns) }
