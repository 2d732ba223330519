package blobs

import (
	"context"
	"errors"
	"hash/maphash"
	"slices"

	"github.com/skerry-sync/skerry/kv"
)

// Marks says which of the stored blobs a collection keeps. It takes 9 bytes of memory for each blob
// that was stored when the collection began, whatever is marked, and however often. Hashes of blobs
// that are not stored are passed over.
type Marks struct {
	s        *Store
	ctx      context.Context
	progress func(CollectProgress)
	seed     maphash.Seed
	keys     []uint64 // of all blobs, sorted; no two are the same
	live     bitmap
	looked   bitmap // the caller has been told of it
	opened   bitmap // its children are marked
	count    int
}

type bitmap []uint64

// set and has take the place of a blob, which is negative if it is not stored.
func (b bitmap) set(i int) {
	if i >= 0 {
		b[i/64] |= 1 << (i % 64)
	}
}

func (b bitmap) has(i int) bool { return i >= 0 && b[i/64]>>(i%64)&1 == 1 }

func (s *Store) newMarks(ctx context.Context, progress func(CollectProgress)) (*Marks, error) {
	m := &Marks{s: s, ctx: ctx, progress: progress}
	// The seed is secret, so nobody can prepare hashes whose keys are the same; by chance, it happens
	// once in a million collections of ten million blobs. Then another seed is taken.
	for distinct := false; !distinct; {
		m.seed, m.keys = maphash.MakeSeed(), m.keys[:0]
		err := s.kv.View(ctx, func(r kv.Reader) error {
			for p, err := range r.Scan(kv.Prefix([]byte(keyRecord)), kv.ScanOptions{KeysOnly: true}) {
				if err != nil {
					return err
				}
				m.keys = append(m.keys, maphash.Bytes(m.seed, p.Key[len(keyRecord):]))
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		slices.Sort(m.keys)
		n := len(m.keys)
		m.keys = slices.Compact(m.keys)
		distinct = len(m.keys) == n
	}
	words := len(m.keys)/64 + 1
	m.live, m.looked, m.opened = make(bitmap, words), make(bitmap, words), make(bitmap, words)
	return m, nil
}

// find returns the place of a blob, or -1.
func (m *Marks) find(h Hash) int {
	i, found := slices.BinarySearch(m.keys, maphash.Bytes(m.seed, h[:]))
	if !found {
		return -1
	}
	return i
}

// Keep marks the blob h. It reports whether h is stored and Keep is called with it for the first
// time, so that a caller looks at each blob once.
func (m *Marks) Keep(h Hash) (first bool) {
	i := m.find(h)
	if i < 0 {
		return false
	}
	m.live.set(i)
	first = !m.looked.has(i)
	m.looked.set(i)
	if m.count++; m.count%4096 == 0 {
		m.progress(CollectProgress{Doing: "marking", Blobs: m.count})
	}
	return first
}

// Mark marks the blob h alone. It does not count as being looked at.
func (m *Marks) Mark(h Hash) { m.live.set(m.find(h)) }

// Children marks the children of the sequence h. It reads each sequence once. If what the store has
// of it is damaged, it returns a *DamageError: nobody knows then which blobs to keep.
func (m *Marks) Children(h Hash) error {
	i := m.find(h)
	if i < 0 || m.opened.has(i) {
		return nil
	}
	m.opened.set(i)
	var damaged *DamageError
	err := m.s.Check(m.ctx, h, Everything)
	if errors.As(err, &damaged) {
		// A file of the user's that has changed is another thing: it is no list of the store's.
		if info, err := m.s.Stat(m.ctx, h); err != nil || info.Reference == "" {
			return errors.Join(damaged, err)
		}
	} else if err != nil && !errors.Is(err, ErrNotFound) {
		if _, away := errors.AsType[*ReferenceError](err); !away {
			return err
		}
	}
	return m.s.EachChild(m.ctx, h, func(child Hash) error {
		m.live.set(m.find(child))
		return nil
	})
}
