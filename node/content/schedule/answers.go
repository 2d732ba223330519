package schedule

import (
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/node/content/wire"
)

// OnCancel has end called, once, when nothing of a block is missing any more, so that the rest of
// the answer need not come. It must not wait, nor use the schedule.
func (s *Schedule) OnCancel(b *Block, end func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b.cancel = end; b.cancelled {
		end()
	}
}

// Claims returns all claims about the blob of an item beside that of its Want.
func (s *Schedule) Claims(it *Item) []Want {
	s.mu.Lock()
	defer s.mu.Unlock()
	return it.need.also
}

// Expect notes which ranges follow in the answer of an item, beside the proof of the size. It
// returns the size of the blob if that has been proved.
func (s *Schedule) Expect(it *Item, ranges blobs.Ranges) (size uint64, proved bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if it.expect = ranges; ranges == nil {
		it.expect = blobs.Ranges{}
	}
	return it.need.Size, it.need.Proved
}

// Got notes that n bytes of what was expected have come and been verified.
func (s *Schedule) Got(it *Item, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	it.got += uint64(n)
}

// Prove notes that the size of an item's blob has been proved, while the answer brings the ranges
// that are expected.
func (s *Schedule) Prove(it *Item, size uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := it.need
	if x.Proved {
		return
	}
	all := blobs.Ranges{{Start: 0, End: size}}
	x.Proved, x.Size = true, size
	x.Missing = x.Missing.Intersect(all).Without(wire.LastGroup(size))
	// Of a small blob the proof is stored only with the rest of the answer, after which settle queues
	// what did not come.
	if x.left = nil; size > blobs.SegmentSize {
		x.left = x.Missing.Without(it.expect)
	}
	if len(x.left) > 0 {
		s.queue(x, true)
	}
	s.notify()
}

// Drop takes the blob of an item off the schedule: all claims about it have turned out to be wrong,
// or it cannot be stored.
func (s *Schedule) Drop(it *Item) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.finish(it.need)
	s.notify()
}

// Answered notes the end of an item's answer: all that was expected has come. refused says that the
// provider did not have all that it was asked for.
func (s *Schedule) Answered(b *Block, it *Item, refused bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := it.need
	if refused {
		s.refuse(x, b.from)
	}
	s.settle(it)
	it.answered = true
	s.cancelNeedless()
	if s.open == 0 || x.queued || refused {
		s.notify()
	}
}

// Refuse notes that p is not to be asked for the blob of an item again: it could not give it.
func (s *Schedule) Refuse(it *Item, p *Source) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse(it.need, p)
	s.notify()
}

// refuse notes that p is not to be asked for a need again. The caller holds mu.
func (s *Schedule) refuse(x *need, p *Source) {
	if x.refused == nil {
		x.refused = map[peer.ID]bool{}
	}
	x.refused[p.id] = true
	if p == s.lead {
		s.lacks[x.Want.Hash] = true
	}
}

// settle takes account of what has come for an item, and queues what has not. The caller holds mu.
func (s *Schedule) settle(it *Item) {
	x := it.need
	if !x.Proved {
		if it.Request.ProveSize {
			s.queue(x, true)
		}
		return
	}
	x.Missing = x.Missing.Without(it.received())
	if len(x.Missing) == 0 {
		s.finish(x)
		return
	}
	back := it.Request.Ranges.Intersect(x.Missing).Without(s.flying(x, it))
	if len(back) > 0 {
		x.left = x.left.Union(back)
		s.queue(x, true)
	}
}

// flying returns what other items than it bring of a need, or have brought: what has come of an
// item is taken account of only when its answer ends. The caller holds mu.
func (s *Schedule) flying(x *need, but *Item) (out blobs.Ranges) {
	if len(x.Missing) == 0 || x.Size <= blobs.SegmentSize {
		return nil
	}
	for b := range s.blocks {
		for _, it := range b.Items {
			switch {
			case it.need != x || it == but || it.answered:
			case b.cancelled:
				out = out.Union(it.received())
			default:
				out = out.Union(it.brings())
			}
		}
	}
	return out
}

// GiveBack ends a block: what its provider has not given can be taken by others, or again. It
// reports whether the block was cancelled.
func (s *Schedule) GiveBack(b *Block) (cancelled bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.blocks, b)
	if b.over != nil && !b.over.cancelled {
		b.over.hedged = false // what this one has not brought may be taken over once more
	}
	for i := len(b.Items) - 1; i >= 0; i-- { // from the back, since each goes to the front
		if it := b.Items[i]; !it.answered {
			s.settle(it)
			it.answered = true
		}
	}
	s.notify()
	return b.cancelled
}
