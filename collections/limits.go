package collections

import (
	"cmp"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/skerry-sync/skerry/collections/access"
	"github.com/skerry-sync/skerry/collections/config"
)

// limiter counts requests in windows of time, by who makes them.
type limiter struct {
	config.Counter

	mu    sync.Mutex
	begun windows
	// rest has windows by address, of callers for whom begun has no room: identities cost nothing to
	// make. wide has windows by large networks, of addresses for which rest has none.
	rest, wide windows
}

type window struct {
	since time.Time
	count int64
}

// over reports whether a window that began at a time is over. One that would begin later is, too:
// the clock has gone back.
func over(since, now time.Time, length time.Duration) bool {
	age := now.Sub(since)
	return age < 0 || age >= length
}

// maxWindows is how many callers are told apart, how many addresses beside them, and how many
// networks beside these.
const maxWindows = 100_000

func newLimiters(all []config.Counter) (ls []*limiter) {
	for _, c := range all {
		ls = append(ls, &limiter{Counter: c})
	}
	return ls
}

// pass counts a request of a caller at an address, and reports whether it is within the limit; if
// not, wait is after what time the next may be.
func (l *limiter) pass(who, address string, now time.Time) (ok bool, wait time.Duration) {
	length := time.Duration(l.WindowMS) * time.Millisecond
	l.mu.Lock()
	defer l.mu.Unlock()
	w := l.begun.at(who, now, length)
	if w == nil {
		w = l.rest.at(address, now, length)
	}
	if w == nil { // all of both count still: whoever is new shares what its network has
		w = l.wide.at(network(address), now, length)
	}
	if w == nil { // and if so many networks are at it, what all others have
		w = l.wide.place("", now, length)
	}
	if w.count++; w.count > l.MaxRequests {
		return false, length - now.Sub(w.since)
	}
	return true, 0
}

// windows are those of some keys. All have the same length, so they are over in the order in which
// they began, and nobody has to look at all of them to find those that are.
type windows struct {
	of    map[string]*window
	order []begin // in which they began; one that has begun anew since stands in it twice
	first int     // of order; what stands before it is done with
}

type begin struct {
	key   string
	since time.Time
}

// at returns the window of a key that counts now, or nil if there is no room for one.
func (ws *windows) at(key string, now time.Time, length time.Duration) *window {
	if w := ws.of[key]; w != nil && !over(w.since, now, length) {
		return w
	}
	ws.sweep(now, length)
	if len(ws.of) >= maxWindows {
		return nil
	}
	return ws.place(key, now, length)
}

// place returns the window of a key that counts now, whether there is room or not.
func (ws *windows) place(key string, now time.Time, length time.Duration) *window {
	w := ws.of[key]
	if w == nil || over(w.since, now, length) {
		if ws.of == nil {
			ws.of = map[string]*window{}
		}
		w = &window{since: now}
		ws.of[key] = w
		ws.order = append(ws.order, begin{key, now})
	}
	return w
}

// maxSwept is how many windows one request forgets at most: more than one, so that all are in the
// end.
const maxSwept = 64

// sweep forgets windows that are over.
func (ws *windows) sweep(now time.Time, length time.Duration) {
	for range maxSwept {
		if ws.first == len(ws.order) || !over(ws.order[ws.first].since, now, length) {
			break
		}
		b := &ws.order[ws.first]
		ws.first++
		if w := ws.of[b.key]; w != nil && w.since.Equal(b.since) {
			delete(ws.of, b.key)
		}
		b.key = ""
	}
	if ws.first > len(ws.order)/2 {
		ws.order = append(ws.order[:0], ws.order[ws.first:]...)
		ws.first = 0
	}
}

// party names all that one party can easily send requests from: an address, of IPv6 the network of
// 56 bits.
func party(address string) string { return cmp.Or(access.Source(address), address) }

// network is access.Network, also of what begins with "@".
func network(address string) string { return access.Network(strings.TrimPrefix(address, "@")) }

const tooMany = "Rate limit exceeded"

// limit refuses a request that is one too many. All counters of its route count it.
func (x *exchange) limit() error {
	wait, ok := x.count(x.route.limits, x.who.Identity)
	if ok {
		return nil
	}
	x.w.Header().Set("Retry-After", seconds(wait))
	return refuse(http.StatusTooManyRequests, tooMany)
}

// count counts a request of an identity in counters, each of which it must pass.
func (x *exchange) count(all []*limiter, identity string) (wait time.Duration, ok bool) {
	if len(all) == 0 {
		return 0, true
	}
	now := time.UnixMilli(x.s.opts.Documents.Now())
	ok = true
	at := "@" + party(x.address())
	for _, l := range all {
		who := identity
		switch {
		case l.Bucket == config.ByIP || l.Bucket == config.ByIdentity && who == "":
			who = at
		case l.Bucket == config.ByIdentityAndIP:
			who += at
		}
		if passed, w := l.pass(who, at, now); !passed {
			ok, wait = false, max(wait, w)
		}
	}
	return wait, ok
}
