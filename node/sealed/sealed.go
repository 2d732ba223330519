// Package sealed stores and reads the content of encrypted replicas in a store of blobs, which has
// it sealed, here as everywhere: what is less than chunked.Threshold as one blob, and what is more
// in chunks that are sealed each by itself, cut where a key derived from the read key says.
//
// What belongs here: how sealed content lies in blobs. What never belongs here: how bytes are
// sealed (package seal), which keys there are (package replica), and content that lies open
// (package content).
//
// Start at [Open].
package sealed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/chunked"
	"github.com/skerry-sync/skerry/node/content"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/replica/seal"
)

// sealOverhead is more than sealing adds to a chunk.
const sealOverhead = 1 << 10

// Import stores what r yields, sealed with k, as the content of an entry. size is that of
// what is stored.
func Import(
	ctx context.Context, b *blobs.Store, k replica.EpochKey, r io.Reader, progress func(read uint64),
) (h blobs.Hash, size uint64, err error) {
	first, err := io.ReadAll(io.LimitReader(r, chunked.Threshold))
	if err != nil {
		return h, 0, err
	}
	if len(first) < chunked.Threshold {
		if progress != nil {
			progress(uint64(len(first)))
		}
		sealed, err := k.Key.SealBytes(nil, k.Epoch, first)
		if err != nil {
			return h, 0, err
		}
		info, err := b.ImportBytes(ctx, sealed)
		return info.Hash, info.Size, err
	}
	cuts := k.Key.ChunkKey()
	f, err := chunked.ImportWith(ctx, b, io.MultiReader(bytes.NewReader(first), r), chunked.Options{
		Progress: progress, CutKey: cuts[:], Overhead: sealOverhead,
		Store: func(dst, chunk []byte) ([]byte, error) { return k.Key.SealBytes(dst, k.Epoch, chunk) },
	})
	return f.Hash, f.Size, err
}

// Chunks says where the content of an entry lies: in which blobs, of what sizes they are when
// they are opened. It returns blobs.ErrNotFound or blobs.ErrIncomplete if that cannot be told yet,
// and seal.ErrSealed if it is not sealed content.
func Chunks(
	ctx context.Context, b *blobs.Store, p *replica.Plain, e *replica.Entry,
) (c chunked.Chunks, err error) {
	size, x, err := index(ctx, b, p, e)
	if err != nil {
		return c, err
	}
	if x == nil {
		return chunked.Chunks{Hashes: []blobs.Hash{e.Hash}, Sizes: []uint64{size}}, nil
	}
	return x.All(ctx)
}

// index returns the size of the content of an entry when it is opened, and its chunks; nil if
// it is one blob. Errors are those of Chunks.
func index(
	ctx context.Context, b *blobs.Store, p *replica.Plain, e *replica.Entry,
) (size uint64, x *chunked.Index, err error) {
	info, err := b.Stat(ctx, e.Hash)
	switch {
	case err != nil:
		return 0, nil, err
	case info.Size == e.Size && !p.Encrypted():
		return e.Size, nil, nil
	case info.Size == e.Size:
		size, err = seal.ContentSize(e.Size)
		return size, nil, err
	}
	x, err = content.Chunks(ctx, b, e.Hash, e.Size)
	if err == nil && p.Encrypted() {
		x, err = x.Resized(ctx, seal.ContentSize)
	}
	if err != nil {
		return 0, nil, err
	}
	return x.Size(), x, nil
}

// Size returns how many bytes the content of an entry has; ok is false if that cannot be told
// before it is here.
func Size(
	ctx context.Context, b *blobs.Store, p *replica.Plain, e *replica.Entry,
) (size uint64, ok bool, err error) {
	switch {
	case !p.Encrypted() || e.IsTombstone():
		return e.Size, true, nil
	case e.Size < seal.SealedSize(chunked.Threshold): // less than anything in chunks
		size, err := seal.ContentSize(e.Size)
		return size, err == nil, nil
	}
	size, _, err = index(ctx, b, p, e)
	var wrong *content.SizeError
	var damaged *blobs.DamageError
	if errors.Is(err, blobs.ErrNotFound) || errors.Is(err, blobs.ErrIncomplete) || errors.Is(err,
		seal.ErrSealed) ||
		errors.As(err, &wrong) || errors.As(err, &damaged) {
		return 0, false, nil
	}
	return size, err == nil, err
}

