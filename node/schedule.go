package node

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/blobs"
)

// The schedule of a fetch says who asks which provider for what. Providers take blocks of work, as
// large as they have shown to be fast; what they do not give goes back. When nothing is left to
// take, a fast provider takes over what a slow one still owes.

const (
	minBlock   = 512 << 10 // bytes
	maxBlock   = 8 << 20
	firstBlock = 1 << 20 // of a provider whose speed is not known
	// firstFarBlock is likewise of one that is far away: what is asked for at first must last for a
	// round trip.
	firstFarBlock = 4 << 20
	blockTime     = 250 * time.Millisecond
	blockItems    = 1024
	firstRanges   = 8 << 20 // bytes asked of a blob whose size nobody claims
	hedgeAfter    = 300 * time.Millisecond
	hedgeUnknown  = time.Second // likewise, if it is not known how fast the taker is
	// slowAfter is after what time all children that come unasked are asked of others, too, if the
	// provider is slower than slowRate, in bytes a second. It could send a tiny one now and then.
	slowAfter = 5 * time.Second
	slowRate  = 64 << 10
)

// need is a blob that is to be fetched, or a part of it.
type need struct {
	want    Want
	also    []Want       // further claims about the same blob
	proved  bool         // the store knows its size
	size    uint64       // if proved
	left    blobs.Ranges // to be asked for; if not proved, all of want.Ranges
	missing blobs.Ranges // not received yet; if not proved, all of want.Ranges
	asking  bool         // not proved, and somebody is asking
	queued  bool
	done    bool
	owned   bool // the children that come unasked bring it
	// children is how the children of a sequence are asked for together with it; nil if it is asked
	// for by itself.
	children *childRequest
	refused  map[peer.ID]bool
}

// block is work that one provider has taken.
type block struct {
	p         *provider
	items     []*blockItem
	started   time.Time
	hedged    bool // somebody else has taken it over
	cancelled bool // nothing of it is missing any more
	cancel    func()
}

// blockItem is one item of a request.
type blockItem struct {
	need     *need
	req      blobRequest
	expect   blobs.Ranges // what follows in the answer, once that is known
	got      uint64       // bytes of expect that have come
	answered bool
}

// received returns the part of expect that has come: streams are in ascending order.
func (it *blockItem) received() blobs.Ranges {
	var out blobs.Ranges
	left := it.got
	for _, r := range it.expect {
		if left == 0 {
			break
		}
		n := min(left, r.End-r.Start)
		out = append(out, blobs.Range{Start: r.Start, End: r.Start + n})
		left -= n
	}
	return out
}

// owed returns what of the item's need has not come.
func (it *blockItem) owed() blobs.Ranges {
	if it.answered {
		return nil
	}
	if it.expect == nil {
		return it.req.ranges
	}
	return it.expect.Without(it.received())
}

type schedule struct {
	mu      sync.Mutex
	changed chan struct{} // closed at every change
	needs   map[blobs.Hash]*need
	ready   []*need // something is left to ask for
	first   []*need // likewise, and before the others; the last one is the very first
	open    int     // needs that are not done
	blocks  map[*block]bool
	eager   map[blobs.Hash]bool // children that come unasked: whether they are still to come
	ended   bool
}

func newSchedule() *schedule {
	return &schedule{changed: make(chan struct{}), needs: map[blobs.Hash]*need{}, blocks: map[*block]bool{}, eager: map[blobs.Hash]bool{}}
}

// notify wakes all who wait for a change. The caller holds mu.
func (s *schedule) notify() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// end wakes everybody up for the last time.
func (s *schedule) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	s.notify()
}

