package blobs

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/skerry-sync/skerry/kv"
)

// The stream of some groups of a blob is Bao's combined encoding with chunk groups, without the
// length in front: a walk of the tree in pre-order that visits only nodes above a wanted group,
// giving 64 bytes for a parent and the content for a group. The size, and which groups follow, are
// agreed before (docs/protocol/blobs.md).

// Encode writes the stream of the chunk groups that the byte ranges touch. Content of the store is
// not hashed again: the receiver does that; content of a referenced file is. It returns ErrNotFound
// or ErrIncomplete if the store does not have all of it, and a *ReferenceError if a referenced file
// is no longer what it was; what was written before is right.
func (s *Store) Encode(ctx context.Context, w io.Writer, h Hash, ranges Ranges) error {
	e, err := s.Encoder(ctx, h)
	if err != nil {
		return err
	}
	return e.Encode(w, ranges)
}

// Encoder writes streams of one blob, which it has looked up once. It serves one goroutine.
type Encoder struct {
	Info    Info
	Present Ranges // bytes; of an empty blob that is here, the position 0

	ctx    context.Context
	c      content
	inline []byte
	w      io.Writer
	want   Ranges // groups
	buf    []byte // the encoding of one segment
}

// Encoder looks up the blob h, or returns ErrNotFound.
func (s *Store) Encoder(ctx context.Context, h Hash) (*Encoder, error) {
	s.touchRead(h)
	e := &Encoder{ctx: ctx}
	if err := e.lookUp(s, h); err != nil {
		return nil, err
	}
	return e, nil
}

func (e *Encoder) lookUp(s *Store, h Hash) error {
	return s.kv.View(e.ctx, func(r kv.Reader) (err error) {
		if e.c, err = s.openContent(r, h); err != nil {
			return err
		}
		e.Info, e.Present = e.c.rec.info(h), Ranges{{0, max(e.c.rec.size, 1)}}
		switch e.c.rec.state {
		case stateInline:
			e.inline, err = e.c.inline(r)
		case statePartial:
			var groups Ranges
			groups, err = presentGroups(r, e.c.rec)
			e.Present = groups.bytesOf(e.c.rec.size)
		}
		return err
	})
}

// Encode is Store.Encode.
func (e *Encoder) Encode(w io.Writer, ranges Ranges) error {
	for try := 0; ; try++ {
		e.w, e.want = w, ranges.groupsOf(e.c.rec.size)
		err := e.run()
		if err == nil {
			return nil
		}
		if errors.Is(err, errGone) {
			// A packed blob is written in one piece, so nothing has been written yet: a compaction has moved
			// it.
			if e.c.rec.state == statePacked && try < 3 && e.lookUp(e.c.s, e.c.h) == nil {
				continue
			}
			err = ErrIncomplete // deleted meanwhile
		}
		return fmt.Errorf("blob %s: %w", e.c.h, err)
	}
}

func (e *Encoder) run() error {
	if len(e.want) == 0 {
		return nil
	}
	if e.c.rec.state == stateInline {
		_, err := e.w.Write(e.inline)
		return err
	}
	return e.block(e.c.g.top(), 0, e.c.h)
}

// block writes a block, of the value cv, that is known to hold a wanted group.
func (e *Encoder) block(level int, index uint64, cv Hash) error {
	if level == 0 {
		return e.segment(index, cv)
	}
	n := e.c.g.children(level, index)
	var tree []byte
	if n > 1 {
		err := e.c.s.kv.View(e.ctx, func(r kv.Reader) (err error) {
			tree, err = e.c.upper(r, level, index)
			return err
		})
		if err != nil {
			return err
		}
	}
	return e.node(tree, level, index, 0, n, cv)
}

// node writes the part of an upper block that spans n children from first on; tree begins with its
// parent.
func (e *Encoder) node(tree []byte, level int, index uint64, first, n int, cv Hash) error {
	if !e.want.Overlaps(e.c.g.groups(level, index, first, n)) {
		return nil
	}
	if n == 1 {
		return e.block(level-1, index*fanOut+uint64(first), cv)
	}
	if isZero(tree[:parentSize]) {
		return ErrIncomplete
	}
	if _, err := e.w.Write(tree[:parentSize]); err != nil {
		return err
	}
	l := leftCount(n)
	if err := e.node(tree[parentSize:], level, index, first, l, Hash(tree[:HashSize])); err != nil {
		return err
	}
	return e.node(tree[l*parentSize:], level, index, first+l, n-l, Hash(tree[HashSize:parentSize]))
}

