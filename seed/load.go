package seed

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/skerry-sync/skerry/internal/netaddr"
	"github.com/skerry-sync/skerry/kv"
)

// Each asker may make so many requests; a request costs the seed a signature to verify. A device
// that has all its replicas registered at once stays within them.
const (
	asksPerSecond = 16
	asksAtOnce    = 2048
	maxAskers     = 8192
)

// Identities cost nothing, and what the seed notes of a registration is charged to nobody. So all
// identities from one network of the public internet may begin only so many.
const (
	beginsAtOnce = 256
	beginsEvery  = time.Minute
)

// askers limits requests, by peer or IP address. Of those that have not asked for long, nothing is
// kept.
type askers struct {
	mu sync.Mutex
	of map[string]*asker
}

type asker struct {
	limit  *rate.Limiter
	begins *rate.Limiter // of registrations
	asking float64       // registrations that may be about to begin
	last   time.Time
}

func (a *askers) may(who string, now time.Time) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.get(who, now).limit.AllowN(now, 1) {
		return failed(RateLimited, errors.New("too many requests: wait a little, and try again"))
	}
	return nil
}

// begin takes one of the registrations that may begin from a network, and returns end, which is to
// be told whether it has begun. Networks that are not of the public internet are known to whoever
// runs the seed.
func (a *askers) begin(from string, now time.Time) (end func(begun bool), err error) {
	if p, err := netip.ParsePrefix(from); err != nil || !netaddr.Public(p.Addr()) {
		return func(bool) {}, nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	x := a.get(from, now)
	if x.begins.TokensAt(now)-x.asking < 1 {
		return nil, failed(
			RateLimited,
			errors.New(
				"too many replicas have been registered from your network: try again in some minutes",
			),
		)
	}
	x.asking++
	return func(begun bool) {
		a.mu.Lock()
		defer a.mu.Unlock()
		if x.asking--; begun {
			x.begins.AllowN(now, 1)
		}
	}, nil
}

// get returns what is kept of an asker; the caller holds the lock.
func (a *askers) get(who string, now time.Time) *asker {
	if a.of == nil {
		a.of = map[string]*asker{}
	}
	x := a.of[who]
	if x == nil {
		if len(a.of) >= maxAskers {
			a.makeRoom(now)
		}
		x = &asker{
			limit:  rate.NewLimiter(asksPerSecond, asksAtOnce),
			begins: rate.NewLimiter(rate.Every(beginsEvery), beginsAtOnce),
		}
		a.of[who] = x
	}
	x.last = now
	return x
}

// makeRoom forgets half of them, those of which the limits are full again first.
func (a *askers) makeRoom(now time.Time) {
	for _, must := range []bool{false, true} {
		for who, x := range a.of { // in no order
			if len(a.of) <= maxAskers/2 {
				return
			}
			if must || x.limit.TokensAt(now) >= asksAtOnce && x.begins.TokensAt(now) >= beginsAtOnce {
				delete(a.of, who)
			}
		}
	}
}

// askerOf names who makes an HTTP request: the network of the connection's address or, behind so
// many proxies, of the one that the first of them names. Without proxies, what a
// caller says of its address counts for nothing, also on this machine: whoever names another each
// time has no limit.
func askerOf(r *http.Request, hops int) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	at, err := netip.ParseAddr(host)
	if err != nil {
		return host
	}
	if hops > 0 {
		all := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
		if len(all) >= hops {
			if named, err := netip.ParseAddr(strings.TrimSpace(all[len(all)-hops])); err == nil {
				at = named
			}
		}
	}
	return netaddr.Network(at).String()
}

// counts are of requests, by what they asked for and how they were answered.
type counts struct {
	mu sync.Mutex
	of map[Asked]uint64
}

// Asked is a kind of request, and of answer: Code is empty for what was done.
type Asked struct {
	Op   string
	Code Code
}

func (c *counts) add(op string, err error) {
	a := Asked{Op: op}
	if err != nil {
		a.Code = asError(err).Code
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.of == nil {
		c.of = map[Asked]uint64{}
	}
	c.of[a]++
}

// Requests returns how many requests of each kind have been answered.
func (s *Seed) Requests() map[Asked]uint64 {
	s.counts.mu.Lock()
	defer s.counts.mu.Unlock()
	out := make(map[Asked]uint64, len(s.counts.of))
	for a, n := range s.counts.of {
		out[a] = n
	}
	return out
}

// Load is what a seed keeps.
type Load struct {
	Registrations int
	Ended         int // of these, in their time of grace
	Identities    int
	Bytes         uint64 // charged to all identities together
}

// Load counts what the seed keeps. Its cost grows with that.
func (s *Seed) Load(ctx context.Context) (l Load, err error) {
	err = s.scan(ctx, keyRegistration, func(p kv.Pair) error {
		g, err := parseRegistration(p)
		if err == nil {
			l.Registrations++
			if !g.Deletion.IsZero() {
				l.Ended++
			}
		}
		return err
	})
	if err != nil {
		return l, err
	}
	err = s.scan(ctx, keyUsage, func(p kv.Pair) error {
		u, err := parseUsage(p.Value)
		l.Identities++
		l.Bytes += u.Bytes
		return err
	})
	return l, err
}
