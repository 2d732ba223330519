package access

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Issuers cost nothing to make, so what lists of revocations may take up is shared out by where
// they come from. Each source may bring sourceLists lists at once, of new issuers or later ones,
// and then one in listPause; and sourceBytes of lists, and then bytesPerSecond. All sources of a
// network may bring networkShares times as much together: each list leaves a trace in a replica for
// ever, a tombstone, and whoever has a network has thousands of sources.
const (
	sourceLists    = 64
	listPause      = 10 * time.Minute
	sourceBytes    = 4 << 20
	bytesPerSecond = 256
	networkShares  = 64
	// maxSources is of how many sources it is known what they have brought.
	maxSources = 1 << 14
)

// allowance is what a source, or a network, may still bring.
type allowance struct{ lists, bytes *rate.Limiter }

// newAllowance returns one of so many sources.
func newAllowance(sources int) *allowance {
	return &allowance{
		rate.NewLimiter(rate.Every(listPause/time.Duration(sources)), sources*sourceLists),
		rate.NewLimiter(rate.Limit(sources*bytesPerSecond), sources*sourceBytes),
	}
}

// full reports whether nothing has been taken that has not come back.
func (a *allowance) full(now time.Time) bool {
	return a.lists.TokensAt(now) >= float64(a.lists.Burst()) &&
		a.bytes.TokensAt(now) >= float64(a.bytes.Burst())
}

// take takes what lists cost from an allowance, all or nothing.
func (a *allowance) take(now time.Time, lists, bytes int) bool {
	if a.lists.TokensAt(now) < float64(lists) || a.bytes.TokensAt(now) < float64(bytes) {
		return false
	}
	return a.lists.AllowN(now, lists) && a.bytes.AllowN(now, bytes)
}

// allowances are those of all sources.
type allowances struct {
	mu     sync.Mutex
	of     map[string]*allowance
	shares int // of how many sources each is; 0 is one
}

// take takes what lists cost from the source of ctx, if it has one; all behind proxies of this
// machine share one. It returns false if there is none left.
func (s *allowances) take(ctx context.Context, lists, bytes int) bool {
	source, ok := ctx.Value(sourceKey{}).(string)
	if !ok {
		return true
	}
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.of[source]
	if a == nil {
		if len(s.of) >= maxSources {
			for k, old := range s.of {
				if old.full(now) {
					delete(s.of, k)
				}
			}
		}
		if len(s.of) >= maxSources {
			return false // as many as there are are at it right now
		}
		if s.of == nil {
			s.of = map[string]*allowance{}
		}
		a = newAllowance(max(1, s.shares))
		s.of[source] = a
	}
	return a.take(now, lists, bytes)
}