// add takes a need. The caller holds mu.
func (s *schedule) add(x *need) {
	if old := s.needs[x.want.Hash]; old != nil && !old.done {
		if w := x.want; w.Size != old.want.Size || w.Chunked != old.want.Chunked || w.Most != old.want.Most {
			old.also = append(old.also, w)
		}
		return
	}
	s.needs[x.want.Hash] = x
	if coming, known := s.eager[x.want.Hash]; known && x.want.Ranges == nil && x.want.Size <= eagerLimit {
		if !coming {
			x.done = true
			return
		}
		x.owned = true
	}
	s.open++
	if !x.owned {
		s.queue(x, false)
	}
}

// queue makes a need ready to be taken. The caller holds mu.
func (s *schedule) queue(x *need, front bool) {
	if x.queued || x.done {
		return
	}
	x.queued = true
	if front {
		s.first = append(s.first, x)
	} else {
		s.ready = append(s.ready, x)
	}
}

// line puts all that is ready in order. The caller holds mu.
func (s *schedule) line() {
	if len(s.first) == 0 {
		return
	}
	slices.Reverse(s.first)
	s.ready = append(s.first, s.ready...)
	s.first = nil
}

// finish notes that a need is met. The caller holds mu.
func (s *schedule) finish(x *need) {
	if !x.done {
		x.done = true
		s.open--
	}
}

// tryTake gives p work, if there is any for it. The caller holds mu.
func (s *schedule) tryTake(p *provider) *block {
	s.line()
	b := &block{p: p, started: time.Now()}
	budget := p.blockBytes()
	ranges := 0
	kept := s.ready[:0]
	for i, x := range s.ready {
		if budget == 0 || len(b.items) == blockItems || ranges >= blobs.MaxWireRanges || len(b.items) > 0 && b.items[0].req.children != nil {
			kept = append(kept, s.ready[i:]...)
			break
		}
		if x.done || x.refused[p.info.ID] {
			if !x.done {
				kept = append(kept, x)
			} else {
				x.queued = false
			}
			continue
		}
		if x.children != nil && len(b.items) > 0 {
			kept = append(kept, x)
			continue
		}
		it, cost := x.take(budget)
		b.items = append(b.items, it)
		budget -= min(budget, cost)
		ranges += len(it.req.ranges)
		if x.proved && len(x.left) > 0 {
			kept = append(kept, x)
		} else {
			x.queued = false
		}
	}
	clear(s.ready[len(kept):])
	s.ready = kept
	if len(b.items) == 0 {
		return nil
	}
	s.blocks[b] = true
	return b
}

// take makes an item of what is left, of at most about budget bytes.
func (x *need) take(budget uint64) (it *blockItem, cost uint64) {
	it = &blockItem{need: x, req: blobRequest{hash: x.want.Hash}}
	if !x.proved {
		x.asking = true
		it.req.proveSize, it.req.ranges = true, x.left
		if x.children != nil {
			it.req.children, x.children = x.children, nil // once: a second try asks by name
			return it, budget
		}
		limit := uint64(firstRanges)
		if x.want.Size > 0 {
			limit = max(budget/blobs.SegmentSize*blobs.SegmentSize, blobs.SegmentSize)
			cost = min(x.want.Size, limit)
		}
		if x.want.Size == 0 || x.want.Size > limit {
			it.req.ranges = x.left.First(limit)
		}
		return it, max(cost, 256) // an answer is not free, even of nothing
	}
	for _, r := range x.left {
		if n := r.End - r.Start; n > budget-cost {
			cut := (r.Start + budget - cost) / blobs.SegmentSize * blobs.SegmentSize
			if r.End = max(cut, r.Start); cost == 0 {
				r.End = max(r.End, min(r.Start+n, (r.Start/blobs.SegmentSize+1)*blobs.SegmentSize))
			}
		}
		if r.Start == r.End || len(it.req.ranges) == blobs.MaxWireRanges/4 {
			break
		}
		it.req.ranges = append(it.req.ranges, r)
		if cost += r.End - r.Start; cost >= budget {
			break
		}
	}
	x.left = x.left.Without(it.req.ranges)
	return it, max(cost, 1)
}

