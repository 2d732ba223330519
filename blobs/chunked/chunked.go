// Package chunked keeps large content as many blobs, cut where the content itself says, so that an
// edit changes only the chunks around it, and what two versions have in common is stored and sent
// once.
//
// What belongs here: where to cut, the file format (a sequence whose first child lists the lengths
// of the others), and reading the parts as one. What never belongs here: names of files, which
// package directory keeps, and peers.
//
// Cuts are those of FastCDC (Xia et al., USENIX ATC 2016) with the parameters below. They are part
// of the format: nodes that cut alike share chunks.
package chunked

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"

	chunkers "github.com/PlakarKorp/go-cdc-chunkers"
	_ "github.com/PlakarKorp/go-cdc-chunkers/chunkers/fastcdc" // registers the algorithm
	"golang.org/x/sync/errgroup"

	"github.com/skerry-sync/skerry/blobs"
)

const (
	// MinChunk, AverageChunk and MaxChunk bound the length of a chunk in bytes; only the last one may
	// be shorter.
	MinChunk     = 64 << 10
	AverageChunk = 256 << 10
	MaxChunk     = blobs.SegmentSize
	// Threshold is the size in bytes from which content is worth to be chunked.
	Threshold = 4 << 20
	// MaxSize is the largest content in bytes that can be chunked: its chunks must fit in one
	// sequence.
	MaxSize = (blobs.MaxChildren - 1) * uint64(MinChunk)

	algorithm = "fastcdc-v1.0.0"
)

// Chunks is content in parts.
type Chunks struct {
	Hashes []blobs.Hash
	Sizes  []uint64 // bytes; as many as Hashes
}

// Size returns the length of the content in bytes.
func (c Chunks) Size() (n uint64) {
	for _, s := range c.Sizes {
		n += s
	}
	return n
}

// batch is consecutive chunks on their way to the store.
type batch struct {
	first int // index of the first chunk
	buf   []byte
	sizes []int
}

const batchBytes = 2 * MaxChunk

// Options change how content is split; the zero value is how all nodes do it.
type Options struct {
	// Progress, if not nil, is told the bytes read.
	Progress func(read uint64)
	// CutKey, of 32 bytes, if not nil, decides where to cut, so that the lengths of chunks say nothing
	// about the content.
	CutKey []byte
	// Store, if not nil, appends to dst what is stored for a chunk, at most Overhead bytes more. It is
	// called from several goroutines.
	Store    func(dst, chunk []byte) ([]byte, error)
	Overhead int
}

// Split cuts what r yields and stores the chunks. Cutting runs beside hashing and writing. It is
// durable after the store's next Sync.
func Split(
	ctx context.Context, s *blobs.Store, r io.Reader, progress func(read uint64),
) (Chunks, error) {
	return SplitWith(ctx, s, r, Options{Progress: progress})
}

