package chunked

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sort"

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
	p := &parts{ctx: ctx, open: open, chunks: c, ends: make([]uint64, len(c.Sizes))}
	end := uint64(0)
	for i, n := range c.Sizes {
		end += n
		p.ends[i] = end
	}
	return Reader{io.NewSectionReader(p, 0, int64(end))}
}

// parts finds the chunk that holds an offset.
type parts struct {
	ctx    context.Context
	open   Opener
	chunks Chunks
	ends   []uint64 // ends[i] is the offset behind chunk i
}

// ReadAt implements io.ReaderAt.
func (p *parts) ReadAt(b []byte, off int64) (n int, err error) {
	i := sort.Search(len(p.ends), func(i int) bool { return p.ends[i] > uint64(off) })
	for ; n < len(b) && i < len(p.ends); i++ {
		at := uint64(off) + uint64(n) - (p.ends[i] - p.chunks.Sizes[i])
		part := b[n:min(uint64(len(b)), uint64(n)+p.chunks.Sizes[i]-at)]
		r, err := p.open(p.ctx, p.chunks.Hashes[i])
		if err != nil {
			return n, err
		}
		m, err := r.ReadAt(part, int64(at))
		n += m
		if m < len(part) {
			if errors.Is(err, io.EOF) {
				err = fmt.Errorf("chunk %s is shorter than its %d bytes", p.chunks.Hashes[i].Short(), p.chunks.Sizes[i])
			}
			return n, err
		}
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// WriteTo implements io.WriterTo, by as much as a chunk holds at a time.
func (r Reader) WriteTo(w io.Writer) (int64, error) {
	return io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r.SectionReader}, make([]byte, MaxChunk))
}
