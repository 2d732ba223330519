package chunked

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/skerry-sync/skerry/blobs"
)

// An Index finds the chunks of a chunked file that is in a store. Its memory is 16 bytes for each
// 1,024 chunks: a sequence and its list can have 144 MiB, and whoever writes an entry chooses them.
// So it reads the two again where it is asked about them. Its methods may be called at the same
// time.
type Index struct {
	store  *blobs.Store
	seq    blobs.Hash
	list   blobs.Hash
	count  uint64 // of chunks
	size   uint64 // of the content, in bytes
	blocks []place
	sizeOf func(stored uint64) (uint64, error) // nil if the chunks are read as they are stored
}

// place is where a block of chunks begins.
type place struct {
	content uint64 // offset in the content
	list    uint64 // offset in the list
}

const (
	// blockChunks is how many chunks an Index reads at a time.
	blockChunks = 1024
	// listBuffer is how much of a list is read at a time, in bytes.
	listBuffer = 64 << 10
)

// Open reads the sequence h and its list. It returns blobs.ErrNotFound or blobs.ErrIncomplete if
// they are not all here. Both are hashed again, so that ErrNotChunked and ErrBadList are true of
// the content which the hash h names, for all nodes: what is damaged in this store is a
// *blobs.DamageError.
func Open(ctx context.Context, s *blobs.Store, h blobs.Hash) (*Index, error) {
	r, err := s.Reader(ctx, h)
	if err != nil {
		return nil, err
	}
	size := uint64(r.Size())
	if !canBeSequence(size) {
		return nil, ErrNotChunked
	}
	x := &Index{store: s, seq: h, count: size/blobs.HashSize - 1}
	if _, err := r.ReadAt(x.list[:], 0); err != nil {
		return nil, err
	}
	if err := x.checkHead(ctx); err != nil {
		return nil, err
	}
	err = x.scan(ctx)
	if err != nil && !errors.Is(err, ErrBadList) {
		return nil, err
	}
	// What the list says counts if the list is what it was, and the sequence, too.
	for _, part := range []blobs.Hash{x.list, h} {
		if err := s.Check(ctx, part, blobs.Everything); err != nil {
			return nil, err
		}
	}
	if err != nil {
		return nil, err
	}
	info, err := s.Stat(ctx, h)
	if err == nil && !info.Complete {
		err = fmt.Errorf("%w: sequence %s", blobs.ErrIncomplete, h.Short())
	}
	if err != nil {
		return nil, err
	}
	return x, nil
}

// checkHead makes sure that the first child begins like a list and is not too long. Most blobs are
// no sequences, and need not be read to find that.
func (x *Index) checkHead(ctx context.Context) error {
	l, err := x.store.Reader(ctx, x.list)
	if errors.Is(err, blobs.ErrNotFound) {
		return errors.Join(checkHeads(ctx, x.store, x.seq, x.list), err)
	}
	if err != nil {
		return err
	}
	head := make([]byte, len(magic))
	longest := min(MaxList, LongestList((x.count+1)*blobs.HashSize))
	if uint64(l.Size()) >= uint64(len(head)) && uint64(l.Size()) <= longest {
		if _, err := l.ReadAt(head, 0); err != nil {
			return err
		}
	}
	if IsList(head) {
		return nil
	}
	if err := checkHeads(ctx, x.store, x.seq, x.list); err != nil {
		return err
	}
	return ErrNotChunked
}

// listReader reads a list from an offset on, and knows where it is.
type listReader struct {
	*bufio.Reader
	at uint64
}

func (r *listReader) ReadByte() (byte, error) {
	b, err := r.Reader.ReadByte()
	if err == nil {
		r.at++
	}
	return b, err
}

func (x *Index) readList(ctx context.Context, from uint64) (*listReader, error) {
	l, err := x.store.Reader(ctx, x.list)
	if err != nil {
		return nil, err
	}
	if _, err := l.Seek(int64(from), io.SeekStart); err != nil {
		return nil, err
	}
	return &listReader{bufio.NewReaderSize(l, listBuffer), from}, nil
}

// number reads a varint. Unlike binary.ReadUvarint it tells a list that is wrong from one that
// cannot be read.
func (r *listReader) number() (n uint64, err error) {
	for shift := 0; ; shift += 7 {
		b, err := r.ReadByte()
		switch {
		case errors.Is(err, io.EOF):
			return 0, fmt.Errorf("%w: cut short at byte %d", ErrBadList, r.at)
		case err != nil:
			return 0, err
		case shift == 63 && b > 1:
			return 0, fmt.Errorf("%w: a number of more than 64 bits at byte %d", ErrBadList, r.at)
		}
		n |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return n, nil
		}
	}
}

// chunk reads the length of a chunk, as it is stored and as it is read.
func (x *Index) chunk(r *listReader) (size uint64, err error) {
	size, err = r.number()
	switch {
	case err != nil:
		return 0, err
	case size == 0 || size > MaxChunk:
		return 0, fmt.Errorf("%w: a chunk of %d bytes", ErrBadList, size)
	case x.sizeOf != nil:
		return x.sizeOf(size)
	}
	return size, nil
}