// SplitWith is Split with options. The sizes that it returns are those of what is stored.
func SplitWith(ctx context.Context, s *blobs.Store, r io.Reader, opt Options) (Chunks, error) {
	var out Chunks
	g, gctx := errgroup.WithContext(ctx)
	workers := runtime.GOMAXPROCS(0)
	work, free := make(chan *batch), make(chan *batch, workers+1)
	for range workers + 1 {
		free <- &batch{buf: make([]byte, 0, batchBytes)}
	}
	type placed struct {
		first  int
		hashes []blobs.Hash
		sizes  []uint64
	}
	done := make(chan placed, workers)
	g.Go(func() error {
		defer close(work)
		var err error
		out.Sizes, err = cut(gctx, r, free, work, opt)
		return err
	})
	hashing, hctx := errgroup.WithContext(gctx)
	for range workers {
		hashing.Go(func() error {
			im := s.NewImporter(hctx)
			var stored []byte
			for b := range work {
				p := placed{first: b.first}
				at := 0
				for _, n := range b.sizes {
					chunk := b.buf[at : at+n]
					if opt.Store != nil {
						var err error
						if stored, err = opt.Store(stored[:0], chunk); err != nil {
							return err
						}
						chunk = stored
					}
					h, err := im.Add(chunk)
					if err != nil {
						return err
					}
					p.hashes, p.sizes = append(p.hashes, h), append(p.sizes, uint64(len(chunk)))
					at += n
				}
				free <- b
				done <- p
			}
			return im.Flush()
		})
	}
	g.Go(func() error {
		defer close(done)
		return hashing.Wait()
	})
	var all []placed
	g.Go(func() error {
		for p := range done {
			all = append(all, p)
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		return Chunks{}, err
	}
	out.Hashes = make([]blobs.Hash, len(out.Sizes))
	for _, p := range all {
		copy(out.Hashes[p.first:], p.hashes)
		copy(out.Sizes[p.first:], p.sizes)
	}
	return out, nil
}

// cut reads r to its end and sends the chunks in batches.
func cut(
	ctx context.Context, r io.Reader, free <-chan *batch, work chan<- *batch, opt Options,
) (sizes []uint64, err error) {
	opts := &chunkers.ChunkerOpts{
		MinSize: MinChunk, NormalSize: AverageChunk, MaxSize: MaxChunk - opt.Overhead, Key: opt.CutKey,
	}
	c, err := chunkers.NewChunkerBuffer(algorithm, r, opts, make([]byte, 4*MaxChunk))
	if err != nil {
		return nil, fmt.Errorf("content-defined chunking: %w", err)
	}
	var b *batch
	send := func() error {
		select {
		case work <- b:
			b = nil
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	var total uint64
	for {
		chunk, err := c.Next()
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		if len(chunk) > 0 {
			if b != nil && len(b.buf)+len(chunk) > batchBytes {
				if err := send(); err != nil {
					return nil, err
				}
			}
			if b == nil {
				select {
				case b = <-free:
				case <-ctx.Done():
					return nil, ctx.Err()
				}
				b.first, b.buf, b.sizes = len(sizes), b.buf[:0], b.sizes[:0]
			}
			b.buf = append(b.buf, chunk...)
			b.sizes = append(b.sizes, len(chunk))
			sizes = append(sizes, uint64(len(chunk)))
			if total += uint64(len(chunk)); total > MaxSize || len(sizes) >= blobs.MaxChildren {
				return nil, fmt.Errorf("larger than %d bytes: too large to be chunked", MaxSize)
			}
			if opt.Progress != nil {
				opt.Progress(total)
			}
		}
		if err != nil {
			if b == nil {
				return sizes, nil
			}
			return sizes, send()
		}
	}
}

// A chunked file is a sequence: child 0 is the list, and the others are the chunks. The list is
//
//	"skerry file 1\n", number of chunks varint, then the length of each as a varint
const magic = "skerry file 1\n"

// MaxList is the longest list in bytes.
const MaxList = 16 << 20

// ErrNotChunked reports a blob that is not the sequence of a chunked file.
var ErrNotChunked = errors.New("not a chunked file")

// ErrBadList reports the sequence of a chunked file whose list is malformed or does not fit. No
// other content has its hash, so it stays so.
var ErrBadList = errors.New("malformed list of chunks")

// Fits reports whether a blob of size bytes can be the sequence of a chunked file of content bytes:
// every chunk but the last has at least MinChunk bytes, and none has more than MaxChunk.
func Fits(size, content uint64) bool {
	if !canBeSequence(size) || content == 0 {
		return false
	}
	chunks := size/blobs.HashSize - 1
	return (content-1)/MaxChunk < chunks && chunks <= (content-1)/MinChunk+1
}

// LongestList returns the length in bytes of the longest list of a sequence of size bytes.
func LongestList(size uint64) uint64 {
	return uint64(len(magic)) + binary.MaxVarintLen32 + size/blobs.HashSize*sizeBytes
}

// sizeBytes is the longest varint of the length of a chunk.
const sizeBytes = 3

// IsList reports whether b begins like a list; the first 14 bytes are enough.
func IsList(b []byte) bool { return bytes.HasPrefix(b, []byte(magic)) }

// List encodes the lengths of the chunks.
func List(sizes []uint64) []byte { return AppendSizes([]byte(magic), sizes) }

// AppendSizes appends the number of sizes and each, as varints.
func AppendSizes(b []byte, sizes []uint64) []byte {
	b = binary.AppendUvarint(b, uint64(len(sizes)))
	for _, n := range sizes {
		b = binary.AppendUvarint(b, n)
	}
	return b
}

// ReadSizes reads what AppendSizes wrote. It fails for a length that a chunk cannot have.
func ReadSizes(r *bytes.Reader) ([]uint64, error) {
	count, err := binary.ReadUvarint(r)
	if err != nil {
		return nil, fmt.Errorf("lengths of chunks: cut short: %w", err)
	}
	if count == 0 || count >= blobs.MaxChildren || count > uint64(r.Len()) {
		return nil, fmt.Errorf("%d chunks", count)
	}
	sizes := make([]uint64, count)
	for i := range sizes {
		if sizes[i], err = binary.ReadUvarint(r); err != nil {
			return nil, fmt.Errorf("lengths of chunks: cut short: %w", err)
		}
		if sizes[i] == 0 || sizes[i] > MaxChunk {
			return nil, fmt.Errorf("a chunk of %d bytes", sizes[i])
		}
	}
	return sizes, nil
}

// ParseList decodes a list, or returns ErrNotChunked. Index reads lists of others, which can be
// large.
func ParseList(b []byte) ([]uint64, error) {
	if !bytes.HasPrefix(b, []byte(magic)) {
		return nil, ErrNotChunked
	}
	r := bytes.NewReader(b[len(magic):])
	sizes, err := ReadSizes(r)
	if err == nil && r.Len() > 0 {
		err = fmt.Errorf("%d bytes too many", r.Len())
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadList, err)
	}
	return sizes, nil
}

// File is what Import stored.
type File struct {
	Hash   blobs.Hash // of the sequence
	Size   uint64     // of the content, in bytes
	Chunks int
}

// Import stores what r yields as a chunked file.
func Import(
	ctx context.Context, s *blobs.Store, r io.Reader, progress func(read uint64),
) (File, error) {
	return ImportWith(ctx, s, r, Options{Progress: progress})
}

// ImportWith is Import with options. The size that it returns is that of what is stored.
func ImportWith(ctx context.Context, s *blobs.Store, r io.Reader, opt Options) (File, error) {
	chunks, err := SplitWith(ctx, s, r, opt)
	if err != nil {
		return File{}, fmt.Errorf("import in chunks: %w", err)
	}
	if len(chunks.Hashes) == 0 {
		return File{}, errors.New("import in chunks: nothing to import")
	}
	list, err := s.ImportBytes(ctx, List(chunks.Sizes))
	if err != nil {
		return File{}, err
	}
	seq, err := s.ImportBytes(ctx, append(blobs.Sequence{list.Hash}, chunks.Hashes...).Bytes())
	return File{seq.Hash, chunks.Size(), len(chunks.Hashes)}, err
}

// canBeSequence reports whether a blob of size bytes can be a list of chunks and its chunks.
func canBeSequence(size uint64) bool {
	return size%blobs.HashSize == 0 && size >= 2*blobs.HashSize &&
		size <= blobs.MaxChildren*blobs.HashSize
}

// IsSequence reports whether the blob h is the sequence of a chunked file: whether its first child,
// as far as that is here, begins like a list. It reads no more than the beginnings of both. A "no"
// rests on content that has been hashed again; if that is damaged, a *blobs.DamageError says so.
func IsSequence(ctx context.Context, s *blobs.Store, h blobs.Hash) (bool, error) {
	info, err := s.Stat(ctx, h)
	if err != nil || !canBeSequence(info.Size) {
		return false, ignoreAbsent(err)
	}
	var child blobs.Hash
	if ok, err := readHead(ctx, s, h, child[:]); !ok || err != nil {
		return false, err
	}
	head := make([]byte, len(magic))
	ok, err := readHead(ctx, s, child, head)
	if err == nil && (!ok || !IsList(head)) {
		return false, checkHeads(ctx, s, h, child)
	}
	return ok && err == nil, err
}

// checkHeads hashes again the beginnings of a sequence and of its first child.
func checkHeads(ctx context.Context, s *blobs.Store, h, child blobs.Hash) error {
	if err := s.Check(ctx, h, blobs.Ranges{{Start: 0, End: blobs.HashSize}}); err != nil {
		return ignoreAbsent(err)
	}
	return ignoreAbsent(s.Check(ctx, child, blobs.Ranges{{Start: 0, End: uint64(len(magic))}}))
}

// peeked is how many hashes MayBeSequence looks at.
const peeked = 32

// MayBeSequence reports whether the blob h, of which the first child is not here or is damaged, is
// the sequence of a chunked file all the same, as far as one can tell: whether another one of its
// first children is stored.
func MayBeSequence(ctx context.Context, s *blobs.Store, h blobs.Hash) (bool, error) {
	info, err := s.Stat(ctx, h)
	if err != nil || !canBeSequence(info.Size) {
		return false, ignoreAbsent(err)
	}
	b := make([]byte, min(info.Size, peeked*blobs.HashSize))
	if ok, err := readHead(ctx, s, h, b); !ok || err != nil {
		return false, err
	}
	seq, err := blobs.ParseSequence(b)
	if err != nil {
		return false, err
	}
	found := false
	err = s.Stats(
		ctx, seq[1:], func(_ int, _ blobs.Info, known bool, _ func() (blobs.Ranges, error)) error {
			found = found || known
			return nil
		},
	)
	return found, err
}

// readHead fills b with the beginning of a blob. It returns false if that is not here.
func readHead(ctx context.Context, s *blobs.Store, h blobs.Hash, b []byte) (bool, error) {
	r, err := s.Reader(ctx, h)
	if err != nil || r.Size() < int64(len(b)) {
		return false, ignoreAbsent(err)
	}
	_, err = r.ReadAt(b, 0)
	return err == nil, ignoreAbsent(err)
}

func ignoreAbsent(err error) error {
	var moved *blobs.ReferenceError
	if errors.Is(err, blobs.ErrIncomplete) || errors.Is(err, blobs.ErrNotFound) ||
		errors.As(err, &moved) {
		return nil
	}
	return err
}