// take waits until there is work for p. It returns nil when the fetch has ended, when ctx has, or
// at the latest after patience.
func (s *schedule) take(ctx context.Context, p *provider, patience time.Duration) *block {
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		s.mu.Lock()
		if s.ended {
			s.mu.Unlock()
			return nil
		}
		b := s.tryTake(p)
		if b == nil {
			b = s.takeOver(p)
		}
		changed, open := s.changed, s.open
		s.mu.Unlock()
		if b != nil || patience == 0 {
			return b
		}
		var look <-chan time.Time // a block may become slow without any change
		if open > 0 {
			look = time.After(hedgeAfter)
		}
		select {
		case <-changed:
		case <-look:
		case <-deadline.C:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}

// takeOver gives p what another provider still owes, if p would be done with it much sooner. The
// caller holds mu.
func (s *schedule) takeOver(p *provider) *block {
	var slowest *block
	var worst time.Duration
	for b := range s.blocks {
		if b.p == p || b.hedged {
			continue
		}
		if b.items[0].req.children != nil && b.items[0].answered {
			if b.p.idle() > hedgeUnknown || time.Since(b.started) > slowAfter && b.p.rate() < slowRate {
				b.hedged = true
				s.disown()
				return s.tryTake(p)
			}
			continue
		}
		var owed uint64
		can := true
		for _, it := range b.items {
			if it.need.refused[p.info.ID] {
				can = false
				break
			}
			owed += min(it.owed().Count(), maxBlock)
		}
		elapsed := time.Since(b.started)
		mine, theirs := p.rate(), b.p.rate()
		switch {
		case !can || owed == 0 || elapsed < hedgeAfter || mine == 0 && elapsed < hedgeUnknown:
			continue
		case mine > 0 && theirs > 0 && float64(owed)/theirs < 2*float64(owed)/mine+0.1:
			continue
		}
		if elapsed > worst {
			slowest, worst = b, elapsed
		}
	}
	if slowest == nil {
		return nil
	}
	slowest.hedged = true
	b := &block{p: p, started: time.Now()}
	for _, it := range slowest.items {
		owed := it.owed()
		if it.need.done || len(owed) == 0 {
			continue
		}
		again := &blockItem{need: it.need, req: blobRequest{hash: it.req.hash, ranges: owed}}
		if !it.need.proved || it.req.proveSize && it.need.size <= blobs.SegmentSize {
			// The proof of a small blob is stored together with the rest of it, which has not come.
			again.req.ranges, again.req.proveSize = it.req.ranges, true
		}
		b.items = append(b.items, again)
	}
	if len(b.items) == 0 {
		return nil
	}
	s.blocks[b] = true
	return b
}

// setProved notes that the size of a need's blob has been proved, while the answer brings the
// ranges of expect.
func (s *schedule) setProved(it *blockItem, size uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := it.need
	if x.proved {
		return
	}
	all := blobs.Ranges{{Start: 0, End: size}}
	x.proved, x.size, x.asking = true, size, false
	x.missing = x.missing.Intersect(all).Without(lastGroup(size))
	if x.left = nil; size > blobs.SegmentSize {
		x.left = x.missing.Without(it.expect)
	} // of a small blob the proof is stored only with the rest of the answer, after which settle queues what did not come
	if len(x.left) > 0 {
		s.queue(x, true)
	}
	s.notify()
}

// answered notes the end of an item's answer: all of expect has come. refused says that the
// provider did not have all that it was asked for.
func (s *schedule) answered(b *block, it *blockItem, refused bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := it.need
	if refused {
		if x.refused == nil {
			x.refused = map[peer.ID]bool{}
		}
		x.refused[b.p.info.ID] = true
	}
	s.settle(it)
	it.answered = true
	s.cancelNeedless(x)
	if s.open == 0 || x.queued || refused {
		s.notify()
	}
}

// settle takes account of what has come for an item, and queues what has not. The caller holds mu.
func (s *schedule) settle(it *blockItem) {
	x := it.need
	if !x.proved {
		if it.req.proveSize {
			x.asking = false
			s.queue(x, true)
		}
		return
	}
	came := it.received()
	x.missing = x.missing.Without(came)
	if len(x.missing) == 0 {
		s.finish(x)
		return
	}
	if back := it.req.ranges.Intersect(x.missing).Without(s.flying(x, it)); len(back) > 0 {
		x.left = x.left.Union(back)
		s.queue(x, true)
	}
}

// flying returns what other items than it bring of a need. The caller holds mu.
func (s *schedule) flying(x *need, but *blockItem) (out blobs.Ranges) {
	if len(x.missing) == 0 || x.size <= blobs.SegmentSize {
		return nil
	}
	for b := range s.blocks {
		for _, it := range b.items {
			if it.need == x && it != but && !it.answered && !b.cancelled {
				out = out.Union(it.owed())
			}
		}
	}
	return out
}

// cancelNeedless ends blocks that were taken over, and of which nothing is missing any more. The
// caller holds mu.
func (s *schedule) cancelNeedless(x *need) {
	for b := range s.blocks {
		if !b.hedged || b.cancelled {
			continue
		}
		needed := false
		for _, it := range b.items {
			if !it.answered && !it.need.done && (!it.need.proved || len(it.owed().Intersect(it.need.missing)) > 0) {
				needed = true
				break
			}
		}
		if !needed {
			b.cancelled = true
			if b.cancel != nil {
				b.cancel()
			}
		}
	}
}

// giveBack ends a block: what its provider has not given can be taken by others, or again.
func (s *schedule) giveBack(b *block) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.blocks, b)
	for i := len(b.items) - 1; i >= 0; i-- { // from the back, since each goes to the front
		if it := b.items[i]; !it.answered {
			s.settle(it)
			it.answered = true
		}
	}
	s.notify()
}

