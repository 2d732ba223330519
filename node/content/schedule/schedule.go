// Package schedule says who asks which provider for what during a fetch.
//
// Providers take blocks of work, as large as they have shown to be fast; what they do not give goes
// back. When nothing is left to take, a fast provider takes over what a slow one still owes. A
// fetch may be for one of the providers, its lead: a [State] says when that has no more to give.
//
// What belongs here: which parts of which blobs are wanted, under way, missing or given up, and how
// fast providers are. What never belongs here: streams, the store, or what is done with a provider
// that fails. A [Schedule] has one lock, which nobody else takes, and calls nothing under it but
// its clock and the function given to OnCancel.
//
// Start at [Schedule].
package schedule

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/node/content/wire"
)

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
)

// Want names a blob to fetch.
type Want struct {
	Hash blobs.Hash
	Size uint64 // as whoever names the blob claims; 0 if unknown
	// Chunked says that Size is that of content which may be in chunks; then Hash is that of their
	// sequence, and of another size.
	Chunked bool
	Ranges  blobs.Ranges // bytes; nil is all
	Most    uint64       // if not 0, the largest size in bytes that is fetched
}

// Need is what is missing of a wanted blob.
type Need struct {
	Want    Want
	Proved  bool         // the store knows the size
	Size    uint64       // if proved
	Missing blobs.Ranges // if not proved, all that is wanted
	// Children is how the children of a sequence are asked for together with it; nil if it is asked
	// for by itself.
	Children *wire.Children
}

// need is a Need that is being met.
type need struct {
	Need
	also    []Want       // further claims about the same blob
	left    blobs.Ranges // to be asked for; if not proved, all that is wanted
	queued  bool
	done    bool
	owned   bool // the children that come unasked bring it
	refused map[peer.ID]bool
}

// Block is work that one provider has taken.
type Block struct {
	Items []*Item

	from      *Source
	over      *Block // what it has taken over
	started   time.Time
	hedged    bool // somebody else has taken it over
	cancelled bool // nothing of it is missing any more
	cancel    func()
}

// withChildren reports whether the block asks for a sequence together with its children.
func (b *Block) withChildren() bool {
	return len(b.Items) > 0 && b.Items[0].Request.Children != nil
}

// Item is one item of a request. Its fields do not change.
type Item struct {
	Want    Want
	Request wire.Request

	need     *need
	expect   blobs.Ranges // what follows in the answer, once that is known
	got      uint64       // bytes of expect that have come
	answered bool
}

// received returns the part of expect that has come: streams are in ascending order.
func (it *Item) received() blobs.Ranges {
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

// brings returns what comes in the item's answer, as far as that is known.
func (it *Item) brings() blobs.Ranges {
	if it.expect == nil {
		return it.Request.Ranges
	}
	return it.expect
}

// owed returns what of the item's need has not come.
func (it *Item) owed() blobs.Ranges {
	if it.answered {
		return nil
	}
	return it.brings().Without(it.received())
}

// Schedule is that of one fetch after the other. Its methods may be called at the same time from
// many goroutines.
type Schedule struct {
	now func() time.Time

	mu      sync.Mutex
	changed chan struct{} // closed at every change
	needs   map[blobs.Hash]*need
	ready   []*need // something is left to ask for
	first   []*need // likewise, and before the others; the last one is the very first
	open    int     // needs that are not done
	blocks  map[*Block]bool
	eager   map[blobs.Hash]bool // children that come unasked: whether they are still to come
	ended   bool
	// lead is the provider for which the fetch is, or nil: without it, there is nothing to go on for.
	lead *Source
	// lacks is what the lead does not have, or could not give when it was asked for it.
	lacks map[blobs.Hash]bool
}

// New returns an empty schedule. now is the clock by which providers are judged.
func New(now func() time.Time) *Schedule {
	return &Schedule{
		now: now, changed: make(chan struct{}), needs: map[blobs.Hash]*need{},
		blocks: map[*Block]bool{}, eager: map[blobs.Hash]bool{}, lacks: map[blobs.Hash]bool{},
	}
}

// Lead makes p the provider for which the fetch is.
func (s *Schedule) Lead(p *Source) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lead = p
}

// LeadLacks reports whether the lead was asked for a blob and did not have all that it was asked
// for, or could not give it.
func (s *Schedule) LeadLacks(h blobs.Hash) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lacks[h]
}

// notify wakes all who wait for a change. The caller holds mu.
func (s *Schedule) notify() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// Notify wakes all who wait for a change.
func (s *Schedule) Notify() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notify()
}

// Changed returns a channel that is closed at the next change: who then looks at anything, and
// waits for the channel, misses nothing.
func (s *Schedule) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// End wakes everybody up for the last time.
func (s *Schedule) End() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	s.notify()
}

// Ended reports whether End has been called.
func (s *Schedule) Ended() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}

// Begin takes what is to be fetched now, in place of what was before, and returns how many blobs
// are to come. Of several needs for one blob, the first one counts, and all claims are kept.
func (s *Schedule) Begin(needs []Need) (open int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range s.needs { // of a fetch that ended before
		s.finish(x)
	}
	clear(s.needs)
	s.ready, s.first = nil, nil
	for i := range needs {
		s.add(&needs[i])
	}
	s.notify()
	return s.open
}

