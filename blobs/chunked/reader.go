package chunked

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sort"
	"sync"

	"github.com/skerry-sync/skerry/blobs"
)

// Opener opens a blob for reading: a store does, and so can whoever fetches what is missing first.
type Opener func(ctx context.Context, h blobs.Hash) (io.ReaderAt, error)

// FromStore opens blobs of a store.
func FromStore(s *blobs.Store) Opener {
	return func(ctx context.Context, h blobs.Hash) (io.ReaderAt, error) { return s.Reader(ctx, h) }
}

// Reader reads the parts as one. Its methods may not be called at the same time, except ReadAt.
type Reader struct{ *io.SectionReader }

// NewReader reads c for as long as ctx lives.
func NewReader(ctx context.Context, open Opener, c Chunks) Reader {
	all := placeChunks(c, 0)
	p := &parts{ctx: ctx, open: open, find: func(uint64) (placed, error) { return all, nil }}
	return Reader{io.NewSectionReader(p, 0, int64(c.Size()))}
}

// Reader reads the content for as long as ctx lives, from chunks that are opened with open.
func (x *Index) Reader(ctx context.Context, open Opener) Reader {
	b := &blockFinder{ctx: ctx, x: x}
	p := &parts{ctx: ctx, open: open, find: b.find}
	return Reader{io.NewSectionReader(p, 0, int64(x.size))}
}

// placed is some chunks that follow on each other, and where each of them ends.
type placed struct {
	Chunks
	ends []uint64 // ends[i] is the offset behind chunk i
}

func placeChunks(c Chunks, at uint64) placed {
	p := placed{c, make([]uint64, len(c.Sizes))}
	for i, n := range c.Sizes {
		at += n
		p.ends[i] = at
	}
	return p
}

// blockFinder finds the block that holds an offset. It keeps the last one, since reads follow on
// each other.
type blockFinder struct {
	ctx context.Context
	x   *Index

	mu    sync.Mutex
	last  placed
	which int // of the blocks; it counts once last is set
}

func (b *blockFinder) find(off uint64) (placed, error) {
	blocks := b.x.blocks
	i := sort.Search(len(blocks), func(i int) bool { return blocks[i].content > off }) - 1
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.last.ends == nil || b.which != i {
		c, err := b.x.block(b.ctx, i)
		if err != nil {
			return placed{}, err
		}
		b.last, b.which = placeChunks(c, blocks[i].content), i
	}
	return b.last, nil
}

// parts reads from the chunks that hold an offset.
type parts struct {
	ctx  context.Context
	open Opener
	find func(off uint64) (placed, error) // for an offset before the end
}

// ReadAt implements io.ReaderAt. It is not asked about what lies behind the end.
func (p *parts) ReadAt(b []byte, off int64) (n int, err error) {
	for n < len(b) {
		m, err := p.readSome(b[n:], uint64(off)+uint64(n))
		n += m
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// readSome reads from the chunks that find knows around off.
func (p *parts) readSome(b []byte, off uint64) (n int, err error) {
	at, err := p.find(off)
	if err != nil {
		return 0, err
	}
	i := sort.Search(len(at.ends), func(i int) bool { return at.ends[i] > off })
	if i == len(at.ends) {
		return 0, io.EOF
	}
	for ; n < len(b) && i < len(at.ends); i++ {
		from := off + uint64(n) - (at.ends[i] - at.Sizes[i])
		part := b[n:min(uint64(len(b)), uint64(n)+at.Sizes[i]-from)]
		r, err := p.open(p.ctx, at.Hashes[i])
		if err != nil {
			return n, err
		}
		m, err := r.ReadAt(part, int64(from))
		n += m
		if m < len(part) {
			if errors.Is(err, io.EOF) {
				err = fmt.Errorf("chunk %s is shorter than its %d bytes", at.Hashes[i].Short(), at.Sizes[i])
			}
			return n, err
		}
	}
	return n, nil
}

// WriteTo implements io.WriterTo, by as much as a chunk holds at a time.
func (r Reader) WriteTo(w io.Writer) (int64, error) {
	return io.CopyBuffer(
		struct{ io.Writer }{w}, struct{ io.Reader }{r.SectionReader}, make([]byte, MaxChunk),
	)
}
