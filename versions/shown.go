package versions

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/skerry-sync/skerry/versions/plan"
	"github.com/skerry-sync/skerry/versions/record"
)

// Shown says what an item showed at some time: which versions an edit follows on that somebody made
// who saw that. The zero value is for nothing.
type Shown struct {
	basis []*plan.Version // without entries: what these held may be gone
	hash  record.Hash
}

// Shown returns what the item shows now.
func (i *Item) Shown() Shown {
	s := Shown{hash: i.Looked().Hash}
	for _, v := range i.Basis {
		s.basis = append(s.basis, &plan.Version{Record: v.Record, Author: v.Author, Time: v.Time})
	}
	return s
}

// ShownWith returns what somebody has seen of the item who has seen one content of it, by its hash;
// zero is for a deletion. ok is false if no version that is here has it.
func (i *Item) ShownWith(hash record.Hash) (s Shown, ok bool) {
	for _, from := range [][]*plan.Version{i.Heads, i.all} {
		for _, v := range from {
			if v.Content.Hash == hash {
				s.basis = append(s.basis,
					&plan.Version{Record: v.Record, Author: v.Author, Time: v.Time})
			}
		}
		if len(s.basis) > 0 {
			s.hash = hash
			return s, true
		}
	}
	return s, false
}

// HasAncestor reports whether a content is that of a version which a head of the item supersedes,
// and whether it is that of the newest of these.
func (i *Item) HasAncestor(hash record.Hash) (is, newest bool) {
	for _, v := range i.Heads {
		at := slices.IndexFunc(v.Ancestors, func(a record.Ancestor) bool {
			return a.Hash == hash.Short()
		})
		is, newest = is || at >= 0, newest || at == 0
	}
	return is, newest
}

// Missed reports whether a content is that of a version which a head of the item supersedes and
// which was not shown then; zero is for a deletion. Who has that content has seen more than x
// says. Of what showed nothing, it says nothing.
func (x *Shown) Missed(i *Item, hash record.Hash) bool {
	if len(x.basis) == 0 {
		return false
	}
	vector := plan.Vector(x.basis)
	return slices.ContainsFunc(i.Heads, func(v *plan.Version) bool {
		return slices.ContainsFunc(v.Ancestors, func(a record.Ancestor) bool {
			return a.Hash == hash.Short() && !vector.Covers(a.Dot)
		})
	})
}

// HashOf returns the hash of a content in the replica.
func (s *Set) HashOf(content []byte) record.Hash { return s.hashes.Of(content) }

// Hash returns the hash of the content; zero if the item was not there.
func (x *Shown) Hash() record.Hash { return x.hash }

// Looked returns what to give to Read after this was shown.
func (x *Shown) Looked(waited bool) Looked {
	return Looked{Applied: plan.Vector(x.basis), Hash: x.hash, Waited: waited}
}

// Covers reports whether an item shows nothing that was not shown then: its heads are among what
// was shown, or older.
func (x *Shown) Covers(i *Item) bool {
	vector := plan.Vector(x.basis)
	return !slices.ContainsFunc(i.Heads, func(v *plan.Version) bool { return !vector.Covers(v.Dot) })
}

const shownVersion = 1

// Append appends the bytes of what was shown:
//
//	version  u8 = 1
//	hash     32 bytes
//	count    unsigned varint: of the versions; each:
//	         author[32], time u64 µs, big-endian, length unsigned varint, record (package record)
func (x *Shown) Append(b []byte) ([]byte, error) {
	b = append(append(b, shownVersion), x.hash[:]...)
	b = binary.AppendUvarint(b, uint64(len(x.basis)))
	for _, v := range x.basis {
		r, err := v.Record.Append(nil)
		if err != nil {
			return nil, err
		}
		b = binary.BigEndian.AppendUint64(append(b, v.Author[:]...), v.Time)
		b = append(binary.AppendUvarint(b, uint64(len(r))), r...)
	}
	return b, nil
}

// ParseShown reads what Append wrote. It returns record.ErrMalformed.
func ParseShown(b []byte) (x Shown, err error) {
	bad := func(what string) (Shown, error) {
		return Shown{}, fmt.Errorf("what was shown: %w: %s", record.ErrMalformed, what)
	}
	if len(b) < 1+len(x.hash) || b[0] != shownVersion {
		return bad("its version or length")
	}
	b = b[1+copy(x.hash[:], b[1:]):]
	count, n := binary.Uvarint(b)
	if n <= 0 || n > 1 && b[n-1] == 0 || count > record.MaxResolved {
		return bad("the number of versions")
	}
	b = b[n:]
	for range count {
		v := &plan.Version{}
		if len(b) < len(v.Author)+8 {
			return bad("it is cut short")
		}
		b = b[copy(v.Author[:], b):]
		v.Time = binary.BigEndian.Uint64(b)
		b = b[8:]
		size, n := binary.Uvarint(b)
		if n <= 0 || n > 1 && b[n-1] == 0 || size > uint64(len(b)-n) {
			return bad("the length of a record")
		}
		if v.Record, err = record.Parse(b[n:n+int(size)], v.Author); err != nil {
			return Shown{}, fmt.Errorf("what was shown: %w", err)
		}
		b = b[n+int(size):]
		x.basis = append(x.basis, v)
	}
	if len(b) > 0 {
		return bad("bytes are left over")
	}
	return x, nil
}

// besideOwn returns the drafts that take this device's slots, and those that must stand beside what
// it has written there, which nobody had seen when they were made.
func (s *Set) besideOwn(drafts []draft) (own, beside []draft) {
	unseen := func(d *draft) bool {
		return d.shown && slices.ContainsFunc(d.item.Heads, func(h *plan.Version) bool {
			return h.Author == s.dev.Author && !slices.ContainsFunc(d.over, func(v *plan.Version) bool {
				return v.Dot == h.Dot || v.Supersedes(h)
			})
		})
	}
	if !slices.ContainsFunc(drafts, func(d draft) bool { return unseen(&d) }) {
		return drafts, nil
	}
	for _, d := range drafts {
		if unseen(&d) {
			beside = append(beside, d)
		} else {
			own = append(own, d)
		}
	}
	return own, beside
}

// writeBeside writes a draft as another author of this device.
func (s *Set) writeBeside(ctx context.Context, d *draft) error {
	key, err := s.rescueKey(ctx, d.item.Key)
	if err != nil {
		return err
	}
	by := record.Device{Author: record.TagOf(key.Author()), Incarnation: s.cfg.incarnate()}
	stream, err := s.stream(ctx, d, record.Dot{Device: by, Counter: 1}, nil, s.acks.seen())
	if err != nil {
		return err
	}
	return s.put(ctx, key, []Value{{d.item.Key, stream, mayReplace(nil)}})
}
