package blobs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"

	"github.com/skerry-sync/skerry/kv"
)

// Reader reads the content of one blob. Its methods may not be called at the same time, except ReadAt.
//
// Content was verified when it was stored and is not hashed again; Store.Verify does that.
type Reader struct {
	ctx context.Context
	s   *Store
	h   Hash
	rec record
	g   geometry
	at  int64
}

var (
	_ io.ReadSeeker = (*Reader)(nil)
	_ io.ReaderAt   = (*Reader)(nil)
	_ io.WriterTo   = (*Reader)(nil)
)

// Reader opens the blob h, which may be partial, for as long as ctx lives. It returns ErrNotFound.
func (s *Store) Reader(ctx context.Context, h Hash) (*Reader, error) {
	r := &Reader{ctx: ctx, s: s, h: h}
	err := s.kv.View(ctx, func(rd kv.Reader) (err error) {
		r.rec, err = getRecord(rd, h)
		return err
	})
	if err != nil {
		return nil, err
	}
	r.g = newGeometry(r.rec.size)
	return r, nil
}

// ReadAll returns the whole content of the blob h, or ErrTooLarge if it is larger than limit.
func (s *Store) ReadAll(ctx context.Context, h Hash, limit uint64) ([]byte, error) {
	r, err := s.Reader(ctx, h)
	if err != nil {
		return nil, err
	}
	if r.rec.size > limit {
		return nil, fmt.Errorf("%w: blob %s has %d bytes, limit %d", ErrTooLarge, h, r.rec.size, limit)
	}
	b := make([]byte, r.rec.size)
	if _, err := io.ReadFull(r, b); err != nil && len(b) > 0 {
		return nil, err
	}
	return b, nil
}

// ErrTooLarge reports a blob that is larger than the caller is ready for.
var ErrTooLarge = errors.New("blob is too large")

// Size returns the length of the blob in bytes.
func (r *Reader) Size() int64 { return int64(r.rec.size) }

// ReadAt implements io.ReaderAt. It returns ErrIncomplete where content is missing.
func (r *Reader) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, fmt.Errorf("blob %s: negative offset", r.h)
	}
	for n < len(p) && uint64(off) < r.rec.size {
		m, err := r.readPart(p[n:], uint64(off))
		n += m
		off += int64(m)
		if err != nil {
			return n, err
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// readPart reads at least one byte at off < size, and at most up to the end of the segment.
func (r *Reader) readPart(p []byte, off uint64) (n int, err error) {
	err = r.s.kv.View(r.ctx, func(rd kv.Reader) error {
		if r.rec.state == stateInline {
			return rd.Peek(inlineKey(r.h), func(v []byte) error {
				n = copy(p, v[off:])
				return nil
			})
		}
		index := off / SegmentSize
		return viewSegment(rd, r.rec.id, r.g, index, func(s storedSegment) error {
			if s.mask == fullMask(s.n) {
				n = copy(p, s.content[off%SegmentSize:])
				return nil
			}
			for n < len(p) {
				at := off + uint64(n)
				group := at/GroupSize - index*fanOut
				if group >= uint64(s.n) || s.group(int(group)) == nil {
					break
				}
				m := copy(p[n:], s.group(int(group))[at%GroupSize:])
				if m == 0 {
					break // the end of the blob
				}
				n += m
			}
			return nil
		})
	})
	if errors.Is(err, kv.ErrNotFound) || err == nil && n == 0 {
		err = r.whyMissing(off)
	}
	return n, err
}

// whyMissing tells a missing range from a blob that was deleted, or completed anew under another id, since it was opened.
func (r *Reader) whyMissing(off uint64) error {
	info, err := r.s.Stat(r.ctx, r.h)
	if err != nil {
		return err
	}
	return fmt.Errorf("%w: %s has %d of %d bytes, and none at %d", ErrIncomplete, r.h, info.Present, info.Size, off)
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
		return r.at, fmt.Errorf("blob %s: seek before the start", r.h)
	}
	r.at = offset
	return offset, nil
}

// WriteTo implements io.WriterTo, a segment at a time.
func (r *Reader) WriteTo(w io.Writer) (total int64, err error) {
	buf := make([]byte, min(SegmentSize, max(r.Size()-r.at, 0)))
	for r.at < r.Size() {
		// Up to the next segment's start, so that each segment is looked up once.
		n, err := r.Read(buf[:min(int64(len(buf)), SegmentSize-r.at%SegmentSize)])
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

// Export writes the blob h to the file name, which appears whole or not at all. progress, if not nil, is told the bytes written.
func (s *Store) Export(ctx context.Context, h Hash, name string, progress func(written uint64)) (err error) {
	r, err := s.Reader(ctx, h)
	if err != nil {
		return err
	}
	tmp, err := os.OpenFile(fmt.Sprintf("%s.skerry-%08x", name, rand.Uint32()), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return fmt.Errorf("export %s: %w", h.Short(), err)
	}
	defer func() {
		if err != nil {
			_ = tmp.Close() // a second close after success is never reached
			_ = os.Remove(tmp.Name())
			err = fmt.Errorf("export %s to %s: %w", h.Short(), name, err)
		}
	}()
	var w io.Writer = tmp
	if progress != nil {
		w = &progressWriter{w: tmp, report: progress}
	}
	if _, err := r.WriteTo(w); err != nil {
		return err
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), name)
}

type progressWriter struct {
	w      io.Writer
	n      uint64
	report func(uint64)
}

func (p *progressWriter) Write(b []byte) (int, error) {
	n, err := p.w.Write(b)
	p.n += uint64(n)
	p.report(p.n)
	return n, err
}
