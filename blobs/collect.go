package blobs

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/skerry-sync/skerry/kv"
)

// CollectOptions tune Collect.
type CollectOptions struct {
	// Keep marks every blob that is wanted for a reason that the store does not know. It is called
	// once, while the store is in use.
	Keep func(ctx context.Context, m *Marks) error
	// Only, if set, says which blobs may be removed at all.
	Only func(Hash) bool
	// DryRun only counts.
	DryRun bool
	// Progress, if set, is told now and then what is going on.
	Progress func(CollectProgress)
}

// CollectProgress tells how far Collect has come.
type CollectProgress struct {
	Doing string // "marking", "sweeping", "compacting"
	Blobs int    // looked at in this stage
	Bytes uint64 // removed or moved in this stage
}

// Collected is what Collect found, or with DryRun would have done.
type Collected struct {
	Kept         int    // blobs
	KeptBytes    uint64 // of their content that is there
	Removed      int
	RemovedBytes uint64
	Moved        uint64 // bytes of small blobs copied to close gaps
	Freed        uint64 // bytes of files given back to the file system, without those moved
	// Postponed says that there was no room to write packs or records anew, which would have given
	// more back; the next Collect does it.
	Postponed bool
}

// Collect removes blobs that nothing keeps, and gives their room back to the file system. Blobs are
// kept by pins, by o.Keep, by a hold (see Hold), and by being children of a sequence that is kept
// as one. It runs beside other work; what that stores or finds meanwhile stays. Only one Collect
// runs at a time; another waits.
func (s *Store) Collect(ctx context.Context, o CollectOptions) (res Collected, err error) {
	s.collect.Lock()
	defer s.collect.Unlock()
	if o.Progress == nil {
		o.Progress = func(CollectProgress) {}
	}
	ctx, s = kv.ToMakeRoom(ctx), s.bare() // what Collect reads is not in use for that
	c := &collector{s: s, o: o, ctx: ctx, res: &res}
	s.touches.begin()
	defer s.touches.end()
	if err := s.settle(ctx); err != nil {
		return res, err
	}
	for _, step := range []func() error{c.mark, c.sweep, c.orphans, c.compact} {
		if err := step(); err != nil {
			return res, fmt.Errorf("collect garbage: %w", err)
		}
	}
	if !o.DryRun {
		err := s.kv.Compact(ctx)
		var full *kv.NoSpaceError
		if errors.As(err, &full) { // the records give their room back when there is more
			res.Postponed, err = true, nil
		}
		if err := errors.Join(err, s.Sync(ctx), s.files.Recount()); err != nil {
			return res, fmt.Errorf("collect garbage: %w", err)
		}
	}
	if c.unread != nil {
		return res, fmt.Errorf("everything else was collected: %w", c.unread)
	}
	return res, nil
}

// settleTime is much longer than any transaction takes.
const settleTime = 100 * time.Millisecond

