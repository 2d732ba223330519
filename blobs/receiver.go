package blobs

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"sync"

	"github.com/skerry-sync/skerry/kv"
)

// Receiver stores blobs from streams: it verifies on the calling goroutine and writes on one of its own, several small blobs to
// a transaction. What it has verified is in the store, whatever ends the stream, once Close has returned; after the
// death of the process at most a few segments must be fetched again.
//
// A Receiver serves one goroutine.
type Receiver struct {
	s        *Store
	ctx      context.Context
	jobs     chan receiveJob
	free     chan *segment
	done     chan struct{}
	verified func(int)

	mu  sync.Mutex
	err error // the first failed write
}

const (
	receiveQueue  = 16      // segments waiting to be written
	batchSegments = 12      // segments written together
	batchBytes    = 1 << 20 // of small blobs and incomplete segments in one transaction
	batchBlobs    = 512     // small blobs in one transaction
)

// receiveJob is a small blob or a segment to write.
type receiveJob struct {
	hash   Hash
	size   uint64
	inline []byte
	seg    *segment
	above  []upperBlock

	// ahead is set once the segment, whole as it came, has been written under the id aheadAs. A segment that becomes whole by
	// merging has not been.
	ahead   bool
	aheadAs contentID
}

// NewReceiver returns a receiver that works until Close. verified, if not nil, is told the length of each chunk group as it has
// been verified.
func (s *Store) NewReceiver(ctx context.Context, verified func(n int)) *Receiver {
	if verified == nil {
		verified = func(int) {}
	}
	rc := &Receiver{s: s, ctx: ctx, verified: verified,
		jobs: make(chan receiveJob, receiveQueue), free: make(chan *segment, receiveQueue+batchSegments+1), done: make(chan struct{})}
	for range receiveQueue + batchSegments + 1 {
		rc.free <- new(segment)
	}
	go rc.write()
	return rc
}

// ErrSizeNotProved reports a stream for a blob of which the store has nothing yet, and which does not begin with the last group.
var ErrSizeNotProved = errors.New("size is not proved: the last chunk group must come first")

// ReceiveLast reads the stream of the last chunk group of h, which proves size, and makes the blob known to the store, as a
// partial one unless the group is all of it. It returns the errors of Decode; nothing is stored then.
func (rc *Receiver) ReceiveLast(r *bufio.Reader, h Hash, size uint64) error {
	if groupCount(size) == 1 {
		var content bytes.Buffer
		d := newDecoder(r, h, size, Everything)
		d.verified = rc.verified
		d.onGroup = func(_ uint64, data []byte) error { content.Write(data); return nil }
		if err := d.run(); err != nil {
			return err
		}
		return rc.send(receiveJob{hash: h, size: size, inline: content.Bytes()})
	}
	return rc.Receive(r, h, size, Ranges{{size - 1, size}})
}

// Receive reads the stream of the byte ranges of h. The store must know h already, with this size, unless the last group is
// among the wanted; or else the receiver fails with ErrSizeNotProved.
func (rc *Receiver) Receive(r *bufio.Reader, h Hash, size uint64, ranges Ranges) error {
	if size > MaxSize {
		return fmt.Errorf("blob %s: claimed size %d is over the limit of %d", h.Short(), size, uint64(MaxSize))
	}
	d := newDecoder(r, h, size, ranges)
	d.verified = rc.verified
	d.sink = receiverSink{rc, h, size}
	select {
	case d.seg = <-rc.free:
	case <-rc.ctx.Done():
		return rc.ctx.Err()
	}
	err := d.run()
	if d.seg != nil {
		rc.free <- d.seg
	}
	return err
}

type receiverSink struct {
	rc   *Receiver
	hash Hash
	size uint64
}

func (k receiverSink) segment(seg *segment, above []upperBlock) (*segment, error) {
	if err := k.rc.send(receiveJob{hash: k.hash, size: k.size, seg: seg, above: above}); err != nil {
		return seg, err
	}
	select {
	case next := <-k.rc.free:
		return next, nil
	case <-k.rc.ctx.Done():
		return nil, k.rc.ctx.Err()
	}
}

