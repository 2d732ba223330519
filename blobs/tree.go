package blobs

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"sync"

	"lukechampine.com/blake3/guts"

	"github.com/skerry-sync/skerry/internal/kind"
)

const (
	// GroupSize is the length of a chunk group in bytes: 16 BLAKE3 chunks, the unit of verification.
	GroupSize = 16 << 10
	// SegmentSize is the length of a segment in bytes: the unit of storage.
	SegmentSize = fanOut * GroupSize
	// MaxSize is the largest blob in bytes: segment numbers are 32 bits.
	MaxSize = SegmentSize << 32

	// children of a block; a power of two, so that blocks are subtrees of the BLAKE3 tree
	fanOut     = 32
	parentSize = 2 * HashSize
)

// The tree of a blob is kept and walked in blocks. A block of level 0 spans up to 32 groups (a
// segment), one of level l+1 up to 32 blocks of level l. Inside a block of n children lie n-1
// parents in pre-order, each the chaining values of its left and right child. All blocks of a level
// are full but the last, and since 32 is a power of two each full block is a whole subtree of
// BLAKE3's tree.

// groupCount returns the number of chunk groups of a blob: at least one.
func groupCount(size uint64) uint64 { return max(1, (size+GroupSize-1)/GroupSize) }

// groupLen returns the length in bytes of group i.
func groupLen(size, i uint64) int { return int(min(GroupSize, size-i*GroupSize)) }

// geometry gives the shape of the tree of a blob of a size.
type geometry struct {
	size   uint64
	counts []uint64 // counts[l] is the number of children that the blocks of level l have together
}

func newGeometry(size uint64) geometry {
	g := geometry{size: size}
	for n := groupCount(size); ; n = (n + fanOut - 1) / fanOut {
		g.counts = append(g.counts, n)
		if n <= fanOut {
			return g
		}
	}
}

// top is the level of the only block that has no parent.
func (g geometry) top() int { return len(g.counts) - 1 }

// children returns the number of children of a block.
func (g geometry) children(level int, index uint64) int {
	return int(min(fanOut, g.counts[level]-index*fanOut))
}

// groups returns the groups below child j of a block.
func (g geometry) groups(level int, index uint64, first, n int) Range {
	shift := uint(5 * level)
	start := (index*fanOut + uint64(first)) << shift
	return Range{start, min(start+uint64(n)<<shift, g.counts[0])}
}

// leftCount returns how many of n >= 2 leaves the left child of a node takes: the largest power of
// two below n.
func leftCount(n int) int { return 1 << (bits.Len(uint(n-1)) - 1) }

// treeBytes returns the length of the parents of a block of n children.
func treeBytes(n int) int { return (n - 1) * parentSize }

func toWords(cv *[HashSize]byte) (w [8]uint32) {
	for i := range w {
		w[i] = binary.LittleEndian.Uint32(cv[4*i:])
	}
	return w
}

func fromWords(w *[8]uint32) (cv Hash) {
	for i, x := range w {
		binary.LittleEndian.PutUint32(cv[4*i:], x)
	}
	return cv
}

func rootFlag(root bool) uint32 {
	if root {
		return guts.FlagRoot
	}
	return 0
}

var groupBuffers = sync.Pool{New: func() any { return new([GroupSize]byte) }}

// hashGroup returns the chaining value of group number index, or the blob's hash if the group is
// the whole blob (root).
func hashGroup(data []byte, index uint64, root bool) Hash {
	var n guts.Node
	if len(data) == GroupSize {
		n = guts.CompressBuffer(
			(*[GroupSize]byte)(data), GroupSize, &guts.IV, index*(GroupSize/guts.ChunkSize), 0,
		)
	} else {
		buf := groupBuffers.Get().(*[GroupSize]byte)
		copy(buf[:], data)
		n = guts.CompressBuffer(buf, len(data), &guts.IV, index*(GroupSize/guts.ChunkSize), 0)
		groupBuffers.Put(buf)
	}
	n.Flags |= rootFlag(root)
	cv := guts.ChainingValue(n)
	return fromWords(&cv)
}

// hashParent returns the chaining value of a parent: the concatenated values of its children.
func hashParent(pair []byte, root bool) Hash {
	left, right := toWords((*[HashSize]byte)(pair)), toWords((*[HashSize]byte)(pair[HashSize:]))
	cv := guts.ChainingValue(guts.ParentNode(left, right, &guts.IV, rootFlag(root)))
	return fromWords(&cv)
}

// buildBlock fills tree with the parents of a block over the values of its children and returns the
// block's own value. A block of one child has no parents and the child's value.
func buildBlock(tree []byte, children []Hash, root bool) Hash {
	if len(children) == 1 {
		return children[0]
	}
	l := leftCount(len(children))
	left := buildBlock(tree[parentSize:], children[:l], false)
	right := buildBlock(tree[parentSize*l:], children[l:], false)
	copy(tree, left[:])
	copy(tree[HashSize:], right[:])
	return hashParent(tree[:parentSize], root)
}

// treeBuilder computes the blocks above the segments of a blob whose segments arrive in order.
type treeBuilder struct {
	levels []levelBuilder // levels[i] builds the blocks of level i+1
	// put stores a finished block; it may keep tree.
	put func(level int, index uint64, tree []byte) error
}

type levelBuilder struct {
	children []Hash
	index    uint64 // of the block being filled
}

// add appends the value of the next segment.
func (b *treeBuilder) add(cv Hash) error { return b.addAt(0, cv) }

func (b *treeBuilder) addAt(i int, cv Hash) error {
	if i == len(b.levels) {
		b.levels = append(b.levels, levelBuilder{})
	}
	// A full block is closed only when another child follows: until then it may be the top, whose root
	// is hashed differently.
	if len(b.levels[i].children) == fanOut {
		up, err := b.close(i, false)
		if err != nil {
			return err
		}
		if err := b.addAt(i+1, up); err != nil {
			return err
		}
		b.levels[i].children = b.levels[i].children[:0]
		b.levels[i].index++
	}
	b.levels[i].children = append(b.levels[i].children, cv)
	return nil
}

func (b *treeBuilder) close(i int, root bool) (Hash, error) {
	l := &b.levels[i]
	tree := make([]byte, treeBytes(len(l.children)))
	cv := buildBlock(tree, l.children, root)
	if len(tree) == 0 {
		return cv, nil
	}
	return cv, b.put(i+1, l.index, tree)
}

// finish closes the last blocks and returns the blob's hash. There must have been at least two
// segments.
func (b *treeBuilder) finish() (Hash, error) {
	for i := 0; ; i++ {
		top := i == len(b.levels)-1
		cv, err := b.close(i, top)
		if err != nil || top {
			return cv, err
		}
		if err := b.addAt(i+1, cv); err != nil {
			return Hash{}, err
		}
	}
}

// CorruptError reports content or a hash that does not belong to the blob it was given as.
type CorruptError struct {
	Hash   Hash
	Offset uint64 // of the first byte that cannot be trusted
	Parent bool   // a node of the hash tree is wrong, rather than content
}

func (e *CorruptError) Error() string {
	what := "content"
	if e.Parent {
		what = "hash tree"
	}
	return fmt.Sprintf(
		"verification failed: blob %s: wrong %s at byte %d", e.Hash.Short(), what, e.Offset,
	)
}

// Kind implements kind.Of.
func (e *CorruptError) Kind() kind.Kind { return kind.Verification }