// settle waits for transactions that found a blob to be there just before touches were noted, and
// whose commit is what keeps the blob.
func (s *Store) settle(ctx context.Context) error {
	select {
	case <-time.After(s.settleTime):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

type collector struct {
	s     *Store
	o     CollectOptions
	ctx   context.Context
	res   *Collected
	marks *Marks

	unread error // packs that could not be compacted
}

func (c *collector) mark() (err error) {
	if c.marks, err = c.s.newMarks(c.ctx, c.o.Progress); err != nil {
		return err
	}
	for h, part := range c.s.touches.sequences { // nobody changes it while Collect runs
		err := c.s.eachChildOf(c.ctx, h, part, func(child Hash) error {
			c.marks.live.set(c.marks.find(child))
			return nil
		})
		if err != nil {
			return err
		}
	}
	for p, err := range c.s.Pins(c.ctx) {
		if err != nil {
			return err
		}
		c.marks.live.set(c.marks.find(p.Hash))
		if p.Sequence {
			if err := c.marks.Children(p.Hash); err != nil {
				return err
			}
		}
	}
	if c.o.Keep != nil {
		return c.o.Keep(c.ctx, c.marks)
	}
	return nil
}

// EachChild calls fn with each child of the sequence h that is in the store, with none if it is not
// a sequence: of one that has a hole, those behind it, too. It reads 256 KiB at a time.
func (s *Store) EachChild(ctx context.Context, h Hash, fn func(Hash) error) error {
	return s.eachChildOf(ctx, h, NewRanges(Range{0, MaxChildren}), fn)
}

// eachChildOf does so with the children that have some numbers.
func (s *Store) eachChildOf(
	ctx context.Context, h Hash, numbers Ranges, fn func(Hash) error,
) error {
	r, err := s.Reader(ctx, h)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil || r.size%HashSize != 0 || r.size > MaxChildren*HashSize {
		return err
	}
	for _, some := range numbers {
		at, end := min(some.Start*HashSize, r.size), min(some.End*HashSize, r.size)
		if err := eachChildBetween(r, at, end, fn); err != nil {
			return err
		}
	}
	return nil
}

// eachChildBetween calls fn with each child that is there between two positions in a sequence.
func eachChildBetween(r *Reader, at, end uint64, fn func(Hash) error) error {
	buf := make([]byte, min(end-at, childrenBuffer))
	for at < end {
		part := buf[:min(uint64(len(buf)), end-at)]
		n, err := r.ReadAt(part, int64(at))
		var moved *ReferenceError
		switch {
		case errors.Is(err, ErrNotFound) || errors.As(err, &moved):
			part, at = part[:n/HashSize*HashSize], end
		case errors.Is(err, ErrIncomplete): // groups are there as a whole, or not
			part, at = part[:n/HashSize*HashSize], (at+uint64(n))/GroupSize*GroupSize+GroupSize
		case err != nil && n < len(part):
			return err
		default:
			at += uint64(n)
		}
		for ; len(part) > 0; part = part[HashSize:] {
			if err := fn(Hash(part[:HashSize])); err != nil {
				return err
			}
		}
	}
	return nil
}

// childrenBuffer is how much of a sequence is read at a time, in bytes: a multiple of HashSize.
const childrenBuffer = 256 << 10

const sweepBatch = 128

func (c *collector) sweep() error {
	var batch []Hash
	looked := 0
	flush := func() error {
		err := c.drop(batch)
		batch = batch[:0]
		c.o.Progress(CollectProgress{Doing: "sweeping", Blobs: looked, Bytes: c.res.RemovedBytes})
		return err
	}
	for info, err := range c.s.List(c.ctx) {
		if err != nil {
			return err
		}
		if looked++; c.keeps(info.Hash) {
			c.res.Kept++
			c.res.KeptBytes += info.Present
			continue
		}
		if batch = append(batch, info.Hash); len(batch) == sweepBatch {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// keeps reports whether a blob is marked, or not to be removed. One that has come since the marks
// were made is marked, too.
func (c *collector) keeps(h Hash) bool {
	i := c.marks.find(h)
	return i < 0 || c.marks.live.has(i) || c.o.Only != nil && !c.o.Only(h)
}

// forgetUnused forgets blobs that are not in use, and returns what is known of them. While it
// decides and commits, nobody can begin to use one: who does touches it first, and then looks it
// up.
func (c *collector) forgetUnused(batch []Hash) (dropped []record, err error) {
	c.s.touches.mu.Lock()
	defer c.s.touches.mu.Unlock()
	err = c.s.kv.Update(c.ctx, func(tx kv.Txn) error {
		dropped = dropped[:0]
		for _, h := range batch {
			if c.s.touches.inUse(h) {
				continue
			}
			rec, err := getRecord(tx, h)
			if errors.Is(err, ErrNotFound) {
				continue
			}
			if err != nil {
				return err
			}
			dropped = append(dropped, rec)
			if c.o.DryRun {
				continue
			}
			if err := forget(tx, h, rec); err != nil {
				return err
			}
		}
		return nil
	})
	return dropped, err
}

// drop forgets blobs that are not in use, and gives their room back.
func (c *collector) drop(batch []Hash) error {
	if len(batch) == 0 {
		return nil
	}
	dropped, err := c.forgetUnused(batch)
	if err != nil {
		return err
	}
	for _, rec := range dropped {
		present := rec.info(Hash{}).Present
		c.res.Removed++
		c.res.RemovedBytes += present
		if rec.hasFile() {
			c.res.Freed += present
		}
		if !c.o.DryRun {
			if err := c.s.reapRecord(c.ctx, rec); err != nil {
				return err
			}
		}
	}
	return nil
}

// orphans removes files that no record points at: what a loss of power left of deletions and
// imports.
func (c *collector) orphans() error {
	// first: a file that is made from now on is not in it, and one that is, has its record already
	all, err := c.s.files.Files()
	if err != nil {
		return err
	}
	known := map[contentID]bool{}
	err = c.s.kv.View(c.ctx, func(r kv.Reader) error {
		for p, err := range r.Scan(kv.Prefix([]byte(keyGarbage)), kv.ScanOptions{KeysOnly: true}) {
			if err != nil {
				return err
			}
			known[contentID(binary.BigEndian.Uint64(p.Key[len(keyGarbage):]))] = true
		}
		return eachRecord(r, func(_ Hash, rec record) error {
			if rec.hasFile() {
				known[rec.id] = true
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	for _, f := range all {
		if known[f.ID] {
			continue
		}
		if !c.o.DryRun {
			if err := c.s.files.Remove(f.ID); err != nil {
				return err
			}
		}
		c.res.Freed += f.Size
	}
	return nil
}

func eachRecord(r kv.Reader, fn func(Hash, record) error) error {
	for p, err := range r.Scan(kv.Prefix([]byte(keyRecord)), kv.ScanOptions{}) {
		if err != nil {
			return err
		}
		rec, err := parseRecord(p.Value)
		if err != nil {
			return err
		}
		if err := fn(Hash(p.Key[len(keyRecord):]), rec); err != nil {
			return err
		}
	}
	return nil
}
