package access

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Issuers cost nothing to make, so what lists of revocations may take up is shared out by where
// they come from. Each source may bring lists of sourceIssuers new issuers at once, and then one in
// issuerPause; and sourceBytes of lists, as far as they grow, and then bytesPerSecond.
const (
	sourceIssuers  = 64
	issuerPause    = 10 * time.Minute
	sourceBytes    = 4 << 20
	bytesPerSecond = 256
	// maxSources is of how many sources it is known what they have brought.
	maxSources = 1 << 14
)

// allowance is what a source may still bring.
type allowance struct{ issuers, bytes *rate.Limiter }

func newAllowance() *allowance {
	return &allowance{
		rate.NewLimiter(rate.Every(issuerPause), sourceIssuers),
		rate.NewLimiter(bytesPerSecond, sourceBytes),
	}
}

// full reports whether nothing has been taken that has not come back.
func (a *allowance) full(now time.Time) bool {
	return a.issuers.TokensAt(now) >= sourceIssuers && a.bytes.TokensAt(now) >= sourceBytes
}

// take takes room for a list from an allowance, all or nothing.
func (a *allowance) take(now time.Time, issuers, bytes int) bool {
	if a.issuers.TokensAt(now) < float64(issuers) || a.bytes.TokensAt(now) < float64(bytes) {
		return false
	}
	return a.issuers.AllowN(now, issuers) && a.bytes.AllowN(now, bytes)
}

// allowances are those of all sources.
type allowances struct {
	mu sync.Mutex
	of map[string]*allowance
}

// take takes room for a list from the source of ctx, if it has one; all behind proxies of this
// machine share one. It returns false if there is none left.
func (s *allowances) take(ctx context.Context, issuers, bytes int) bool {
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
		a = newAllowance()
		s.of[source] = a
	}
	return a.take(now, issuers, bytes)
}
