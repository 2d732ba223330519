package collections

import (
	"cmp"
	"net/http"
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
	// rest has windows by address, of callers for whom begun has no room: identities cost nothing to make.
	rest windows
}

type window struct {
	since time.Time
	count int64
}

// maxWindows is how many callers are told apart, and how many addresses beside them. The windows of those
// who came first are forgotten first once they are over.
const maxWindows = 100_000

func newLimiters(all []config.Counter) (ls []*limiter) {
	for _, c := range all {
		ls = append(ls, &limiter{Counter: c, begun: windows{of: map[string]*window{}}, rest: windows{of: map[string]*window{}}})
	}
	return ls
}

// pass counts a request of a caller at an address, and reports whether it is within the limit; if not,
// wait is after what time the next may be.
func (l *limiter) pass(who, address string, now time.Time) (ok bool, wait time.Duration) {
	length := time.Duration(l.WindowMS) * time.Millisecond
	l.mu.Lock()
	defer l.mu.Unlock()
	w := l.begun.at(who, now, length)
	if w == nil {
		w = l.rest.at(address, now, length)
	}
	if w == nil { // all of both count still: whoever is new shares what strangers have
		if w = l.rest.of[""]; w == nil || now.Sub(w.since) >= length {
			w = &window{since: now}
			l.rest.of[""] = w
		}
	}
	if w.count++; w.count > l.MaxRequests {
		return false, length - now.Sub(w.since)
	}
	return true, 0
}

// windows are those of some keys.
type windows struct {
	of    map[string]*window
	swept time.Time // when those that are over were last looked for
}

// at returns the window of a key that counts now, or nil if there is no room for one.
func (ws *windows) at(key string, now time.Time, length time.Duration) *window {
	w := ws.of[key]
	if w == nil && len(ws.of) >= maxWindows {
		if now.Sub(ws.swept) >= length/16 || now.Before(ws.swept) { // a look at all costs some milliseconds
			ws.swept = now
			for k, old := range ws.of {
				if now.Sub(old.since) >= length {
					delete(ws.of, k)
				}
			}
		}
		if len(ws.of) >= maxWindows {
			return nil
		}
	}
	if w == nil || now.Sub(w.since) >= length {
		w = &window{since: now}
		ws.of[key] = w
	}
	return w
}

// party names all that one party can easily send requests from: an address, of IPv6 the network of 56 bits.
func party(address string) string { return cmp.Or(access.Source(address), address) }

// limit refuses a request that is one too many. All counters of its route count it.
func (x *exchange) limit() error {
	if len(x.route.limits) == 0 {
		return nil
	}
	now := time.UnixMilli(x.s.opts.Documents.Now())
	ok, wait := true, time.Duration(0)
	for _, l := range x.route.limits {
		who, at := x.who.Identity, "@"+party(x.address())
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
	if ok {
		return nil
	}
	x.w.Header().Set("Retry-After", seconds(wait))
	return refuse(http.StatusTooManyRequests, "Rate limit exceeded")
}