// add takes a need. The caller holds mu.
func (s *Schedule) add(asked *Need) {
	w := asked.Want
	if old := s.needs[w.Hash]; old != nil && !old.done {
		if o := old.Want; w.Size != o.Size || w.Chunked != o.Chunked || w.Most != o.Most {
			old.also = append(old.also, w)
		}
		return
	}
	x := &need{Need: *asked, left: asked.Missing}
	s.needs[w.Hash] = x
	coming, known := s.eager[w.Hash]
	if known && w.Ranges == nil && w.Size <= eagerLimit {
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
func (s *Schedule) queue(x *need, front bool) {
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
func (s *Schedule) line() {
	if len(s.first) == 0 {
		return
	}
	slices.Reverse(s.first)
	s.ready = append(s.first, s.ready...)
	s.first = nil
}

// finish notes that a need is met. The caller holds mu.
func (s *Schedule) finish(x *need) {
	if !x.done {
		x.done = true
		s.open--
	}
}

// Take waits until there is work for p. It returns nil when the fetch has ended, when ctx has, or
// at the latest after patience.
func (s *Schedule) Take(ctx context.Context, p *Source, patience time.Duration) *Block {
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		b, changed, open := s.take(p)
		if b != nil || changed == nil || patience == 0 {
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

// take gives p work if there is any. changed is nil if there will be none.
func (s *Schedule) take(p *Source) (b *Block, changed <-chan struct{}, open int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return nil, nil, 0
	}
	if b = s.takeReady(p); b == nil {
		b = s.takeOver(p)
	}
	return b, s.changed, s.open
}

// takeReady gives p of what is ready. The caller holds mu.
func (s *Schedule) takeReady(p *Source) *Block {
	s.line()
	b := &Block{from: p, started: s.now()}
	budget := p.blockBytes()
	ranges := 0
	kept := s.ready[:0]
	for i, x := range s.ready {
		if budget == 0 || len(b.Items) == blockItems || ranges >= blobs.MaxWireRanges ||
			b.withChildren() {
			kept = append(kept, s.ready[i:]...)
			break
		}
		if x.done || x.refused[p.id] {
			if !x.done {
				kept = append(kept, x)
			} else {
				x.queued = false
			}
			continue
		}
		if x.Children != nil && len(b.Items) > 0 {
			kept = append(kept, x)
			continue
		}
		it, cost := x.take(budget)
		b.Items = append(b.Items, it)
		budget -= min(budget, cost)
		ranges += len(it.Request.Ranges)
		if x.Proved && len(x.left) > 0 {
			kept = append(kept, x)
		} else {
			x.queued = false
		}
	}
	clear(s.ready[len(kept):])
	s.ready = kept
	if len(b.Items) == 0 {
		return nil
	}
	s.blocks[b] = true
	return b
}

// take makes an item of what is left, of at most about budget bytes.
func (x *need) take(budget uint64) (it *Item, cost uint64) {
	it = &Item{Want: x.Want, need: x, Request: wire.Request{Hash: x.Want.Hash}}
	q := &it.Request
	if !x.Proved {
		q.ProveSize, q.Ranges = true, x.left
		if x.Children != nil {
			q.Children, x.Children = x.Children, nil // once: a second try asks by name
			return it, budget
		}
		limit := uint64(firstRanges)
		if x.Want.Size > 0 {
			limit = max(budget/blobs.SegmentSize*blobs.SegmentSize, blobs.SegmentSize)
			cost = min(x.Want.Size, limit)
		}
		if x.Want.Size == 0 || x.Want.Size > limit {
			q.Ranges = x.left.First(limit)
		}
		return it, max(cost, 256) // an answer is not free, even of nothing
	}
	for _, r := range x.left {
		if n := r.End - r.Start; n > budget-cost {
			cut := (r.Start + budget - cost) / blobs.SegmentSize * blobs.SegmentSize
			if r.End = max(cut, r.Start); cost == 0 {
				segment := (r.Start/blobs.SegmentSize + 1) * blobs.SegmentSize
				r.End = max(r.End, min(r.Start+n, segment))
			}
		}
		if r.Start == r.End || len(q.Ranges) == blobs.MaxWireRanges/4 {
			break
		}
		q.Ranges = append(q.Ranges, r)
		if cost += r.End - r.Start; cost >= budget {
			break
		}
	}
	x.left = x.left.Without(q.Ranges)
	return it, max(cost, 1)
}

// State is how a fetch stands.
type State struct {
	Open  int  // blobs that are to come
	Ended bool // nothing more comes
	// Hopeless says that nothing is under way, and that nobody who is asked can bring anything that
	// is still missing.
	Hopeless bool
	// Exhausted says that the lead is asked for nothing, and has none of what is still missing.
	Exhausted bool
}

// State tells how the fetch stands while these providers are asked.
func (s *Schedule) State(asked []*Source) State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return State{s.open, s.ended, s.hopeless(asked), s.exhausted()}
}

func (s *Schedule) hopeless(asked []*Source) bool {
	if len(s.blocks) > 0 || s.open == 0 {
		return false
	}
	s.line()
	for _, x := range s.ready {
		if x.done {
			continue
		}
		for _, p := range asked {
			if !x.refused[p.id] {
				return false
			}
		}
	}
	return true
}

// exhausted tells State.Exhausted. What others have of the rest is left to fetches for them: one
// that gives it slowly would keep the lead from being asked for what is wanted next. The caller
// holds mu.
func (s *Schedule) exhausted() bool {
	if s.lead == nil || s.open == 0 {
		return false
	}
	for b := range s.blocks {
		if b.from == s.lead {
			return false
		}
	}
	for _, x := range s.needs {
		if !x.done && !x.refused[s.lead.id] {
			return false
		}
	}
	return true
}

// GiveUp takes off the schedule what nobody has taken, and returns it.
func (s *Schedule) GiveUp() (missing []blobs.Hash) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.line()
	for _, x := range s.ready {
		if x.done {
			continue
		}
		missing = append(missing, x.Want.Hash)
		s.finish(x)
		delete(s.needs, x.Want.Hash)
	}
	s.ready = nil
	return missing
}
