package blobs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/skerry-sync/skerry/internal/disk"
	"github.com/skerry-sync/skerry/kv"
)

// Reader reads the content of one blob. Its methods may not be called at the same time, except
// ReadAt.
//
// Content in the store was verified when it was stored and is not hashed again; Store.Verify does
// that. Content of a referenced file is verified group by group as it is read.
type Reader struct {
	ctx  context.Context
	s    *Store
	h    Hash
	size uint64
	at   int64

	mu sync.Mutex
	c  content // as last looked up; guarded by mu
}

var (
	_ io.ReadSeeker = (*Reader)(nil)
	_ io.ReaderAt   = (*Reader)(nil)
	_ io.WriterTo   = (*Reader)(nil)
)

// Reader opens the blob h, which may be partial, for as long as ctx lives. It returns ErrNotFound.
func (s *Store) Reader(ctx context.Context, h Hash) (*Reader, error) {
	s.touchRead(h)
	r := &Reader{ctx: ctx, s: s, h: h}
	if err := r.lookUp(); err != nil {
		return nil, err
	}
	r.size = r.c.rec.size // proved, so the same for as long as the blob is there
	return r, nil
}

// lookUp finds where the content lies now.
func (r *Reader) lookUp() error {
	var c content
	err := r.s.kv.View(r.ctx, func(rd kv.Reader) (err error) {
		c, err = r.s.openContent(rd, r.h)
		return err
	})
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.c = c
	return nil
}

func (r *Reader) content() content {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.c
}

// ReadAll returns the whole content of the blob h, or ErrTooLarge if it is larger than limit.
func (s *Store) ReadAll(ctx context.Context, h Hash, limit uint64) ([]byte, error) {
	r, err := s.Reader(ctx, h)
	if err != nil {
		return nil, err
	}
	if r.size > limit {
		return nil, fmt.Errorf("%w: blob %s has %d bytes, limit %d", ErrTooLarge, h, r.size, limit)
	}
	b := make([]byte, r.size)
	if _, err := io.ReadFull(r, b); err != nil && len(b) > 0 {
		return nil, err
	}
	return b, nil
}

// ErrTooLarge reports a blob that is larger than the caller is ready for.
var ErrTooLarge = errors.New("blob is too large")

// Size returns the length of the blob in bytes.
func (r *Reader) Size() int64 { return int64(r.size) }