// Open opens the content of an entry for reading, as [content.Open] does, whether it is sealed or
// not. It may also return seal.ErrSealed, now or when it is read.
func Open(
	ctx context.Context, b *blobs.Store, p *replica.Plain, e *replica.Entry,
) (content.Reader, error) {
	if !p.Encrypted() {
		return content.Open(ctx, b, e.Hash, e.Size)
	}
	size, x, err := index(ctx, b, p, e)
	if err != nil {
		return nil, err
	}
	o := opener{b: b, p: p}
	one := chunked.Chunks{Hashes: []blobs.Hash{e.Hash}, Sizes: []uint64{size}}
	if x != nil {
		r := x.Reader(ctx, o.open)
		if _, err := r.ReadAt(make([]byte, 1), 0); err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		return r, nil
	}
	if _, err := o.open(ctx, e.Hash); err != nil {
		return nil, err
	}
	return chunked.NewReader(ctx, o.open, one), nil
}

// Copy returns what writes one blob of content to a file.
func Copy(
	b *blobs.Store, p *replica.Plain,
) func(ctx context.Context, f *os.File, h blobs.Hash, size uint64, progress func(written uint64)) error {
	return func(ctx context.Context, f *os.File, h blobs.Hash, size uint64,
		progress func(written uint64)) error {
		o := opener{b: b, p: p}
		r, err := o.open(ctx, h)
		if err != nil {
			return err
		}
		written, err := io.CopyBuffer(struct{ io.Writer }{f}, io.NewSectionReader(r, 0, int64(size)),
			make([]byte, chunked.MaxChunk))
		if err == nil && uint64(written) != size {
			err = fmt.Errorf("content %s: %d bytes, expected %d", h.Short(), written, size)
		}
		progress(uint64(written))
		return err
	}
}

// opener opens sealed blobs. It keeps the last one, since reads follow on each other.
type opener struct {
	b *blobs.Store
	p *replica.Plain

	mu   sync.Mutex
	hash blobs.Hash
	last *seal.Reader
}

func (o *opener) open(ctx context.Context, h blobs.Hash) (io.ReaderAt, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.last == nil || o.hash != h {
		r, err := o.b.Reader(ctx, h)
		if err != nil {
			return nil, err
		}
		open, err := o.p.OpenContent(r, uint64(r.Size()))
		if err != nil {
			return nil, fmt.Errorf("content %s: %w", h.Short(), err)
		}
		o.hash, o.last = h, open
	}
	return oneAtATime{&o.mu, o.last}, nil
}

// oneAtATime reads from a Reader that several callers may have.
type oneAtATime struct {
	mu *sync.Mutex
	r  *seal.Reader
}

func (r oneAtATime) ReadAt(b []byte, off int64) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.r.ReadAt(b, off)
}

// Tiny returns the content of some entries, each in its place: of those whose content the store
// keeps as a record, as [blobs.Store.ReadTiny] says, opened if it is sealed. It returns nil for
// others, and for content that is not here or cannot be opened: Open says which.
func Tiny(
	ctx context.Context, b *blobs.Store, p *replica.Plain, all []*replica.Entry,
) ([][]byte, error) {
	hashes, at := make([]blobs.Hash, 0, len(all)), make([]int, 0, len(all))
	for i, e := range all {
		if e.Size > 0 && e.Size <= blobs.InlineSize {
			hashes, at = append(hashes, e.Hash), append(at, i)
		}
	}
	stored, err := b.ReadTiny(ctx, hashes)
	if err != nil {
		return nil, err
	}
	out := make([][]byte, len(all))
	open := func(i int, content []byte) {
		switch {
		case uint64(len(content)) != all[i].Size: // it is not here, or the entry is wrong
		case !p.Encrypted():
			out[i] = content
		default:
			if opened, err := p.OpenBytes(content); err == nil {
				out[i] = opened
			}
		}
	}
	const each = 256 // of them are opened by one goroutine
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for from := 0; from < len(stored); from += each {
		g.Go(func() error {
			for n := from; n < min(from+each, len(stored)); n++ {
				open(at[n], stored[n])
			}
			return nil
		})
	}
	_ = g.Wait() // never fails
	return out, nil
}
