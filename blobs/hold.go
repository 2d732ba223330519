package blobs

import (
	"context"
	"encoding/binary"
	"maps"
	"sync"
)

// A blob that somebody has just stored, or found to be there, is not kept by anything yet: the pin
// or the entry comes after. Until it is there, a hold keeps the blob from Collect.

// touches notes what is in use right now, by the first 8 bytes of hashes: that two agree in them
// only keeps one of them longer.
type touches struct {
	mu         sync.Mutex
	collecting map[uint64]struct{} // touched since Collect began; nil unless it runs
	sequences  map[Hash]struct{}   // held with their children when Collect began
	holds      map[*hold]struct{}
}

type hold struct {
	keys      map[uint64]struct{}
	sequences map[Hash]struct{} // of which the children are held, too
}

type holdKey struct{}

func shortKey(h Hash) uint64 { return binary.BigEndian.Uint64(h[:8]) }

// Hold returns a context, and a function to be called once. What store methods that are given the
// context store, find stored, or open to be read in between is not collected before that call. Of
// content in several blobs, those that are read later are to be touched first.
func (s *Store) Hold(ctx context.Context) (context.Context, func()) {
	t := &s.touches
	if held, _ := ctx.Value(holdKey{}).(*hold); held != nil {
		return ctx, func() {} // held already
	}
	h := &hold{map[uint64]struct{}{}, map[Hash]struct{}{}}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.holds == nil {
		t.holds = map[*hold]struct{}{}
	}
	t.holds[h] = struct{}{}
	return context.WithValue(ctx, holdKey{}, h), func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.holds, h)
		if t.collecting != nil { // what keeps the blobs now may have come after Collect looked
			for k := range h.keys {
				t.collecting[k] = struct{}{}
			}
		}
	}
}

// Touch marks h as in use: under the hold of ctx, and for a Collect that is running.
func (s *Store) Touch(ctx context.Context, h Hash) {
	t := &s.touches
	held, _ := ctx.Value(holdKey{}).(*hold)
	t.mu.Lock()
	defer t.mu.Unlock()
	if held != nil {
		held.keys[shortKey(h)] = struct{}{}
	}
	if t.collecting != nil {
		t.collecting[shortKey(h)] = struct{}{}
	}
}

// TouchSequence marks the sequence h and its children as in use likewise. Under a hold, it is the
// sequence that is remembered, of which the children can be many; a Collect that is running is told
// of each.
func (s *Store) TouchSequence(ctx context.Context, h Hash) error {
	s.Touch(ctx, h)
	t := &s.touches
	t.mu.Lock()
	if held, _ := ctx.Value(holdKey{}).(*hold); held != nil {
		held.sequences[h] = struct{}{}
	}
	running := t.collecting != nil
	t.mu.Unlock()
	if !running {
		return nil
	}
	ctx = unheld(ctx)
	return s.EachChild(ctx, h, func(child Hash) error {
		s.Touch(ctx, child)
		return nil
	})
}

// touchRead marks h as in use under the hold of ctx, if there is one: what is read there is not
// collected.
func (s *Store) touchRead(ctx context.Context, h Hash) {
	if held, _ := ctx.Value(holdKey{}).(*hold); held != nil {
		s.Touch(ctx, h)
	}
}

// unheld is ctx without a hold, for what reads everything.
func unheld(ctx context.Context) context.Context {
	return context.WithValue(ctx, holdKey{}, (*hold)(nil))
}

func (t *touches) begin() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.collecting, t.sequences = map[uint64]struct{}{}, map[Hash]struct{}{}
	for h := range t.holds {
		maps.Copy(t.sequences, h.sequences)
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
