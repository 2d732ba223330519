package chain

import (
	"context"
	"errors"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/skerry-sync/skerry/identity/eth"
	"github.com/skerry-sync/skerry/internal/fault"
)

// cache remembers answers of one contract. An error is never remembered as an answer, but for a
// second the same is not asked again after one.
type cache struct {
	times Times
	now   func() time.Time
	ask   func(ctx context.Context, item Item, who eth.Address) (answers, time.Duration, error)

	mu      sync.Mutex
	owners  *lru.LRU[Item, owner]
	grants  *lru.LRU[grantKey, grant]
	asking  map[grantKey]*flight
	failed  *lru.LRU[grantKey, failure]
	flushed int // how often

	shares shares
	slots  chan struct{} // holds one for each question that is being asked
	always context.Context
	stop   context.CancelFunc
	flying sync.WaitGroup
}

// owner is whose an item is, zero if it is not there, as it was at a time.
type owner struct {
	address eth.Address
	at      time.Time
}

type grantKey struct {
	item Item
	who  eth.Address
}

// grant is whether somebody may use an item, as it was at a time.
type grant struct {
	is bool
	at time.Time
}

type failure struct {
	err   error
	retry time.Duration
	at    time.Time
}

// flight is a question that is being asked, for all who want to know the same.
type flight struct {
	done  chan struct{}
	a     answers
	retry time.Duration
	err   error
}

const (
	again       = time.Second      // after a failure, before the same is asked again
	maxFailures = 4096             // that are remembered for that
	maxFlight   = 10 * time.Second // how long a question may take, at all endpoints
	maxFlights  = 64               // questions that are asked at the same time; others wait
)

func newCache(
	size int, times Times, now func() time.Time,
	ask func(context.Context, Item, eth.Address) (answers, time.Duration, error),
) *cache {
	c := &cache{
		times: times, now: now, ask: ask, asking: map[grantKey]*flight{},
		slots: make(chan struct{}, maxFlights),
	}
	// fails only for a size that is not positive
	c.owners, _ = lru.NewLRU[Item, owner](max(1, size), nil)
	c.grants, _ = lru.NewLRU[grantKey, grant](max(1, size), nil)
	c.failed, _ = lru.NewLRU[grantKey, failure](maxFailures, nil)
	c.always, c.stop = context.WithCancel(context.Background())
	return c
}

func (c *cache) flush() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.owners.Purge()
	c.grants.Purge()
	c.failed.Purge()
	c.flushed++
}

func (c *cache) close() {
	c.stop()
	c.flying.Wait()
}

// known returns what is remembered of a standing. fresh is set if nothing has to be asked; stale if
// it is good enough for reading while nothing can be.
func (c *cache) known(k grantKey) (s Standing, fresh, stale bool) {
	now := c.now()
	o, there := c.owners.Get(k.item)
	s.Owner = there && o.address == k.who && k.who != (eth.Address{})
	if s.Owner && now.Sub(o.at) < c.times.Owner { // which is enough
		return Standing{true, true}, true, true
	}
	g, asked := c.grants.Get(k)
	if !there || !asked {
		return s, false, false
	}
	ownerFor, grantFor := c.times.NotOwner, c.times.NoAccess
	if s.Owner {
		ownerFor = c.times.Owner
	}
	if g.is { // the same question has told both, and a member's right is remembered for its own time
		grantFor = c.times.Access
		ownerFor = max(ownerFor, grantFor)
	}
	s.Member = g.is || s.Owner
	ownerAge, grantAge := now.Sub(o.at), now.Sub(g.at)
	// That somebody is not the owner may be older than that a member is one: a member who becomes the
	// owner is told so a little later.
	fresh = ownerAge < ownerFor && grantAge < grantFor
	stale = ownerAge < ownerFor+c.times.Stale && grantAge < grantFor+c.times.Stale
	return s, fresh, stale
}

// standing returns, with an error, when it is worth asking again.
func (c *cache) standing(ctx context.Context, a Ask) (Standing, time.Duration, error) {
	k := grantKey{a.Item, a.Who}
	c.mu.Lock()
	s, fresh, stale := c.known(k)
	if fresh {
		c.mu.Unlock()
		return s, 0, nil
	}
	f := c.asking[k]
	if f == nil {
		if last, ok := c.failed.Get(k); ok && c.now().Sub(last.at) < again {
			c.mu.Unlock()
			if stale && !a.Write {
				return s, 0, nil
			}
			return Standing{}, last.retry, last.err
		}
		if wait := c.shares.take(a.Source, c.now()); wait > 0 {
			c.mu.Unlock()
			if stale && !a.Write {
				return s, 0, nil
			}
			return Standing{}, wait, errShare
		}
		f = c.fly(k)
	}
	c.mu.Unlock()
	select {
	case <-f.done:
	case <-ctx.Done():
		return Standing{}, 0, ctx.Err()
	}
	switch {
	case f.err == nil:
		own := f.a.owner == a.Who && a.Who != (eth.Address{})
		return Standing{own, own || f.a.access}, 0, nil
	case stale && !a.Write:
		return s, 0, nil
	}
	return Standing{}, f.retry, f.err
}

// fly asks what nobody asks yet. Who wants to know may go away meanwhile.
func (c *cache) fly(k grantKey) *flight {
	f := &flight{done: make(chan struct{})}
	c.asking[k] = f
	flushed := c.flushed
	c.flying.Go(func() {
		ctx, cancel := context.WithTimeout(c.always, maxFlight)
		defer cancel()
		select {
		case c.slots <- struct{}{}:
			err := fault.Call(func() error {
				f.a, f.retry, f.err = c.ask(ctx, k.item, k.who)
				return nil
			})
			if <-c.slots; err != nil {
				f.retry, f.err = again, err
			}
		case <-ctx.Done():
			f.retry, f.err = again, errors.New("too much is being asked of it")
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		now := c.now()
		switch {
		case c.flushed != flushed: // the answer may be of before
		case f.err == nil:
			c.owners.Add(k.item, owner{f.a.owner, now})
			c.grants.Add(k, grant{f.a.access, now})
			c.failed.Remove(k)
		default:
			c.failed.Add(k, failure{f.err, f.retry, now})
		}
		delete(c.asking, k)
		close(f.done)
	})
	return f
}
