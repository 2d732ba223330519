package blobs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/skerry-sync/skerry/internal/disk"
	"github.com/skerry-sync/skerry/internal/kind"
	"github.com/skerry-sync/skerry/kv"
)

// content gives access to the bytes and the tree of one blob, wherever they lie.
type content struct {
	s   *Store
	h   Hash
	rec record
	g   geometry
}

// openContent finds the blob h.
func (s *Store) openContent(r kv.Reader, h Hash) (content, error) {
	rec, err := getRecord(r, h)
	return content{s, h, rec, newGeometry(rec.size)}, err
}

// ReferenceError reports a blob that was added without a copy, and whose file has been changed,
// moved or removed since.
type ReferenceError struct {
	Hash Hash
	Path string
	Err  error // why it cannot be read, or nil if its content is another
}

func (e *ReferenceError) Error() string {
	what := "has changed since it was added"
	if e.Err != nil {
		what = "cannot be read"
		if errors.Is(e.Err, fs.ErrNotExist) {
			what = "is no longer there"
		}
	}
	return fmt.Sprintf(
		"blob %s lies in %s, which %s: add the file again, or fetch the blob from a peer", e.Hash.Short(),
		e.Path, what,
	)
}

// Kind implements kind.Of.
func (e *ReferenceError) Kind() kind.Kind {
	if e.Err == nil {
		return kind.Verification
	}
	return kind.Of(e.Err)
}

func (e *ReferenceError) Unwrap() error { return e.Err }

// errGone reports content whose file or record is no longer where the record said: the blob was
// deleted, or moved by a compaction.
var errGone = errors.New("content has gone")

// source reads content bytes at offsets of the blob.
type source struct {
	io.ReaderAt
	base  int64 // offset of the blob's first byte
	close func()
}

func (x source) readAt(p []byte, off uint64) error {
	n, err := x.ReadAt(p, x.base+int64(off))
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// bytes opens the content for reading. It must be closed soon: an open file is not removed by
// everybody's file system.
func (c *content) bytes() (source, error) {
	switch {
	case c.rec.hasFile():
		r, err := c.s.files.Reader(c.rec.id)
		if err != nil {
			return source{}, gone(err)
		}
		return source{r, 0, r.Close}, nil
	case c.rec.state == statePacked:
		r, err := c.s.files.PackReader(c.rec.extent.Pack)
		if err != nil {
			return source{}, gone(err)
		}
		return source{r, int64(c.rec.extent.Offset) + int64(treeBytes(int(c.g.counts[0]))), r.Close}, nil
	case c.rec.state == stateReferenced:
		// Whoever may write to the directory can have put a pipe there. Its size and identity need no
		// check: each group that is read is verified.
		f, err := disk.OpenRegular(c.rec.ref.path)
		if err != nil {
			return source{}, &ReferenceError{c.h, c.rec.ref.path, err}
		}
		return source{f, 0, func() { _ = f.Close() }}, nil // it was only read
	}
	return source{}, fmt.Errorf("blob %s: no content of its own", c.h.Short())
}

func gone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return errGone
	}
	return err
}

// inline returns the content of a blob that is kept as a record.
func (c *content) inline(r kv.Reader) ([]byte, error) {
	b, err := r.Get(inlineKey(c.h))
	if errors.Is(err, kv.ErrNotFound) {
		return nil, errGone
	}
	return b, err
}

// segmentView is what is known of a segment, without its content.
type segmentView struct {
	n     int    // groups
	first uint64 // number of its first group
	mask  uint32 // groups that are there
	tree  []byte // parents, zero where unknown
}

// viewSegment returns a segment's mask and, unless the blob is packed, its tree.
func (c *content) viewSegment(r kv.Reader, index uint64) (v segmentView, err error) {
	v = segmentView{n: c.g.children(0, index), first: index * fanOut}
	v.mask = fullMask(v.n)
	if c.rec.state == statePartial {
		if v.mask, err = getMask(r, c.rec.id, index); err != nil || v.mask == 0 {
			return v, err
		}
	}
	if v.n == 1 || c.rec.state == statePacked {
		return v, nil
	}
	if v.tree, err = r.Get(blockKey(c.rec.id, 0, index)); errors.Is(err, kv.ErrNotFound) {
		return v, errGone
	}
	if err == nil && len(v.tree) != treeBytes(v.n) {
		err = errMalformed
	}
	return v, err
}

// packedTree reads the tree of a packed blob, which lies before its content.
func (c *content) packedTree(x source) ([]byte, error) {
	tree := make([]byte, treeBytes(int(c.g.counts[0])))
	n, err := x.ReadAt(tree, int64(c.rec.extent.Offset))
	switch {
	case n == len(tree):
		return tree, nil
	case err == nil || errors.Is(err, io.EOF):
		err = io.ErrUnexpectedEOF
	}
	return nil, err
}

// upper returns a block of parents above the segments.
func (c *content) upper(r kv.Reader, level int, index uint64) ([]byte, error) {
	tree, err := r.Get(blockKey(c.rec.id, level, index))
	if errors.Is(err, kv.ErrNotFound) {
		return nil, errGone
	}
	if err == nil && len(tree) != treeBytes(c.g.children(level, index)) {
		err = errMalformed
	}
	return tree, err
}

// leaf returns the value of the i-th of n groups, from their parents; cv is their common value.
func leaf(tree []byte, i, n int, cv Hash) Hash {
	for n > 1 {
		l := leftCount(n)
		if i < l {
			cv, tree, n = Hash(tree[:HashSize]), tree[parentSize:], l
		} else {
			cv, tree, i, n = Hash(tree[HashSize:parentSize]), tree[l*parentSize:], i-l, n-l
		}
	}
	return cv
}

// checkReferenced verifies group i of a segment of a referenced blob against the tree that was made
// when it was added. The group of a segment of one group has its value in the block above, so that
// case is the caller's, who passes it as cv.
func (c *content) checkReferenced(v segmentView, i int, data []byte, cv Hash) error {
	root := c.g.counts[0] == 1
	if hashGroup(data, v.first+uint64(i), root) != leaf(v.tree, i, v.n, cv) {
		return &ReferenceError{Hash: c.h, Path: c.rec.ref.path}
	}
	return nil
}

// onlyGroup returns the value of a segment that has only one group: the blob's own, or what the
// blocks above say.
func (c *content) onlyGroup(r kv.Reader, index uint64) (Hash, error) {
	cv, level := c.h, c.g.top()
	for ; level > 0; level-- {
		at := index >> (5 * uint(level-1)) // the child on the way, among all of the level
		n := c.g.children(level, at/fanOut)
		if n == 1 {
			continue
		}
		tree, err := c.upper(r, level, at/fanOut)
		if err != nil {
			return cv, err
		}
		cv = leaf(tree, int(at%fanOut), n, cv)
	}
	return cv, nil
}
