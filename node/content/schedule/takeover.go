package schedule

import (
	"time"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/node/content/wire"
)

const (
	hedgeAfter   = 300 * time.Millisecond
	hedgeUnknown = time.Second // likewise, if it is not known how fast the taker is
	// slowAfter is after what time all children that come unasked are asked of others, too, if the
	// provider is slower than slowRate, in bytes a second. It could send a tiny one now and then.
	slowAfter = 5 * time.Second
	slowRate  = 64 << 10
)

// takeOver gives p what another provider still owes, if p would be done with it much sooner. The
// caller holds mu.
func (s *Schedule) takeOver(p *Source) *Block {
	var slowest *Block
	var worst time.Duration
	now := s.now()
	for b := range s.blocks {
		if b.from == p || b.hedged || b.cancelled {
			continue
		}
		elapsed := now.Sub(b.started)
		if b.withChildren() && b.Items[0].answered {
			if b.from.idle() > hedgeUnknown || elapsed > slowAfter && b.from.rate() < slowRate {
				b.hedged = true
				s.disown()
				return s.takeReady(p)
			}
			continue
		}
		if elapsed > worst && b.slowFor(p, elapsed) {
			slowest, worst = b, elapsed
		}
	}
	if slowest == nil {
		return nil
	}
	b := &Block{from: p, over: slowest, started: now, Items: slowest.again()}
	if slowest.hedged = true; len(b.Items) == 0 {
		return nil
	}
	s.blocks[b] = true
	return b
}

// slowFor reports whether p may have what the block still brings, and much sooner.
func (b *Block) slowFor(p *Source, elapsed time.Duration) bool {
	var owed uint64
	for _, it := range b.Items {
		if it.need.refused[p.id] {
			return false
		}
		owed += min(it.owed().Count(), maxBlock)
	}
	mine, theirs := p.rate(), b.from.rate()
	switch {
	case owed == 0 || elapsed < hedgeAfter || mine == 0 && elapsed < hedgeUnknown:
		return false
	case mine > 0 && theirs > 0 && float64(owed)/theirs < 2*float64(owed)/mine+0.1:
		return false
	}
	return true
}

// again returns the items of another request for what the block still owes.
func (b *Block) again() (items []*Item) {
	for _, it := range b.Items {
		owed := it.owed()
		if it.need.done || len(owed) == 0 {
			continue
		}
		q := wire.Request{Hash: it.Request.Hash, Ranges: owed}
		if !it.need.Proved || it.Request.ProveSize && it.need.Size <= blobs.SegmentSize {
			// The proof of a small blob is stored together with the rest of it, which has not come.
			q.Ranges, q.ProveSize = it.Request.Ranges, true
		}
		items = append(items, &Item{Want: it.Want, need: it.need, Request: q})
	}
	return items
}

// cancelNeedless ends blocks that were taken over, and of which nothing is missing any more. The
// caller holds mu.
func (s *Schedule) cancelNeedless() {
	for b := range s.blocks {
		if b.hedged && !b.cancelled && !b.needed() {
			b.cancelled = true
			if b.cancel != nil {
				b.cancel()
			}
		}
	}
}

// needed reports whether the block may still bring something that is missing.
func (b *Block) needed() bool {
	for _, it := range b.Items {
		if it.answered || it.need.done {
			continue
		}
		if !it.need.Proved || len(it.owed().Intersect(it.need.Missing)) > 0 {
			return true
		}
	}
	return false
}
