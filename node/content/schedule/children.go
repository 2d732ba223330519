package schedule

import (
	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/node/content/wire"
)

// Children of a sequence that is asked for as a whole: as many of the first ones as are small come
// at once, without being asked for by their hashes, which the requester does not know yet.
const (
	eagerChildren = 1 << 16
	eagerLimit    = 64<<10 - 1 // less than the shortest chunk of a file
	eagerBudget   = 64 << 20
)

// SmallChildren asks for the small children of a sequence.
func SmallChildren() *wire.Children {
	return &wire.Children{
		Count: eagerChildren, Limit: eagerLimit, Budget: eagerBudget, Ranges: blobs.Everything,
	}
}

// ExpectChildren notes that the children of a sequence follow on an item, if they are those of
// SmallChildren. Those that are here already are left out.
func (s *Schedule) ExpectChildren(it *Item, hashes []blobs.Hash, here []bool) {
	if it.Request.Children.Limit != eagerLimit {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, h := range hashes {
		if !here[i] {
			s.eager[h] = true
		}
	}
}

// ChildCame notes that such a child has come, or will not.
func (s *Schedule) ChildCame(h blobs.Hash, came bool) {
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

// ChildrenEnded releases all children that have not come.
func (s *Schedule) ChildrenEnded() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.disown()
	s.notify()
}

// disown releases the children that are still to come. The caller holds mu.
func (s *Schedule) disown() {
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

// ChildrenComing reports whether children of a sequence are on their way.
func (s *Schedule) ChildrenComing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for b := range s.blocks {
		if b.withChildren() {
			return true
		}
	}
	return false
}
