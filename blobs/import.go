package blobs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/skerry-sync/skerry/internal/disk"
	"github.com/skerry-sync/skerry/kv"
)

// ImportOptions tune an import; the zero value is fine.
type ImportOptions struct {
	// Progress, if set, is called now and then, by one goroutine at a time, with the number of bytes
	// read so far.
	Progress func(read uint64)
	// Reference makes ImportFile store only the tree, and the file's place: its content is read from
	// there whenever it is wanted, and verified each time.
	Reference bool
}

// Import stores everything that r yields and returns what became of it. Memory does not grow with
// the size. If ctx ends or r fails, nothing remains. The blob is durable after the next Sync.
func (s *Store) Import(ctx context.Context, r io.Reader, o ImportOptions) (Info, error) {
	first := make([]byte, SegmentSize+1)
	n, err := io.ReadFull(r, first)
	switch {
	case err == nil:
		return s.importLarge(ctx, &streamSource{r: r, ahead: first}, o, nil)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		if o.Progress != nil {
			o.Progress(uint64(n))
		}
		return s.ImportBytes(ctx, first[:n])
	}
	return Info{}, fmt.Errorf("import: %w", err)
}

// ImportFile imports a regular file. One that is written to meanwhile gives an error, or is stored
// as it was at some moment of each part. Anything but a regular file gives a *disk.NotRegularError:
// a pipe or a device may never end.
func (s *Store) ImportFile(ctx context.Context, name string, o ImportOptions) (Info, error) {
	f, err := disk.OpenRegular(name)
	if err != nil {
		return Info{}, fmt.Errorf("import: %w", err)
	}
	defer f.Close()
	return s.ImportOpen(ctx, f, o)
}

