package blobs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sync/errgroup"

	"github.com/skerry-sync/skerry/kv"
)

// importWorkers is how many segments of one import are hashed and written at the same time; it bounds the memory of an
// import to twice as many segments.
const importWorkers = 3

// ImportOptions tune an import; the zero value is fine.
type ImportOptions struct {
	// Progress, if set, is called now and then with the number of bytes read so far.
	Progress func(read uint64)
}

// Import stores everything that r yields and returns what became of it. Memory does not grow with the size. If ctx
// ends or r fails, nothing remains. The blob is durable after the next Sync.
func (s *Store) Import(ctx context.Context, r io.Reader, o ImportOptions) (Info, error) {
	if o.Progress == nil {
		o.Progress = func(uint64) {}
	}
	first := make([]byte, GroupSize+1)
	n, err := io.ReadFull(r, first)
	switch {
	case err == nil:
		return s.importLarge(ctx, first, r, o)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		o.Progress(uint64(n))
		return s.ImportBytes(ctx, first[:n])
	}
	return Info{}, fmt.Errorf("import: %w", err)
}

// ImportFile imports a regular file.
func (s *Store) ImportFile(ctx context.Context, name string, o ImportOptions) (Info, error) {
	f, err := os.Open(name)
	if err != nil {
		return Info{}, fmt.Errorf("import: %w", err)
	}
	defer f.Close()
	info, err := s.Import(ctx, f, o)
	if err != nil {
		return Info{}, fmt.Errorf("%s: %w", name, err)
	}
	return info, nil
}

// ImportBytes stores data.
func (s *Store) ImportBytes(ctx context.Context, data []byte) (Info, error) {
	if len(data) > GroupSize {
		return s.importLarge(ctx, data, eof{}, ImportOptions{Progress: func(uint64) {}})
	}
	h := hashGroup(data, 0, true)
	err := s.kv.Update(ctx, func(tx kv.Txn) error { return putInline(tx, h, data) })
	if err != nil {
		return Info{}, fmt.Errorf("import: %w", err)
	}
	return record{state: stateInline, size: uint64(len(data))}.info(h), nil
}

type eof struct{}

func (eof) Read([]byte) (int, error) { return 0, io.EOF }

// putInline stores a blob of one group.
func putInline(tx kv.Txn, h Hash, data []byte) error {
	if has, err := tx.Has(recordKey(h)); has || err != nil {
		return err
	}
	return errors.Join(
		tx.Set(recordKey(h), record{state: stateInline, size: uint64(len(data))}.marshal()),
		tx.Set(inlineKey(h), data))
}

// segmentJob is a segment on its way through an import.
type segmentJob struct {
	seg  *segment
	len  int
	root bool      // it is the whole blob
	cv   chan Hash // receives the segment's value once it is stored
}

func (s *Store) importLarge(ctx context.Context, head []byte, r io.Reader, o ImportOptions) (Info, error) {
	id := newContentID()
	// Until the record is there, the content counts as garbage: a crash leaves nothing behind that Open does not clear.
	if err := s.kv.Update(ctx, func(tx kv.Txn) error { return tx.Set(idKey(keyGarbage, id), nil) }); err != nil {
		return Info{}, fmt.Errorf("import: %w", err)
	}
	hash, size, err := s.importSegments(ctx, id, head, r, o)
	if err == nil {
		err = s.publish(ctx, hash, record{state: stateComplete, size: size, id: id})
	}
	if err != nil {
		// The cause may be that ctx has ended; what was written must go all the same, now or at the next Open.
		return Info{}, errors.Join(fmt.Errorf("import: %w", err), s.reap(context.WithoutCancel(ctx), id))
	}
	return record{state: stateComplete, size: size}.info(hash), nil
}

