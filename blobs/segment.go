package blobs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"

	"github.com/skerry-sync/skerry/kv"
)

const maskBytes = 4

// fullMask has a bit for each of n groups.
func fullMask(n int) uint32 { return uint32(1<<n - 1) }

// segment is one segment in memory, laid out as its record is when it is whole, so that a whole one is stored as it stands.
type segment struct {
	index uint64
	n     int    // groups it spans
	mask  uint32 // groups it holds
	buf   []byte // mask, parents, then room for all groups
}

// reset makes the segment empty, for n groups.
func (s *segment) reset(index uint64, n int) {
	if s.buf == nil {
		s.buf = make([]byte, maskBytes+treeBytes(fanOut)+SegmentSize)
	}
	s.index, s.n, s.mask = index, n, 0
	clear(s.tree())
}

// whole reports whether all its groups are there.
func (s *segment) whole() bool { return s.mask == fullMask(s.n) }

func (s *segment) tree() []byte { return s.buf[maskBytes : maskBytes+treeBytes(s.n)] }

// content is the room for the groups.
func (s *segment) content() []byte { return s.buf[maskBytes+treeBytes(s.n):] }

// value returns the record of the segment of a blob of size bytes; for a whole segment it is s.buf itself.
func (s *segment) value(size uint64) []byte {
	first := s.index * fanOut
	head := maskBytes + treeBytes(s.n)
	binary.LittleEndian.PutUint32(s.buf, s.mask)
	if s.whole() {
		return s.buf[:head+int(min(SegmentSize, size-first*GroupSize))]
	}
	out := append(make([]byte, 0, head+bits.OnesCount32(s.mask)*GroupSize), s.buf[:head]...)
	for i := range s.n {
		if s.mask>>i&1 == 1 {
			at := head + i*GroupSize
			out = append(out, s.buf[at:at+groupLen(size, first+uint64(i))]...)
		}
	}
	return out
}

// storedSegment is a segment's record.
type storedSegment struct {
	mask    uint32
	tree    []byte
	content []byte
	n       int
	first   uint64 // number of its first group
	size    uint64 // of the blob
}

func parseSegment(v []byte, g geometry, index uint64) (s storedSegment, err error) {
	s = storedSegment{n: g.children(0, index), first: index * fanOut, size: g.size}
	head := maskBytes + treeBytes(s.n)
	if len(v) < head {
		return s, errors.New("blob store: segment record is too short")
	}
	s.mask = binary.LittleEndian.Uint32(v)
	s.tree, s.content = v[maskBytes:head], v[head:]
	want := bits.OnesCount32(s.mask) * GroupSize
	if s.mask>>(s.n-1)&1 == 1 {
		want -= GroupSize - groupLen(g.size, s.first+uint64(s.n-1))
	}
	if s.mask&^fullMask(s.n) != 0 || len(s.content) != want {
		return s, fmt.Errorf("blob store: segment record holds %d content bytes, expected %d", len(s.content), want)
	}
	return s, nil
}

// group returns the content of the i-th group, or nil if it is not there.
func (s storedSegment) group(i int) []byte {
	if s.mask>>i&1 == 0 {
		return nil
	}
	at := bits.OnesCount32(s.mask&fullMask(i)) * GroupSize
	return s.content[at : at+groupLen(s.size, s.first+uint64(i))]
}

// merge adds to s what an older record of the same segment has and s does not.
func (s *segment) merge(old storedSegment) {
	mergeTree(s.tree(), old.tree)
	for i := range s.n {
		if s.mask>>i&1 == 0 && old.mask>>i&1 == 1 {
			copy(s.content()[i*GroupSize:], old.group(i))
			s.mask |= 1 << i
		}
	}
}

// mergeTree fills the unknown parents of tree from old. Both hold nothing but verified parents, so where both know one they agree.
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

// viewSegment calls fn with the record of a segment; it is valid only during fn, which must not block.
func viewSegment(r kv.Reader, id contentID, g geometry, index uint64, fn func(storedSegment) error) error {
	return r.Peek(blockKey(id, 0, index), func(v []byte) error {
		s, err := parseSegment(v, g, index)
		if err != nil {
			return err
		}
		return fn(s)
	})
}