// ImportOpen is ImportFile for a file that is open already. f is not closed.
func (s *Store) ImportOpen(
	ctx context.Context, f *disk.File, o ImportOptions,
) (info Info, err error) {
	switch {
	case o.Reference && f.Size > 0:
		info, err = s.reference(ctx, f, o)
	case f.Size > SegmentSize:
		info, err = s.importLarge(ctx, &fileSource{f: f.File, size: f.Size}, o, nil)
	default:
		info, err = s.Import(ctx, f.Reader(), o)
	}
	if err != nil {
		return Info{}, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return info, nil
}

// reference notes f without copying it.
func (s *Store) reference(ctx context.Context, f *disk.File, o ImportOptions) (Info, error) {
	path, err := filepath.Abs(f.Name())
	if err != nil {
		return Info{}, fmt.Errorf("import: %w", err)
	}
	source := &fileSource{f: f.File, size: f.Size}
	return s.importLarge(ctx, source, o, &reference{path, f.Info.ModTime()})
}

// ImportBytes stores data.
func (s *Store) ImportBytes(ctx context.Context, data []byte) (Info, error) {
	if len(data) > SegmentSize {
		return s.importLarge(ctx, &streamSource{r: eof{}, ahead: data}, ImportOptions{}, nil)
	}
	b := hashSmall(make([]byte, 0, treeBytes(fanOut)+len(data)), data)
	if err := s.putSmall(ctx, []smallBlob{b}, false); err != nil {
		return Info{}, fmt.Errorf("import: %w", err)
	}
	return Info{Hash: b.hash, Size: b.size, Complete: true, Present: b.size}, nil
}

type eof struct{}

func (eof) Read([]byte) (int, error) { return 0, io.EOF }

// segmentSource gives out content a segment at a time. Its methods may be called at the same time.
type segmentSource interface {
	// next fills buf, of SegmentSize bytes, with the next segment; n is 0 when there is none. last is
	// set with the last one.
	next(buf []byte) (index uint64, n int, last bool, err error)
}

// fileSource reads segments at their offsets, several at a time.
type fileSource struct {
	f    *os.File
	size uint64
	mu   sync.Mutex
	at   uint64 // index of the next segment
}

func (x *fileSource) next(buf []byte) (index uint64, n int, last bool, err error) {
	x.mu.Lock()
	index = x.at
	x.at++
	x.mu.Unlock()
	off := index * SegmentSize
	if off >= x.size {
		return index, 0, false, nil
	}
	want := int(min(SegmentSize, x.size-off))
	n, err = x.f.ReadAt(buf[:want], int64(off))
	if n == want {
		return index, n, off+uint64(n) == x.size, nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = errors.New("the file became shorter while it was read: try again")
	}
	return index, n, false, err
}

// streamSource reads one segment after the other, and one byte ahead, so that it knows which one is
// the last.
type streamSource struct {
	r     io.Reader
	mu    sync.Mutex
	ahead []byte // read, and not given out yet
	at    uint64
	done  bool
	one   [1]byte
}

func (x *streamSource) next(buf []byte) (index uint64, n int, last bool, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.done {
		return x.at, 0, false, nil
	}
	index = x.at
	x.at++
	n = copy(buf, x.ahead)
	x.ahead = x.ahead[n:]
	m, err := io.ReadFull(x.r, buf[n:])
	n += m
	if err == nil && len(x.ahead) == 0 {
		if _, err = io.ReadFull(x.r, x.one[:]); err == nil {
			x.ahead = x.one[:]
		}
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		x.done, err = len(x.ahead) == 0, nil
	}
	return index, n, x.done, err
}

// importLarge stores content of its own file, or only its tree, if ref says where it lies already.
func (s *Store) importLarge(
	ctx context.Context, from segmentSource, o ImportOptions, ref *reference,
) (info Info, err error) {
	rec := record{state: stateComplete}
	if ref != nil {
		rec = record{state: stateReferenced, ref: *ref, id: newContentID()}
		// Until the record is there, the blocks count as garbage, as the file of newFile does.
		err = s.kv.Update(ctx, func(tx kv.Txn) error { return tx.Set(idKey(keyGarbage, rec.id), nil) })
	} else {
		rec.id, err = s.newFile(ctx)
	}
	if err != nil {
		return Info{}, fmt.Errorf("import: %w", err)
	}
	w := &importWork{s: s, from: from, rec: &rec, progress: o.Progress}
	hash, err := w.run(ctx)
	if err == nil {
		err = s.publish(ctx, hash, rec)
	}
	if err != nil {
		// The cause may be that ctx has ended; what was written must go all the same, now or at the next
		// Open.
		return Info{}, errors.Join(
			fmt.Errorf("import: %w", err), s.reap(context.WithoutCancel(ctx), rec.id),
		)
	}
	return rec.info(hash), nil
}

// importWork hashes the segments of one blob, several at a time, and writes them one after the
// other: the file system lets only one writer into a file anyway, and is fastest when the file
// grows at its end.
type importWork struct {
	s        *Store
	from     segmentSource
	rec      *record
	progress func(uint64)
	free     chan []byte // buffers of SegmentSize
}

// hashedSegment is a segment on its way from a worker to the file and the tree.
type hashedSegment struct {
	index uint64
	cv    Hash
	tree  []byte
	data  []byte
}

// treeBatch is how many blocks of parents are written together.
const treeBatch = 128

func (w *importWork) run(ctx context.Context) (hash Hash, err error) {
	g, ctx := errgroup.WithContext(ctx)
	count := runtime.GOMAXPROCS(0)
	buffers := 2*count + 2
	w.free = make(chan []byte, buffers)
	for range buffers {
		w.free <- make([]byte, SegmentSize)
	}
	out := make(chan hashedSegment, buffers)
	var workers errgroup.Group
	for range count {
		workers.Go(func() error { return w.work(ctx, out) })
	}
	g.Go(func() error {
		defer close(out)
		return workers.Wait()
	})
	g.Go(func() (err error) {
		hash, err = w.collect(ctx, out)
		return err
	})
	return hash, g.Wait()
}

// work takes a buffer before it asks for a segment, so that the segment which is next in turn
// always has one.
func (w *importWork) work(ctx context.Context, out chan<- hashedSegment) error {
	for {
		var buf []byte
		select {
		case buf = <-w.free:
		case <-ctx.Done():
			return ctx.Err()
		}
		index, n, last, err := w.from.next(buf)
		if err != nil || n == 0 {
			return err
		}
		if index >= MaxSize/SegmentSize {
			return fmt.Errorf("larger than %d bytes", uint64(MaxSize))
		}
		out <- hashSegment(index, buf[:n], last && index == 0) // has room for all buffers
	}
}

// hashSegment hashes segment number index; root says that it is the whole blob.
func hashSegment(index uint64, data []byte, root bool) hashedSegment {
	n := int(groupCount(uint64(len(data))))
	h := hashedSegment{index: index, tree: make([]byte, treeBytes(n)), data: data}
	var cvs [fanOut]Hash
	for i := range n {
		at := i * GroupSize
		cvs[i] = hashGroup(data[at:min(at+GroupSize, len(data))], index*fanOut+uint64(i), root && n == 1)
	}
	h.cv = buildBlock(h.tree, cvs[:n], root)
	return h
}

// collect puts the segments in order, writes them, builds the tree above them, stores all blocks
// and returns the blob's hash. It sets the size in the record.
func (w *importWork) collect(ctx context.Context, in <-chan hashedSegment) (hash Hash, err error) {
	var blocks []upperBlock
	flush := func() error {
		err := w.s.kv.Batch(ctx, func(kw kv.Writer) error {
			for _, b := range blocks {
				if err := kw.Set(blockKey(w.rec.id, b.level, b.index), b.tree); err != nil {
					return err
				}
			}
			return nil
		})
		blocks = blocks[:0]
		return err
	}
	put := func(level int, index uint64, tree []byte) error {
		if len(tree) > 0 {
			blocks = append(blocks, upperBlock{level: level, index: index, tree: tree})
		}
		if len(blocks) < treeBatch {
			return nil
		}
		return flush()
	}
	tree := treeBuilder{put: put}
	waiting := map[uint64]hashedSegment{} // came before their turn; not more than there are buffers
	for next := uint64(0); ; {
		h, ok := waiting[next]
		if !ok {
			if h, ok = <-in; !ok {
				break
			}
			waiting[h.index] = h
			continue
		}
		delete(waiting, next)
		next++
		if w.rec.state == stateComplete {
			if err := w.s.files.WriteAt(w.rec.id, h.data, h.index*SegmentSize); err != nil {
				return hash, err
			}
		}
		w.rec.size += uint64(len(h.data))
		w.free <- h.data[:SegmentSize]
		if w.progress != nil {
			w.progress(w.rec.size)
		}
		hash = h.cv
		if err := errors.Join(put(0, h.index, h.tree), tree.add(h.cv)); err != nil {
			return hash, err
		}
	}
	if err := ctx.Err(); err != nil || len(tree.levels) == 0 {
		return hash, err
	}
	if len(tree.levels[0].children) > 1 || len(tree.levels) > 1 {
		if hash, err = tree.finish(); err != nil {
			return hash, err
		}
	}
	return hash, flush()
}

// publish makes the content under rec.id the blob h, unless there is one already; what is not
// needed is cleared away.
func (s *Store) publish(ctx context.Context, h Hash, rec record) error {
	s.Touch(h)
	var waste []contentID
	s.writing.RLock()
	err := s.kv.Update(ctx, func(tx kv.Txn) error {
		waste = waste[:0]
		old, stored, err := s.publishIn(tx, h, rec, false)
		switch {
		case err != nil:
			return err
		case !stored:
			waste = append(waste, rec.id)
			return nil // stays marked as garbage
		case old.hasBlocks():
			waste = append(waste, old.id)
		}
		return tx.Delete(idKey(keyGarbage, rec.id))
	})
	s.writing.RUnlock()
	if err != nil {
		return err
	}
	for _, id := range waste {
		if err := s.reap(ctx, id); err != nil {
			return err
		}
	}
	return nil
}
