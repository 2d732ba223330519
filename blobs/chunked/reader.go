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

// Reader reads the parts as one. It serves one goroutine, except for ReadAt.
type Reader struct {
	ctx    context.Context
	open   Opener
	chunks Chunks
	ends   []uint64 // ends[i] is the offset behind chunk i
	at     int64
}

var (
	_ io.ReadSeeker = (*Reader)(nil)
	_ io.ReaderAt   = (*Reader)(nil)
	_ io.WriterTo   = (*Reader)(nil)
)

// NewReader reads c for as long as ctx lives.
func NewReader(ctx context.Context, open Opener, c Chunks) *Reader {
	r := &Reader{ctx: ctx, open: open, chunks: c, ends: make([]uint64, len(c.Sizes))}
	end := uint64(0)
	for i, n := range c.Sizes {
		end += n
		r.ends[i] = end
	}
	return r
}

// Size returns the length of the content in bytes.
func (r *Reader) Size() int64 {
	if len(r.ends) == 0 {
		return 0
	}
	return int64(r.ends[len(r.ends)-1])
}

// ReadAt implements io.ReaderAt.
func (r *Reader) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, errors.New("chunked file: negative offset")
	}
	i := sort.Search(len(r.ends), func(i int) bool { return r.ends[i] > uint64(off) })
	for ; n < len(p) && i < len(r.ends); i++ {
		start := r.ends[i] - r.chunks.Sizes[i]
		at := uint64(off) + uint64(n) - start
		part := p[n:min(uint64(len(p)), uint64(n)+r.chunks.Sizes[i]-at)]
		b, err := r.open(r.ctx, r.chunks.Hashes[i])
		if err != nil {
			return n, err
		}
		m, err := b.ReadAt(part, int64(at))
		n += m
		if m < len(part) {
			if errors.Is(err, io.EOF) {
				err = fmt.Errorf("chunk %s is shorter than its %d bytes", r.chunks.Hashes[i].Short(), r.chunks.Sizes[i])
			}
			return n, err
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Read implements io.Reader.
func (r *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := r.ReadAt(p, r.at)
	r.at += int64(n)
	if n > 0 && errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

// Seek implements io.Seeker.
func (r *Reader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += r.at
	case io.SeekEnd:
		offset += r.Size()
	}
	if offset < 0 {
		return r.at, errors.New("chunked file: seek before the start")
	}
	r.at = offset
	return offset, nil
}

// WriteTo implements io.WriterTo, a chunk at a time.
func (r *Reader) WriteTo(w io.Writer) (total int64, err error) {
	buf := make([]byte, min(MaxChunk, max(r.Size()-r.at, 0)))
	for r.at < r.Size() {
		n, err := r.Read(buf)
		if err != nil {
			return total, err
		}
		m, err := w.Write(buf[:n])
		total += int64(m)
		if err != nil {
			return total, err
		}
	}
	return total, nil
}
