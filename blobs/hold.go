package blobs

import (
	"context"
	"encoding/binary"
	"sync"
)

// A blob that somebody has just stored, or found to be there, is not kept by anything yet: the pin
// or the entry comes after. Until it is there, a hold keeps the blob from Collect.

// touches notes what is in use right now, by the first 8 bytes of hashes: that two agree in them
// only keeps one of them longer.
type touches struct {
	mu         sync.Mutex
	collecting map[uint64]struct{} // touched since Collect began; nil unless it runs
	sequences  map[Hash]Ranges     // numbers of the children that were held when Collect began
	holds      map[*hold]struct{}
}

// hold is what one holder keeps. touches.mu guards it.
type hold struct {
	store     Store // through which things are held
	released  bool  // for ever: it keeps nothing any more
	keys      map[uint64]struct{}
	sequences map[Hash]Ranges // of which children are held, too, by their numbers
}

func (h *hold) add(key uint64) {
	if h.keys == nil {
		h.keys = map[uint64]struct{}{}
	}
	h.keys[key] = struct{}{}
}

func shortKey(h Hash) uint64 { return binary.BigEndian.Uint64(h[:8]) }

// Hold returns the same store once more, and a function to be called once. What methods of held
// store, find stored, or open to be read is not collected before that call; afterwards held keeps
// nothing. Of content in several blobs, those that are read later are to be touched first. A store
// that holds already returns itself and a function that does nothing: the hold lasts as long as
// whoever began it says.
func (s *Store) Hold() (held *Store, release func()) {
	t := &s.touches
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.holds() {
		return s, func() {}
	}
	h := new(hold)
	h.store = Store{s.shared, h}
	if t.holds == nil {
		t.holds = map[*hold]struct{}{}
	}
	t.holds[h] = struct{}{}
	return &h.store, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.holds, h)
		h.released = true
		if t.collecting != nil { // what keeps the blobs now may have come after Collect looked
			for k := range h.keys {
				t.collecting[k] = struct{}{}
			}
		}
		h.keys, h.sequences = nil, nil // whoever still has the store needs them no more
	}
}

// holds reports whether the store has a hold that lasts. The caller holds touches.mu.
func (s *Store) holds() bool { return s.hold != nil && !s.hold.released }

// bare is the store without a hold, for what reads everything.
func (s *Store) bare() *Store {
	if s.hold == nil {
		return s
	}
	return &Store{shared: s.shared}
}

// Touch marks h as in use: under the store's hold, if it has one, and for a Collect that is
// running.
func (s *Store) Touch(h Hash) {
	t := &s.touches
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.holds() {
		s.hold.add(shortKey(h))
	}
	if t.collecting != nil {
		t.collecting[shortKey(h)] = struct{}{}
	}
}

// TouchSequence marks the sequence h and its children as in use likewise. Under a hold, it is the
// sequence that is remembered, of which the children can be many; a Collect that is running is told
// of each.
func (s *Store) TouchSequence(ctx context.Context, h Hash) error {
	return s.TouchChildren(ctx, h, 0, MaxChildren)
}

// TouchChildren marks the sequence h and count of its children, from number first on, likewise.
// What it costs is in proportion to count, however many children there are.
func (s *Store) TouchChildren(ctx context.Context, h Hash, first, count uint64) error {
	s.Touch(h)
	first = min(first, MaxChildren)
	part := NewRanges(Range{first, first + min(count, MaxChildren)})
	t := &s.touches
	t.mu.Lock()
	if s.holds() {
		if s.hold.sequences == nil {
			s.hold.sequences = map[Hash]Ranges{}
		}
		s.hold.sequences[h] = s.hold.sequences[h].Union(part)
	}
	running := t.collecting != nil
	t.mu.Unlock()
	if !running {
		return nil
	}
	all := s.bare()
	return all.eachChildOf(ctx, h, part, func(child Hash) error {
		all.Touch(child)
		return nil
	})
}

// touchRead marks h as in use if the store holds what is read.
func (s *Store) touchRead(h Hash) {
	if s.hold != nil {
		s.Touch(h)
	}
}

func (t *touches) begin() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.collecting, t.sequences = map[uint64]struct{}{}, map[Hash]Ranges{}
	for held := range t.holds {
		for h, part := range held.sequences {
			t.sequences[h] = append(t.sequences[h], part...)
		}
	}
	// Many may hold parts of one sequence that overlap: each child is looked at once.
	for h, parts := range t.sequences {
		t.sequences[h] = NewRanges(parts...)
	}
}

func (t *touches) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.collecting, t.sequences = nil, nil
}

// inUse reports whether h has been touched. The caller holds mu.
func (t *touches) inUse(h Hash) bool {
	k := shortKey(h)
	if _, ok := t.collecting[k]; ok {
		return true
	}
	for held := range t.holds {
		if _, ok := held.keys[k]; ok {
			return true
		}
	}
	return false
}
