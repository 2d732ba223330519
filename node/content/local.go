package content

import (
	"bytes"
	"context"
	"errors"
	"io"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/chunked"
	"github.com/skerry-sync/skerry/internal/disk"
)

// ImportOpen stores an open regular file, from its beginning, as the content of an entry:
// one blob, or in chunks if it is large. size is that of the content. f is not closed.
func ImportOpen(
	ctx context.Context, to *blobs.Store, f *disk.File, progress func(read uint64),
) (h blobs.Hash, size uint64, err error) {
	if f.Size < chunked.Threshold || f.Size > chunked.MaxSize {
		info, err := to.ImportOpen(ctx, f, blobs.ImportOptions{Progress: progress})
		return info.Hash, info.Size, err
	}
	c, err := chunked.Import(ctx, to, f.Reader(), progress)
	return c.Hash, c.Size, err
}

// ImportStream is ImportOpen for what r yields. Less than chunked.Threshold is held in
// memory.
func ImportStream(
	ctx context.Context, to *blobs.Store, r io.Reader, progress func(read uint64),
) (h blobs.Hash, size uint64, err error) {
	first, err := io.ReadAll(io.LimitReader(r, chunked.Threshold))
	if err != nil {
		return h, 0, err
	}
	if len(first) < chunked.Threshold {
		info, err := to.ImportBytes(ctx, first)
		return info.Hash, info.Size, err
	}
	c, err := chunked.Import(ctx, to, io.MultiReader(bytes.NewReader(first), r), progress)
	return c.Hash, c.Size, err
}

// Open opens the content that an entry names by hash and size, for as long as ctx lives.
// What is not here gives blobs.ErrNotFound or blobs.ErrIncomplete, now or when it is read.
func Open(
	ctx context.Context, from *blobs.Store, h blobs.Hash, size uint64,
) (Reader, error) {
	r, err := from.Reader(ctx, h)
	if err != nil {
		return nil, err
	}
	if uint64(r.Size()) == size {
		return r, nil
	}
	c, err := Chunks(ctx, from, h, size)
	if err != nil {
		return nil, err
	}
	return c.Reader(ctx, chunked.FromStore(from)), nil
}

// Chunks finds the chunks of content of size bytes that is named by its sequence h, or returns a
// *SizeError if h is something else.
func Chunks(
	ctx context.Context, from *blobs.Store, h blobs.Hash, size uint64,
) (*chunked.Index, error) {
	info, err := from.Stat(ctx, h)
	if err != nil {
		return nil, err
	}
	if !chunked.Fits(info.Size, size) {
		return nil, &SizeError{h, size, info.Size}
	}
	x, err := chunked.Open(ctx, from, h)
	bad := errors.Is(err, chunked.ErrNotChunked) || errors.Is(err, chunked.ErrBadList)
	if bad || err == nil && x.Size() != size {
		return nil, &SizeError{h, size, info.Size}
	}
	if err != nil {
		return nil, err
	}
	return x, from.TouchSequence(ctx, h)
}
