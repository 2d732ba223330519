package chain

import (
	"errors"
	"time"

	"github.com/skerry-sync/skerry/collections/access"
)

// A wallet costs nothing to make, and there are more items than anybody can count, so whoever likes
// can have a server ask a chain as often as it asks the server, before any limit of rates: requests
// of callers without a role are not counted by those. What a provider of endpoints allows, or
// charges for, is used up by that. So each source has a share.
const (
	shareTime   = time.Minute
	shareOf     = 600     // questions of one source in that time
	shareOfWide = 10_000  // of all sources of a large network
	maxShares   = 100_000 // sources and networks that are told apart; the others share one
)

// errShare reports a source that has asked too much.
var errShare = errors.New("too much has been asked of it for requests from that network")

// shares count questions by source. The zero value is ready. Whoever uses it holds a lock.
type shares struct {
	since time.Time
	asked map[string]int
}

// take counts a question of a source, or returns after what time the next may be.
func (s *shares) take(source string, now time.Time) (wait time.Duration) {
	if source == "" {
		return 0
	}
	if age := now.Sub(s.since); age < 0 || age >= shareTime {
		s.since, s.asked = now, map[string]int{}
	}
	counters := []counter{{source, shareOf}, {"in " + access.Network(source), shareOfWide}}
	if len(s.asked) >= maxShares && s.asked[source] == 0 {
		counters = []counter{{"others", shareOfWide}}
	}
	for _, c := range counters {
		if s.asked[c.key] >= c.most {
			return max(time.Second, shareTime-now.Sub(s.since))
		}
	}
	for _, c := range counters {
		s.asked[c.key]++
	}
	return 0
}

type counter struct {
	key  string
	most int
}