// segment encodes a segment into memory and then writes it, so that no file is held open for a slow
// receiver, and nothing is sent of a segment that turns out to be wrong.
func (e *Encoder) segment(index uint64, cv Hash) error {
	var v segmentView
	err := e.c.s.kv.View(e.ctx, func(r kv.Reader) (err error) {
		v, err = e.c.viewSegment(r, index)
		return err
	})
	if err == nil && v.mask == 0 {
		err = ErrIncomplete
	}
	if err != nil {
		return err
	}
	x, err := e.c.bytes()
	if err != nil {
		return err
	}
	if e.c.rec.state == statePacked {
		v.tree, err = e.c.packedTree(x)
	}
	e.buf = e.buf[:0]
	if err == nil {
		err = e.groups(x, v, v.tree, 0, v.n, cv)
	}
	x.close()
	if err != nil {
		return err
	}
	_, err = e.w.Write(e.buf)
	return err
}

func (e *Encoder) groups(x source, v segmentView, tree []byte, first, n int, cv Hash) error {
	at := Range{v.first + uint64(first), v.first + uint64(first+n)}
	if !e.want.Overlaps(at) {
		return nil
	}
	if n == 1 {
		return e.group(x, v, first, cv)
	}
	e.buf = append(e.buf, tree[:parentSize]...)
	l := leftCount(n)
	if err := e.groups(x, v, tree[parentSize:], first, l, Hash(tree[:HashSize])); err != nil {
		return err
	}
	return e.groups(x, v, tree[l*parentSize:], first+l, n-l, Hash(tree[HashSize:parentSize]))
}

func (e *Encoder) group(x source, v segmentView, i int, cv Hash) error {
	if v.mask>>i&1 == 0 {
		return ErrIncomplete
	}
	group := v.first + uint64(i)
	at, n := len(e.buf), groupLen(e.c.rec.size, group)
	e.buf = slices.Grow(e.buf, n)[:at+n]
	err := x.readAt(e.buf[at:], group*GroupSize)
	if e.c.rec.state != stateReferenced {
		return err
	}
	if err != nil {
		return e.c.referenceFault(err)
	}
	if hashGroup(e.buf[at:], group, e.c.g.counts[0] == 1) != cv {
		return &ReferenceError{Hash: e.c.h, Path: e.c.rec.ref.path}
	}
	return nil
}

// sink takes what a decoder has verified.
type sink interface {
	// segment takes seg with at least one group and the blocks above it; it may keep both and returns
	// a segment to go on with.
	segment(seg *segment, above []upperBlock) (*segment, error)
}

// upperBlock is a block of level >= 1 as far as it is known.
type upperBlock struct {
	level int
	index uint64
	tree  []byte
	dirty bool // holds parents that no sink has seen yet
}

// Decode reads the stream of the chunk groups that the byte ranges of blob h touch from r, and
// writes each verified group to w at its offset. size is the blob's size as the sender claims it;
// it is proved if the last group is among the wanted.
//
// Nothing unverified reaches w. Decode returns ErrUnproved if no range lies within size, a
// *CorruptError naming the first wrong byte, at the latest after the chunk group that holds it has
// arrived, or io.ErrUnexpectedEOF if the stream ends early; what was written before stays valid.
// Source: the Bao specification, "combined encoding".
func Decode(r io.Reader, h Hash, size uint64, ranges Ranges, w io.WriterAt) error {
	d := newDecoder(r, h, size, ranges)
	d.onGroup = func(group uint64, data []byte) error {
		_, err := w.WriteAt(data, int64(group*GroupSize))
		return err
	}
	if len(d.want) == 0 && (size > 0 || h != EmptyHash) {
		return fmt.Errorf("blob %s: %w", h.Short(), ErrUnproved)
	}
	return d.run()
}

// ErrUnproved reports a stream that proves nothing, since all of the ranges lie beyond the size
// that the sender claims. Neither that size nor that the sender has the blob is known then.
var ErrUnproved = errors.New("nothing is proved: no range lies within the claimed size")

// decodeBuffer is the read buffer of a decoder. It is for the parents; groups, which are longer,
// pass it by.
const decodeBuffer = 4 << 10