func (s *Store) importSegments(ctx context.Context, id contentID, head []byte, r io.Reader, o ImportOptions) (hash Hash, size uint64, err error) {
	g, ctx := errgroup.WithContext(ctx)
	work := make(chan *segmentJob)                   // to the workers
	ordered := make(chan *segmentJob, importWorkers) // the same jobs, in order, to the tree
	free := make(chan *segment, 2*importWorkers)     // segments to fill
	for range 2 * importWorkers {
		free <- new(segment)
	}
	g.Go(func() error {
		defer close(work)
		defer close(ordered)
		n, err := readSegments(ctx, head, r, o, free, work, ordered)
		size = n
		return err
	})
	for range importWorkers {
		g.Go(func() error {
			for job := range work {
				cv, err := s.storeImported(ctx, id, job)
				if err != nil {
					return err
				}
				job.cv <- cv
				free <- job.seg
			}
			return nil
		})
	}
	g.Go(func() error {
		tree := treeBuilder{put: func(level int, index uint64, tree []byte) error {
			return s.kv.Update(ctx, func(tx kv.Txn) error { return tx.Set(blockKey(id, level, index), tree) })
		}}
		for job := range ordered {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case cv := <-job.cv:
				if job.root {
					hash = cv
					continue
				}
				if err := tree.add(cv); err != nil {
					return err
				}
			}
		}
		if ctx.Err() != nil || len(tree.levels) == 0 {
			return ctx.Err()
		}
		var err error
		hash, err = tree.finish()
		return err
	})
	return hash, size, g.Wait()
}

// readSegments cuts the content into segments, reading one byte ahead so that it knows which one is the last.
func readSegments(ctx context.Context, head []byte, r io.Reader, o ImportOptions, free <-chan *segment, work, ordered chan<- *segmentJob) (uint64, error) {
	var size uint64
	for index := uint64(0); ; index++ {
		var seg *segment
		select {
		case seg = <-free:
		case <-ctx.Done():
			return size, ctx.Err()
		}
		seg.reset(index, fanOut)
		// A segment of n groups has its content behind n-1 parents; until n is known, read to where 32 groups begin.
		room := seg.content()
		n := copy(room, head)
		head = head[n:]
		m, err := io.ReadFull(r, room[n:])
		n += m
		last := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !last {
			return size, err
		}
		var ahead [1]byte
		if !last && len(head) == 0 {
			switch _, err := io.ReadFull(r, ahead[:]); {
			case errors.Is(err, io.EOF):
				last = true
			case err != nil:
				return size, err
			default:
				head = ahead[:]
			}
		}
		if len(head) > 0 {
			last = false
		}
		if n == 0 {
			return size, nil
		}
		if size += uint64(n); size > MaxSize {
			return size, fmt.Errorf("larger than %d bytes", uint64(MaxSize))
		}
		o.Progress(size)
		if groups := int(groupCount(uint64(n))); groups < fanOut {
			seg.n = groups
			copy(seg.content(), room[:n])
		}
		job := &segmentJob{seg: seg, len: n, root: last && index == 0, cv: make(chan Hash, 1)}
		for _, to := range []chan<- *segmentJob{ordered, work} {
			select {
			case to <- job:
			case <-ctx.Done():
				return size, ctx.Err()
			}
		}
		if last {
			return size, nil
		}
	}
}

func (s *Store) storeImported(ctx context.Context, id contentID, job *segmentJob) (Hash, error) {
	seg := job.seg
	var cvs [fanOut]Hash
	for i := range seg.n {
		at := i * GroupSize
		group := seg.content()[at:min(at+GroupSize, job.len)]
		cvs[i] = hashGroup(group, seg.index*fanOut+uint64(i), job.root && seg.n == 1)
	}
	cv := buildBlock(seg.tree(), cvs[:seg.n], job.root)
	seg.mask = fullMask(seg.n)
	value := seg.value(seg.index*SegmentSize + uint64(job.len))
	return cv, s.kv.Update(ctx, func(tx kv.Txn) error { return tx.Set(blockKey(id, 0, seg.index), value) })
}

// publish makes the content under rec.id the blob h, unless there is one already; what is not needed is cleared away.
func (s *Store) publish(ctx context.Context, h Hash, rec record) error {
	var waste contentID
	var wasted bool
	err := s.kv.Update(ctx, func(tx kv.Txn) error {
		wasted = false
		old, err := getRecord(tx, h)
		switch {
		case errors.Is(err, ErrNotFound):
		case err != nil:
			return err
		case old.state != statePartial:
			waste, wasted = rec.id, true
			return nil // stays marked as garbage
		default:
			waste, wasted = old.id, true
			if err := tx.Set(idKey(keyGarbage, old.id), nil); err != nil {
				return err
			}
		}
		return errors.Join(tx.Set(recordKey(h), rec.marshal()), tx.Delete(idKey(keyGarbage, rec.id)))
	})
	if err != nil || !wasted {
		return err
	}
	return s.reap(ctx, waste)
}