// send hands over verified content even when the receiver is told to stop: the writer goes on until Close.
func (rc *Receiver) send(j receiveJob) error {
	if err := rc.failed(); err != nil {
		return err
	}
	rc.jobs <- j
	return nil
}

func (rc *Receiver) failed() error {
	rc.mu.Lock()
	defer rc.mu.Unlock()
	return rc.err
}

// Close returns when everything received before has been written, with the first error of any write.
func (rc *Receiver) Close() error {
	close(rc.jobs)
	<-rc.done
	return rc.failed()
}

// write is the receiver's own goroutine. After a failed write it goes on taking jobs, so that nobody waits for it, and drops them.
func (rc *Receiver) write() {
	defer close(rc.done)
	for j := range rc.jobs {
		var batch receiveBatch
		batch.add(j)
	more:
		for !batch.full() {
			select {
			case j, ok := <-rc.jobs:
				if !ok {
					break more
				}
				batch.add(j)
			default:
				break more
			}
		}
		if rc.failed() == nil {
			// A receiver that is told to stop still writes what was verified: it has been paid for.
			if err := rc.s.storeReceived(context.WithoutCancel(rc.ctx), &batch); err != nil {
				rc.mu.Lock()
				rc.err = fmt.Errorf("store received blob: %w", err)
				rc.mu.Unlock()
			}
		}
		for _, j := range batch.jobs {
			if j.seg != nil {
				rc.free <- j.seg
			}
		}
	}
}

// receiveBatch is jobs that are stored together.
type receiveBatch struct {
	jobs     []receiveJob
	segments int
	bytes    int // of what goes into the transaction
}

func (b *receiveBatch) add(j receiveJob) {
	b.jobs = append(b.jobs, j)
	switch {
	case j.seg == nil:
		b.bytes += len(j.inline) + 64
	case j.seg.whole():
		b.segments++
	default:
		b.segments++
		b.bytes += SegmentSize
	}
}

func (b *receiveBatch) full() bool {
	return len(b.jobs) >= batchBlobs || b.segments >= batchSegments || b.bytes >= batchBytes
}

// storeReceived writes whole segments first, in one go, and then, in a transaction, everything else: what they are part of, small
// blobs, and segments of which only some groups came. A whole segment may be there before anything says so, since it is right
// whatever else happens; an incomplete one must not replace a better one, so it is merged in the transaction.
func (s *Store) storeReceived(ctx context.Context, batch *receiveBatch) error {
	written, err := s.writeWhole(ctx, batch)
	if err != nil {
		return err
	}
	var finished []contentID
	var stale bool
	err = s.kv.Update(ctx, func(tx kv.Txn) error {
		finished, stale = finished[:0], false
		for _, j := range batch.jobs {
			if j.seg == nil {
				if err := putInline(tx, j.hash, j.inline); err != nil {
					return err
				}
				continue
			}
			id, complete, err := putSegment(tx, j)
			if err != nil {
				return err
			}
			if complete {
				finished = append(finished, id)
			}
			stale = stale || j.ahead && j.aheadAs != id
		}
		return nil
	})
	if err != nil || stale {
		return errors.Join(err, s.dropStale(ctx, written))
	}
	for _, id := range finished {
		// The masks have served. If this is cut short they remain, unread, until the blob is deleted.
		if err := s.deleteAll(ctx, idKey(keyMask, id)); err != nil {
			return err
		}
	}
	return nil
}

