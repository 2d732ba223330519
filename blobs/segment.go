package blobs

import (
	"encoding/binary"
	"errors"

	"github.com/skerry-sync/skerry/kv"
)

// fullMask has a bit for each of n groups.
func fullMask(n int) uint32 { return uint32(1<<n - 1) }

// segment is one segment in memory.
type segment struct {
	index uint64
	n     int    // groups it spans
	mask  uint32 // groups it holds
	buf   []byte // parents, then room for all groups: as a blob of one segment lies in a pack
}

// reset makes the segment empty, for n groups.
func (s *segment) reset(index uint64, n int) {
	if s.buf == nil {
		s.buf = make([]byte, treeBytes(fanOut)+SegmentSize)
	}
	s.index, s.n, s.mask = index, n, 0
	clear(s.tree())
}

// whole reports whether all its groups are there.
func (s *segment) whole() bool { return s.mask == fullMask(s.n) }

func (s *segment) tree() []byte { return s.buf[:treeBytes(s.n)] }

// content is the room for the groups.
func (s *segment) content() []byte { return s.buf[treeBytes(s.n):] }

// runs calls fn with each run of groups that are there, of a blob of size bytes: its offset in the
// blob and its bytes.
func (s *segment) runs(size uint64, fn func(off uint64, p []byte) error) error {
	for i := 0; i < s.n; i++ {
		if s.mask>>i&1 == 0 {
			continue
		}
		first := i
		for i+1 < s.n && s.mask>>(i+1)&1 == 1 {
			i++
		}
		from := uint64(first) * GroupSize
		base := s.index * SegmentSize
		to := min(uint64(i+1)*GroupSize, size-base)
		if err := fn(base+from, s.content()[from:to]); err != nil {
			return err
		}
	}
	return nil
}

// mergeTree fills the unknown parents of tree from old. Both hold nothing but verified parents, so
// where both know one they agree.
func mergeTree(tree, old []byte) {
	for at := 0; at < len(tree); at += parentSize {
		if isZero(tree[at : at+parentSize]) {
			copy(tree[at:at+parentSize], old[at:])
		}
	}
}

func isZero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}

// getMask returns which groups of a segment of a partial blob are there.
func getMask(r kv.Reader, id contentID, index uint64) (mask uint32, err error) {
	err = r.Peek(maskKey(id, index), func(v []byte) error {
		if len(v) != 4 {
			return errMalformed
		}
		mask = binary.LittleEndian.Uint32(v)
		return nil
	})
	if errors.Is(err, kv.ErrNotFound) {
		return 0, nil
	}
	return mask, err
}

// putBlock stores a block of parents, with what is known of it already; over says that this may be
// damaged.
func putBlock(tx kv.Txn, id contentID, b upperBlock, over bool) error {
	if len(b.tree) == 0 {
		return nil
	}
	key := blockKey(id, b.level, b.index)
	tree := append([]byte(nil), b.tree...) // a run that comes to nothing must leave b as it was
	err := tx.Peek(key, func(old []byte) error {
		if len(old) != len(tree) {
			if over {
				return nil
			}
			return errMalformed
		}
		mergeTree(tree, old)
		return nil
	})
	if err != nil && !errors.Is(err, kv.ErrNotFound) {
		return err
	}
	return tx.Set(key, tree)
}