type decoder struct {
	r     *bufio.Reader
	h     Hash
	g     geometry
	want  Ranges       // groups
	above []upperBlock // above[l-1] is the current block of level l

	onGroup  func(group uint64, data []byte) error // data is valid only during the call
	verified func(n int)                           // told the length of each verified group
	buf      []byte                                // of a group for onGroup
	sink     sink
	seg      *segment // being filled for sink
	goOn     bool     // seg holds groups of this blob, of one segment, already
}

func newDecoder(r io.Reader, h Hash, size uint64, ranges Ranges) *decoder {
	br, ok := r.(*bufio.Reader)
	if !ok {
		br = bufio.NewReaderSize(r, decodeBuffer)
	}
	d := &decoder{
		r: br, h: h, g: newGeometry(size), want: ranges.groupsOf(size), verified: func(int) {},
	}
	d.above = make([]upperBlock, d.g.top())
	return d
}

func (d *decoder) run() error {
	if d.g.size > MaxSize {
		return fmt.Errorf(
			"blob %s: claimed size %d is over the limit of %d", d.h.Short(), d.g.size, uint64(MaxSize),
		)
	}
	if len(d.want) == 0 {
		return nil
	}
	return d.block(d.g.top(), 0, d.h, true)
}

func (d *decoder) block(level int, index uint64, cv Hash, root bool) error {
	n := d.g.children(level, index)
	if level > 0 {
		// above belongs to a sink once it has been handed over, so each block gets its own.
		d.above[level-1] = upperBlock{level: level, index: index, tree: make([]byte, treeBytes(n))}
		return d.node(d.above[level-1].tree, level, index, 0, n, cv, root)
	}
	if d.sink != nil {
		if !d.goOn {
			d.seg.reset(index, n)
		}
		err := d.node(d.seg.tree(), 0, index, 0, n, cv, root)
		if d.seg.mask == 0 {
			return err
		}
		// Also after an error: what came before it is verified, and kept.
		return errors.Join(err, d.handOver())
	}
	return d.node(make([]byte, treeBytes(n)), 0, index, 0, n, cv, root)
}

func (d *decoder) handOver() (err error) {
	var above []upperBlock
	for i := range d.above {
		if b := &d.above[i]; b.dirty {
			above = append(
				above, upperBlock{level: b.level, index: b.index, tree: append([]byte(nil), b.tree...)},
			)
			b.dirty = false
		}
	}
	d.seg, err = d.sink.segment(d.seg, above)
	return err
}

// node verifies n children of a block from first on, whose common ancestor has the value cv and its
// place at the start of tree.
func (d *decoder) node(
	tree []byte, level int, index uint64, first, n int, cv Hash, root bool,
) error {
	groups := d.g.groups(level, index, first, n)
	if !d.want.Overlaps(groups) {
		return nil
	}
	if n == 1 {
		if level > 0 {
			return d.block(level-1, index*fanOut+uint64(first), cv, root)
		}
		return d.group(groups.Start, first, cv, root)
	}
	pair, err := d.r.Peek(parentSize)
	if err != nil {
		return d.short(err)
	}
	if hashParent(pair, root) != cv {
		return &CorruptError{Hash: d.h, Offset: groups.Start * GroupSize, Parent: true}
	}
	copy(tree, pair)
	left, right := Hash(pair[:HashSize]), Hash(pair[HashSize:])
	_, _ = d.r.Discard(parentSize) // of what was peeked: cannot fail
	if level > 0 {
		d.above[level-1].dirty = true
	}
	l := leftCount(n)
	if err := d.node(tree[parentSize:], level, index, first, l, left, false); err != nil {
		return err
	}
	return d.node(tree[l*parentSize:], level, index, first+l, n-l, right, false)
}

func (d *decoder) group(group uint64, i int, cv Hash, root bool) error {
	n := groupLen(d.g.size, group)
	var data []byte
	if d.sink != nil {
		data = d.seg.content()[i*GroupSize:][:n]
	} else {
		if d.buf == nil {
			d.buf = make([]byte, min(d.g.size, GroupSize))
		}
		data = d.buf[:n]
	}
	if _, err := io.ReadFull(d.r, data); err != nil {
		return d.short(err)
	}
	if hashGroup(data, group, root) != cv {
		return &CorruptError{Hash: d.h, Offset: group * GroupSize}
	}
	if d.sink != nil {
		d.seg.mask |= 1 << i
	} else if err := d.onGroup(group, data); err != nil {
		return err
	}
	d.verified(n)
	return nil
}

func (d *decoder) short(err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("blob %s: stream: %w", d.h.Short(), err)
}
