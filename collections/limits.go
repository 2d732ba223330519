package collections

import (
	"net/http"
	"sync"
	"time"

	"github.com/skerry-sync/skerry/collections/config"
)

// limiter counts requests in windows of time, by who makes them.
type limiter struct {
	config.Counter

	mu    sync.Mutex
	begun map[string]*window
}

type window struct {
	since time.Time
	count int64
}

// maxWindows is how many callers are told apart; the windows of those who came first are forgotten first once they are over.
const maxWindows = 100_000

func newLimiters(all []config.Counter) (ls []*limiter) {
	for _, c := range all {
		ls = append(ls, &limiter{Counter: c, begun: map[string]*window{}})
	}
	return ls
}

// pass counts a request and reports whether it is within the limit; if not, wait is after what time the next may be.
func (l *limiter) pass(who string, now time.Time) (ok bool, wait time.Duration) {
	length := time.Duration(l.WindowMS) * time.Millisecond
	l.mu.Lock()
	defer l.mu.Unlock()
	w := l.begun[who]
	if w == nil && len(l.begun) >= maxWindows {
		for k, old := range l.begun {
			if now.Sub(old.since) >= length {
				delete(l.begun, k)
			}
		}
		if len(l.begun) >= maxWindows { // all of them count still: whoever is new shares what strangers have
			who = ""
			w = l.begun[who]
		}
	}
	if w == nil || now.Sub(w.since) >= length {
		w = &window{since: now}
		l.begun[who] = w
	}
	if w.count++; w.count > l.MaxRequests {
		return false, length - now.Sub(w.since)
	}
	return true, 0
}

// limit refuses a request that is one too many. All counters of its route count it.
func (x *exchange) limit() error {
	if len(x.route.limits) == 0 {
		return nil
	}
	now := time.UnixMilli(x.s.opts.Documents.Now())
	ok, wait := true, time.Duration(0)
	for _, l := range x.route.limits {
		who := x.who.Identity
		switch {
		case l.Bucket == config.ByIP || l.Bucket == config.ByIdentity && who == "":
			who = "@" + x.address()
		case l.Bucket == config.ByIdentityAndIP:
			who += "@" + x.address()
		}
		if passed, w := l.pass(who, now); !passed {
			ok, wait = false, max(wait, w)
		}
	}
	if ok {
		return nil
	}
	x.w.Header().Set("Retry-After", seconds(wait))
	return refuse(http.StatusTooManyRequests, "Rate limit exceeded")
}