// hopeless reports whether nothing is under way, and none of the providers can bring anything that
// is still missing.
func (s *schedule) hopeless(alive []*provider) bool {
	if len(s.blocks) > 0 || s.open == 0 {
		return false
	}
	s.line()
	for _, x := range s.ready {
		if x.done {
			continue
		}
		for _, p := range alive {
			if !x.refused[p.info.ID] {
				return false
			}
		}
	}
	return true
}

// Children of a sequence that is asked for as a whole: as many of the first ones as are small come
// at once, without being asked for by their hashes, which the requester does not know yet.
const (
	eagerChildren = 1 << 16
	eagerLimit    = 64<<10 - 1 // less than the shortest chunk of a file
	eagerBudget   = 64 << 20
)

func eagerRequest() *childRequest {
	return &childRequest{count: eagerChildren, limit: eagerLimit, budget: eagerBudget, ranges: blobs.Everything}
}

// expectChildren notes that children come unasked. Those that are there already are left out.
func (s *schedule) expectChildren(hashes []blobs.Hash, have []bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, h := range hashes {
		if !have[i] {
			s.eager[h] = true
		}
	}
}

// childCame notes that such a child has come, or will not.
func (s *schedule) childCame(h blobs.Hash, came bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.eager[h] {
		return
	}
	if came {
		s.eager[h] = false
	} else {
		delete(s.eager, h)
	}
	if x := s.needs[h]; x != nil && x.owned {
		x.owned = false
		if came {
			s.finish(x)
		} else {
			s.queue(x, false)
		}
		if s.open == 0 || !came {
			s.notify()
		}
	}
}

// childrenEnded releases all children that have not come.
func (s *schedule) childrenEnded() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.disown()
	s.notify()
}

// disown releases the children that are still to come. The caller holds mu.
func (s *schedule) disown() {
	for h, coming := range s.eager {
		if !coming {
			continue
		}
		delete(s.eager, h)
		if x := s.needs[h]; x != nil && x.owned {
			x.owned = false
			s.queue(x, false)
		}
	}
}