// writeWhole writes the whole segments of blobs that the store knows to be partial, and returns the ids it wrote under.
func (s *Store) writeWhole(ctx context.Context, batch *receiveBatch) (map[Hash]contentID, error) {
	ids := map[Hash]contentID{}
	if batch.segments == 0 {
		return ids, nil
	}
	err := s.kv.View(ctx, func(r kv.Reader) error {
		for _, j := range batch.jobs {
			if j.seg == nil || !j.seg.whole() {
				continue
			}
			switch rec, err := getRecord(r, j.hash); {
			case errors.Is(err, ErrNotFound):
			case err != nil:
				return err
			case rec.state == statePartial && rec.size == j.size:
				ids[j.hash] = rec.id
			}
		}
		return nil
	})
	if err != nil || len(ids) == 0 {
		return nil, err
	}
	return ids, s.kv.Batch(ctx, func(w kv.Writer) error {
		for i := range batch.jobs {
			j := &batch.jobs[i]
			if j.seg == nil || !j.seg.whole() {
				continue
			}
			if id, ok := ids[j.hash]; ok {
				j.ahead, j.aheadAs = true, id
				if err := w.Set(blockKey(id, 0, j.seg.index), j.seg.value(j.size)); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// dropStale clears what was written for blobs that were deleted, or completed by somebody else, in the meantime.
func (s *Store) dropStale(ctx context.Context, written map[Hash]contentID) error {
	for h, id := range written {
		var current bool
		err := s.kv.View(ctx, func(r kv.Reader) error {
			rec, err := getRecord(r, h)
			if errors.Is(err, ErrNotFound) {
				return nil
			}
			current = rec.state != stateInline && rec.id == id
			return err
		})
		if err != nil {
			return err
		}
		if !current {
			if err := s.reap(ctx, id); err != nil {
				return err
			}
		}
	}
	return nil
}

// putSegment adds the groups of a received segment to its blob, in one transaction with what is known about it, and reports
// whether that completed the blob. The blob's size must have been proved.
func putSegment(tx kv.Txn, j receiveJob) (id contentID, complete bool, err error) {
	g := newGeometry(j.size)
	rec, err := getRecord(tx, j.hash)
	switch {
	case errors.Is(err, ErrNotFound):
		last := j.seg.index*fanOut+uint64(j.seg.n) == g.counts[0] && j.seg.mask>>(j.seg.n-1)&1 == 1
		if !last {
			return 0, false, fmt.Errorf("blob %s: %w", j.hash.Short(), ErrSizeNotProved)
		}
		rec = record{state: statePartial, size: j.size, id: newContentID()}
	case err != nil:
		return 0, false, err
	case rec.state != statePartial:
		return rec.id, false, nil // somebody else completed it
	case rec.size != j.size:
		return 0, false, fmt.Errorf("blob %s has %d bytes, not %d", j.hash.Short(), rec.size, j.size)
	}
	for _, b := range j.above {
		if err := putUpper(tx, rec.id, b); err != nil {
			return 0, false, err
		}
	}
	had, err := getMask(tx, rec.id, j.seg.index)
	if err != nil {
		return 0, false, err
	}
	if !j.ahead || j.aheadAs != rec.id {
		// After a conflict this runs again; what was merged then is verified, and may stay in the segment.
		err = viewSegment(tx, rec.id, g, j.seg.index, func(old storedSegment) error {
			j.seg.merge(old)
			return nil
		})
		if err != nil && !errors.Is(err, kv.ErrNotFound) {
			return 0, false, err
		}
		if err := tx.Set(blockKey(rec.id, 0, j.seg.index), j.seg.value(j.size)); err != nil {
			return 0, false, err
		}
	}
	rec.have += uint64(bits.OnesCount32(j.seg.mask &^ had))
	if rec.have == g.counts[0] {
		rec.state = stateComplete
	}
	return rec.id, rec.state == stateComplete, errors.Join(
		tx.Set(maskKey(rec.id, j.seg.index), binary.LittleEndian.AppendUint32(nil, j.seg.mask)),
		tx.Set(recordKey(j.hash), rec.marshal()))
}

// getMask returns which groups of a segment of a partial blob are there.
func getMask(r kv.Reader, id contentID, index uint64) (mask uint32, err error) {
	err = r.Peek(maskKey(id, index), func(v []byte) error {
		if len(v) != 4 {
			return errors.New("blob store: malformed mask")
		}
		mask = binary.LittleEndian.Uint32(v)
		return nil
	})
	if errors.Is(err, kv.ErrNotFound) {
		return 0, nil
	}
	return mask, err
}

func putUpper(tx kv.Txn, id contentID, b upperBlock) error {
	if len(b.tree) == 0 {
		return nil
	}
	key := blockKey(id, b.level, b.index)
	err := tx.Peek(key, func(old []byte) error {
		if len(old) != len(b.tree) {
			return errors.New("blob store: malformed block record")
		}
		mergeTree(b.tree, old)
		return nil
	})
	if err != nil && !errors.Is(err, kv.ErrNotFound) {
		return err
	}
	return tx.Set(key, b.tree)
}