// scan reads the list and notes where blocks begin.
func (x *Index) scan(ctx context.Context) error {
	r, err := x.readList(ctx, uint64(len(magic)))
	if err != nil {
		return err
	}
	n, err := r.number()
	if err != nil {
		return err
	}
	if n != x.count {
		return fmt.Errorf("%w: chunked file %s: its list has %d chunks, its sequence %d",
			ErrBadList, x.seq.Short(), n, x.count)
	}
	x.blocks, x.size = make([]place, 0, (n+blockChunks-1)/blockChunks), 0
	for i := range n {
		if i%blockChunks == 0 {
			x.blocks = append(x.blocks, place{x.size, r.at})
		}
		size, err := x.chunk(r)
		if err != nil {
			return err
		}
		x.size += size
	}
	switch _, err := r.ReadByte(); {
	case err == nil:
		return fmt.Errorf("%w: bytes after the last of %d lengths", ErrBadList, n)
	case !errors.Is(err, io.EOF):
		return err
	}
	return nil
}

// Resized returns an index of the same chunks, each of which is read as sizeOf(its stored length)
// bytes.
func (x *Index) Resized(
	ctx context.Context, sizeOf func(stored uint64) (uint64, error),
) (*Index, error) {
	out := *x
	out.sizeOf = sizeOf
	return &out, out.scan(ctx)
}

// Hash returns the hash of the sequence.
func (x *Index) Hash() blobs.Hash { return x.seq }

// Size returns the length of the content in bytes.
func (x *Index) Size() uint64 { return x.size }

// Len returns the number of chunks.
func (x *Index) Len() int { return int(x.count) }

// block reads a block of chunks.
func (x *Index) block(ctx context.Context, i int) (Chunks, error) {
	first := uint64(i) * blockChunks
	n := min(blockChunks, x.count-first)
	r, err := x.store.Reader(ctx, x.seq)
	if err != nil {
		return Chunks{}, err
	}
	b := make([]byte, n*blobs.HashSize)
	if _, err := r.ReadAt(b, int64((first+1)*blobs.HashSize)); err != nil {
		return Chunks{}, fmt.Errorf("sequence %s: %w", x.seq.Short(), err)
	}
	hashes, err := blobs.ParseSequence(b)
	if err != nil {
		return Chunks{}, err
	}
	list, err := x.readList(ctx, x.blocks[i].list)
	if err != nil {
		return Chunks{}, err
	}
	sizes := make([]uint64, n)
	for k := range sizes {
		if sizes[k], err = x.chunk(list); err != nil {
			return Chunks{}, err
		}
	}
	return Chunks{Hashes: hashes, Sizes: sizes}, nil
}

// List returns the hash of the list of the chunks' lengths.
func (x *Index) List() blobs.Hash { return x.list }

// Each calls fn with all chunks in order, at most 1,024 at a time.
func (x *Index) Each(ctx context.Context, fn func(Chunks) error) error {
	return x.EachFrom(ctx, 0, fn)
}

// EachFrom is Each without the chunks before the one with the number first, counted from 0.
func (x *Index) EachFrom(ctx context.Context, first int, fn func(Chunks) error) error {
	for i := first / blockChunks; i < len(x.blocks); i++ {
		c, err := x.block(ctx, i)
		if skip := first - i*blockChunks; err == nil && skip > 0 {
			skip = min(skip, len(c.Hashes))
			c = Chunks{Hashes: c.Hashes[skip:], Sizes: c.Sizes[skip:]}
		}
		if err == nil {
			err = fn(c)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// CopyTo writes the content to f. progress, if not nil, is told the bytes written.
func (x *Index) CopyTo(ctx context.Context, f *os.File, progress func(written uint64)) error {
	var done uint64
	return x.Each(ctx, func(c Chunks) error {
		for i, h := range c.Hashes {
			r, err := x.store.Reader(ctx, h)
			if err != nil {
				return err
			}
			if uint64(r.Size()) != c.Sizes[i] {
				return fmt.Errorf("chunk %s has %d bytes, its list says %d", h.Short(), r.Size(), c.Sizes[i])
			}
			if err := r.CopyTo(f, nil); err != nil {
				return err
			}
			if done += c.Sizes[i]; progress != nil {
				progress(done)
			}
		}
		return nil
	})
}

// Load is Open for somebody who needs all chunks at once, for which it takes 40 bytes each.
func Load(ctx context.Context, s *blobs.Store, h blobs.Hash) (Chunks, error) {
	x, err := Open(ctx, s, h)
	if err != nil {
		return Chunks{}, err
	}
	return x.All(ctx)
}

// All returns all chunks, for which it takes 40 bytes each.
func (x *Index) All(ctx context.Context) (out Chunks, err error) {
	out = Chunks{make([]blobs.Hash, 0, x.count), make([]uint64, 0, x.count)}
	err = x.Each(ctx, func(c Chunks) error {
		out.Hashes, out.Sizes = append(out.Hashes, c.Hashes...), append(out.Sizes, c.Sizes...)
		return nil
	})
	return out, err
}
