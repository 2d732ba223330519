package replicas

import (
	"container/list"
	"hash/maphash"
	"slices"
	"sync"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/replica"
)

// cacheBytes is about how many bytes of objects are kept in memory.
const cacheBytes = 16 << 20

// overhead is about what an object costs beside its body, parsed.
const overhead = 1 << 10

// cache keeps objects that were read. Whoever reads one takes the stamp of its key before, and what
// has been forgotten since is not put.
type cache struct {
	mu     sync.Mutex
	items  map[string]*list.Element
	recent *list.List // the latest first
	bytes  int
	limit  int
	seed   maphash.Seed
	stamps [1 << 12]uint64 // by a hash of keys
}

type cached struct {
	key string
	state
}

// state is what is known of a key.
type state struct {
	object *store.Object // nil if there is nothing
	hashes []blobs.Hash  // of the entries that it was made of
	own    bool          // all of them are this store's author's
	last   uint64        // the latest time of those of this store's author that were looked at, in µs
	known  uint64        // the latest of any author where the latest entry stands
	signed int64         // of a file, where there are rules, as of Guard.SignedAt; else 0
}

// has reports whether an entry says nothing that the state has not.
func (s *state) has(e *replica.Entry) bool {
	return slices.Contains(s.hashes, e.Hash) && e.Timestamp <= max(s.known, s.last)
}

func (c *cached) size() int {
	n := 2*len(c.key) + overhead
	if c.object != nil {
		n += 3 * len(c.object.Body)
	}
	return n
}

func newCache(limit int) *cache {
	return &cache{
		items: map[string]*list.Element{}, recent: list.New(), limit: limit, seed: maphash.MakeSeed(),
	}
}

func (c *cache) stamp(key string) *uint64 {
	return &c.stamps[maphash.String(c.seed, key)%uint64(len(c.stamps))]
}

func (c *cache) get(key string) (s state, ok bool, stamp uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.items[key]; e != nil {
		c.recent.MoveToFront(e)
		return e.Value.(*cached).state, true, *c.stamp(key)
	}
	return s, false, *c.stamp(key)
}

// put keeps what is known of a key, unless something has been forgotten since stamp.
func (c *cache) put(key string, s state, stamp uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if *c.stamp(key) != stamp {
		return
	}
	if e := c.items[key]; e != nil {
		c.drop(e)
	}
	x := &cached{key, s}
	c.items[key] = c.recent.PushFront(x)
	for c.bytes += x.size(); c.bytes > c.limit; {
		c.drop(c.recent.Back())
	}
}

func (c *cache) drop(e *list.Element) {
	x := c.recent.Remove(e).(*cached)
	delete(c.items, x.key)
	c.bytes -= x.size()
}

// forget drops an object, unless the entry that has come, if any, is one of those that it was made
// of. Another author can have written the same, later: what is written next must be later yet.
func (c *cache) forget(key string, came *replica.Entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.items[key]
	if e != nil && came != nil && e.Value.(*cached).has(came) {
		return
	}
	*c.stamp(key)++
	if e != nil {
		c.drop(e)
	}
}

func (c *cache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.stamps {
		c.stamps[i]++
	}
	c.items, c.bytes = map[string]*list.Element{}, 0
	c.recent.Init()
}
