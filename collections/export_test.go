package collections

import (
	"context"
	"time"

	"github.com/skerry-sync/skerry/collections/access"
)

// Standing is standing, for tests.
func (s *Server) Standing(ctx context.Context, identity string) (access.Standing, error) {
	return s.standing(ctx, identity)
}

// SetMatchClock sets the clock by which it is told how long patterns take.
func SetMatchClock(o *Options, now func() time.Time) { o.matchClock = now }