// ReadAt implements io.ReaderAt. It returns ErrIncomplete where content has not come, a
// *DamageError where the store has lost it, and a *ReferenceError for a referenced file that is not
// what it was.
func (r *Reader) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, fmt.Errorf("blob %s: negative offset", r.h)
	}
	for n < len(p) && uint64(off) < r.size {
		m, err := r.readPart(p[n:], uint64(off))
		r.s.read.Add(uint64(m))
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

// readPart reads at least one byte at off < size. If the content has moved since it was looked up,
// it is looked up again.
func (r *Reader) readPart(p []byte, off uint64) (n int, err error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	for try := 0; ; try++ {
		c := r.content()
		n, err = c.read(r.ctx, p[:min(uint64(len(p)), c.rec.size-off)], off)
		_, away := errors.AsType[*ReferenceError](err)
		if err == nil || away || !provesDamage(err) && !errors.Is(err, ErrIncomplete) {
			return n, err
		}
		if err := r.lookUp(); err != nil {
			return 0, err
		}
		same := c.rec == r.content().rec
		if errors.Is(err, ErrIncomplete) && same {
			return 0, r.whyMissing(off)
		}
		if try > 0 && same {
			return 0, r.damageOr(err, Range{off, off + uint64(len(p))})
		}
	}
}

// damageOr returns a *DamageError if some of a range is damaged, which err, of reading it, does not
// say to those who fetch it again; else err.
func (r *Reader) damageOr(err error, of Range) error {
	if damaged, is := errors.AsType[*DamageError](r.s.Check(r.ctx, r.h, Ranges{of})); is {
		return damaged
	}
	return fmt.Errorf("blob %s: %w", r.h, err)
}

// read reads at least one byte at off, which lies before the end of the blob, as does off+len(p).
func (c *content) read(ctx context.Context, p []byte, off uint64) (int, error) {
	switch c.rec.state {
	case stateInline:
		n := 0
		err := c.s.kv.View(ctx, func(rd kv.Reader) error {
			b, err := c.inline(rd)
			if err == nil && off < uint64(len(b)) {
				n = copy(p, b[off:])
			}
			return err
		})
		return n, err
	case stateComplete, statePacked:
		return c.readStored(p, off)
	case statePartial:
		return c.readPartial(ctx, p, off)
	}
	return c.readReferenced(ctx, p, off)
}

func (c *content) readStored(p []byte, off uint64) (int, error) {
	x, err := c.bytes()
	if err != nil {
		return 0, err
	}
	defer x.close()
	if err := x.readAt(p, off); err != nil {
		return 0, fmt.Errorf("blob %s: at byte %d: %w", c.h, off, err)
	}
	return len(p), nil
}

// view looks up the segment that holds off; cv is the value of its group, if the blob is referenced
// and the segment has only one.
func (c *content) view(ctx context.Context, off uint64) (v segmentView, cv Hash, err error) {
	index := off / SegmentSize
	err = c.s.kv.View(ctx, func(rd kv.Reader) error {
		if v, err = c.viewSegment(rd, index); err != nil {
			return err
		}
		if v.n == 1 && c.rec.state == stateReferenced {
			cv, err = c.onlyGroup(rd, index)
		}
		return err
	})
	return v, cv, err
}

func (c *content) readPartial(ctx context.Context, p []byte, off uint64) (int, error) {
	v, _, err := c.view(ctx, off)
	if err != nil {
		return 0, err
	}
	end := off
	for i := off/GroupSize - v.first; i < uint64(v.n) && v.mask>>i&1 == 1; i++ {
		end = min((v.first+i+1)*GroupSize, c.rec.size)
	}
	if end == off {
		return 0, ErrIncomplete
	}
	return c.readStored(p[:min(uint64(len(p)), end-off)], off)
}

func (c *content) readReferenced(ctx context.Context, p []byte, off uint64) (n int, err error) {
	v, cv, err := c.view(ctx, off)
	if err != nil {
		return 0, err
	}
	x, err := c.bytes()
	if err != nil {
		return 0, err
	}
	defer x.close()
	group := groupBuffers.Get().(*[GroupSize]byte)
	defer groupBuffers.Put(group)
	for at := off; n < len(p) && at/SegmentSize == off/SegmentSize; at = off + uint64(n) {
		i := at / GroupSize
		data := group[:groupLen(c.rec.size, i)]
		if err := x.readAt(data, i*GroupSize); err != nil {
			return n, c.referenceFault(err)
		}
		if err := c.checkReferenced(v, int(i-v.first), data, cv); err != nil {
			return n, err
		}
		n += copy(p[n:], data[at%GroupSize:])
	}
	return n, nil
}

// referenceFault names the file that could not be read; one that has become shorter has been
// changed.
func (c *content) referenceFault(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return &ReferenceError{c.h, c.rec.ref.path, err}
}

// whyMissing tells a missing range from a blob that was deleted, or completed anew under another
// id, since it was opened.
func (r *Reader) whyMissing(off uint64) error {
	info, err := r.s.Stat(r.ctx, r.h)
	if err != nil {
		return err
	}
	return fmt.Errorf(
		"%w: %s has %d of %d bytes, and none at %d", ErrIncomplete, r.h, info.Present, info.Size, off,
	)
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
	if r.at == 0 && r.size == 0 {
		return 0, nil
	}
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

// Export writes the blob h to the file name, which appears whole or not at all. progress, if not
// nil, is told the bytes written.
func (s *Store) Export(
	ctx context.Context, h Hash, name string, progress func(written uint64),
) error {
	r, err := s.Reader(ctx, h)
	if err != nil {
		return err
	}
	if err := WriteNew(name, func(f *os.File) error { return r.CopyTo(f, progress) }); err != nil {
		return fmt.Errorf("export %s: %w", h.Short(), err)
	}
	return nil
}

// WriteNew creates the file name with what write puts into it: whole, or not at all. Something that
// has the name already, also only at the end, is not replaced; the error is then fs.ErrExist.
func WriteNew(name string, write func(f *os.File) error) error {
	if err := disk.NewFile(name, 0o666, write); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// exportPiece is how much is copied between two reports of progress.
const exportPiece = 32 << 20

// CopyTo writes the whole content to f. Between two files the operating system copies by itself, or
// only shares the blocks, where it can. progress, if not nil, is told the bytes written.
func (r *Reader) CopyTo(f *os.File, progress func(uint64)) error {
	if progress == nil {
		progress = func(uint64) {}
	}
	c := r.content()
	if c.rec.state != stateComplete {
		_, err := r.WriteTo(&progressWriter{w: f, report: progress})
		return err
	}
	own, err := r.s.files.OpenFile(c.rec.id)
	if err != nil {
		return r.damageOr(err, Range{0, r.size})
	}
	defer own.Close()
	for done := uint64(0); done < r.size; progress(done) {
		if err := r.ctx.Err(); err != nil {
			return err
		}
		n, err := f.ReadFrom(io.LimitReader(own, exportPiece))
		if err != nil {
			return err
		}
		if n == 0 {
			err := fmt.Errorf("its file ends after %d of %d bytes", done, r.size)
			return r.damageOr(err, Range{done, r.size})
		}
		done += uint64(n)
	}
	return nil
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
