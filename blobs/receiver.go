package blobs

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/bits"
	"sync"

	"github.com/skerry-sync/skerry/internal/disk"
	"github.com/skerry-sync/skerry/internal/fault"
	"github.com/skerry-sync/skerry/internal/kind"
	"github.com/skerry-sync/skerry/kv"
)

// Receiver stores blobs from streams: it verifies on the calling goroutines and writes on one of
// its own, several blobs and segments together. What it has verified is in the store, whatever ends
// the streams, once Close has returned; after the death of the process at most one segment of each
// stream must be fetched again, since none goes on before its last segment is stored.
//
// Its methods, except Close, may be called at the same time from several goroutines. Its memory
// does not grow with their number, nor with the speed of the streams: those that are ahead of the
// disk wait.
type Receiver struct {
	s    *Store
	over bool // see NewReplacer
	ctx  context.Context
	jobs chan receiveJob
	free chan *segment
	done chan struct{}

	mu      sync.Mutex
	err     error      // the first failed write
	pending int        // bytes of small blobs that are not stored yet
	room    *sync.Cond // of pending
}

const (
	receiveQueue   = 64  // jobs waiting to be written
	receiveStreams = 32  // segments being filled or written
	batchSegments  = 16  // segments written together
	batchBlobs     = 512 // small blobs in one transaction
	batchBytes     = 1 << 20
	// pendingBytes is how many bytes of small blobs may be verified and not stored yet. Streams wait
	// for them only beyond that.
	pendingBytes = SegmentSize / 2
)

// receiveJob is a small blob or a segment to write.
type receiveJob struct {
	hash  Hash
	size  uint64
	tiny  []byte // a whole blob of one group
	seg   *segment
	above []upperBlock

	stored chan struct{} // closed when the job, and all before it, are stored
	failed *error        // what keeps this job alone from being stored; set before stored is closed
}

// packed reports whether the job is a whole blob of one segment.
func (j receiveJob) packed() bool { return j.seg != nil && j.size <= SegmentSize && j.seg.whole() }

// NewReceiver returns a receiver that works until Close.
func (s *Store) NewReceiver(ctx context.Context) *Receiver { return s.newReceiver(ctx, false) }

// NewReplacer is NewReceiver, but what is received takes the place of what the store has, which may
// be damaged. Nothing of that goes before what takes its place has been verified. A blob that the
// store does not know yet, or one in a file of the user's, is not to be replaced: see Replaceable.
func (s *Store) NewReplacer(ctx context.Context) *Receiver { return s.newReceiver(ctx, true) }

func (s *Store) newReceiver(ctx context.Context, over bool) *Receiver {
	rc := &Receiver{s: s, over: over, ctx: ctx,
		jobs: make(chan receiveJob, receiveQueue), free: make(chan *segment, receiveStreams),
		done: make(chan struct{})}
	rc.room = sync.NewCond(&rc.mu)
	for range receiveStreams {
		rc.free <- new(segment) // its memory is made when it is first used
	}
	go rc.write()
	return rc
}

// ErrSizeNotProved reports a stream for a blob of which the store has nothing yet, and which does
// not begin with the last group.
var ErrSizeNotProved = errors.New("size is not proved: the last chunk group must come first")

// FileSizeError reports a blob that is longer than a file can be here. Whoever makes a blob can
// have any size proved for it, without having its content; so the error is that of the blob alone,
// and the receiver goes on with others.
type FileSizeError struct {
	Hash Hash
	Size uint64 // bytes
}

func (e *FileSizeError) Error() string {
	return fmt.Sprintf("blob %s has %d bytes, and no file can be so long on the file system of the "+
		"data directory: move the data directory to another one to fetch it", e.Hash.Short(), e.Size)
}

// Kind implements kind.Of.
func (e *FileSizeError) Kind() kind.Kind { return kind.NoSpace }

// ErrDeleted reports a blob that was deleted while it was being received.
var ErrDeleted = errors.New("blob was deleted while it was being received")

// ReceiveNew reads the stream of the last chunk group of h, which proves size, asks on.Accept, and
// then reads the stream of the byte ranges, which leave out the last group. It returns the errors
// of Decode and of the hooks; nothing that is not verified is stored, and nothing at all if Accept
// fails. The stream of a blob of at most SegmentSize is then read to its end all the same.
func (rc *Receiver) ReceiveNew(
	r *bufio.Reader, h Hash, size uint64, ranges Ranges, on Hooks,
) error {
	last := Ranges{{max(size, 1) - 1, max(size, 1)}}
	switch {
	case groupCount(size) == 1:
		return rc.receiveGroup(r, h, size, on)
	case size <= SegmentSize:
		return rc.receiveSegment(r, h, size, []Ranges{last, ranges}, on)
	}
	if err := rc.receiveProof(r, h, size, last, on); err != nil {
		return err
	}
	return rc.Receive(r, h, size, ranges, on)
}

// receiveProof reads the last group of a blob of more than one segment, and stores it if the hook
// accepts the size.
func (rc *Receiver) receiveProof(
	r *bufio.Reader, h Hash, size uint64, last Ranges, on Hooks,
) error {
	if size > MaxSize {
		return fmt.Errorf(
			"blob %s: claimed size %d is over the limit of %d", h.Short(), size, uint64(MaxSize),
		)
	}
	seg, err := rc.take()
	if err != nil {
		return err
	}
	d := rc.decoder(r, h, size, last, on)
	var proof keepProof
	d.seg, d.sink = seg, &proof
	if err = d.run(); err == nil {
		err = on.accept()
	}
	if err != nil {
		rc.free <- seg
		return err
	}
	if err := rc.send(receiveJob{hash: h, size: size, seg: seg, above: proof.above}); err != nil {
		return err
	}
	return on.proved()
}

// keepProof leaves a segment with the decoder, and keeps the parents above it.
type keepProof struct{ above []upperBlock }

func (k *keepProof) segment(seg *segment, above []upperBlock) (*segment, error) {
	k.above = above
	return seg, nil
}

// Hooks are told what goes on while a stream is received, on the goroutine that receives it. Each
// may be nil.
type Hooks struct {
	Verified func(n int) // n bytes of content, a chunk group, have been verified
	// Accept is asked once the size has been proved, before anything of the blob is stored. An error
	// ends the receiving.
	Accept func() error
	// Proved is told when the store may be asked to receive other ranges of the blob. An error ends
	// the receiving.
	Proved func() error
}

func (o Hooks) accept() error {
	if o.Accept == nil {
		return nil
	}
	return o.Accept()
}

func (o Hooks) proved() error {
	if o.Proved == nil {
		return nil
	}
	return o.Proved()
}

// Flush returns when everything received before the call is in the store, with the first error of
// any write.
func (rc *Receiver) Flush() error {
	done := make(chan struct{})
	rc.jobs <- receiveJob{stored: done}
	<-done
	return rc.failed()
}

func (rc *Receiver) receiveGroup(r *bufio.Reader, h Hash, size uint64, on Hooks) error {
	content := make([]byte, 0, size)
	d := rc.decoder(r, h, size, Everything, on)
	d.onGroup = func(_ uint64, data []byte) error { content = append(content, data...); return nil }
	if err := d.run(); err != nil {
		return err
	}
	if err := on.accept(); err != nil {
		return err
	}
	if err := rc.send(receiveJob{hash: h, size: size, tiny: content}); err != nil {
		return err
	}
	return on.proved()
}

// receiveSegment fills one segment from several streams, one behind the other, before it is stored:
// a small blob that comes whole needs no file of its own.
func (rc *Receiver) receiveSegment(
	r *bufio.Reader, h Hash, size uint64, streams []Ranges, on Hooks,
) error {
	seg, err := rc.take()
	if err != nil {
		return err
	}
	seg.reset(0, int(groupCount(size)))
	for i, ranges := range streams {
		d := rc.decoder(r, h, size, ranges, on)
		d.seg, d.goOn, d.sink = seg, true, keepSegment{}
		if err = d.run(); err != nil {
			break
		}
		if i == 0 {
			if err = on.accept(); err != nil {
				rest := rc.decoder(r, h, size, ranges, Hooks{})
				rest.seg, rest.goOn, rest.sink = seg, true, keepSegment{}
				err = errors.Join(err, rest.run())
				rc.free <- seg
				return err
			}
			if err = on.proved(); err != nil {
				break
			}
		}
	}
	if seg.mask == 0 {
		rc.free <- seg
		return err
	}
	return errors.Join(err, rc.send(receiveJob{hash: h, size: size, seg: seg}))
}

// keepSegment leaves a segment with the decoder.
type keepSegment struct{}

func (keepSegment) segment(seg *segment, _ []upperBlock) (*segment, error) { return seg, nil }

// Receive reads the stream of the byte ranges of h. The store must know h already, with this size,
// unless the last group is among the wanted; or else the receiver fails with ErrSizeNotProved.
func (rc *Receiver) Receive(r *bufio.Reader, h Hash, size uint64, ranges Ranges, on Hooks) error {
	if size > MaxSize {
		return fmt.Errorf(
			"blob %s: claimed size %d is over the limit of %d", h.Short(), size, uint64(MaxSize),
		)
	}
	d := rc.decoder(r, h, size, ranges, on)
	d.sink = receiverSink{rc, h, size}
	var err error
	if d.seg, err = rc.take(); err != nil {
		return err
	}
	err = d.run()
	if d.seg != nil {
		rc.free <- d.seg
	}
	return err
}

func (rc *Receiver) decoder(
	r *bufio.Reader, h Hash, size uint64, ranges Ranges, on Hooks,
) *decoder {
	d := newDecoder(r, h, size, ranges)
	if on.Verified != nil {
		d.verified = on.Verified
	}
	return d
}

// take waits for a segment that nobody uses.
func (rc *Receiver) take() (*segment, error) {
	select {
	case seg := <-rc.free:
		return seg, nil
	case <-rc.ctx.Done():
		return nil, rc.ctx.Err()
	}
}

type receiverSink struct {
	rc   *Receiver
	hash Hash
	size uint64
}

func (k receiverSink) segment(seg *segment, above []upperBlock) (*segment, error) {
	if err := k.rc.send(receiveJob{hash: k.hash, size: k.size, seg: seg, above: above}); err != nil {
		return nil, err
	}
	return k.rc.take()
}

// send hands over verified content even when the receiver is told to stop: the writer goes on until
// Close. A segment of a large blob is stored when it returns; small blobs are unless they are few.
func (rc *Receiver) send(j receiveJob) error {
	if err := rc.failed(); err != nil {
		if j.seg != nil {
			rc.free <- j.seg
		}
		return err
	}
	if j.seg != nil && !j.packed() {
		j.stored, j.failed = make(chan struct{}), new(error)
		rc.jobs <- j
		<-j.stored
		if err := *j.failed; err != nil {
			return err
		}
		return rc.failed()
	}
	rc.mu.Lock()
	for rc.pending > 0 && rc.pending+int(j.size) > pendingBytes {
		rc.room.Wait()
	}
	rc.pending += int(j.size)
	rc.mu.Unlock()
	rc.jobs <- j
	return nil
}

// Err returns the first error of any write so far.
func (rc *Receiver) Err() error { return rc.failed() }

func (rc *Receiver) failed() error {
	rc.mu.Lock()
	defer rc.mu.Unlock()
	return rc.err
}

// Close returns when everything received before has been written, with the first error of any
// write. No other method may be running.
func (rc *Receiver) Close() error {
	close(rc.jobs)
	<-rc.done
	return rc.failed()
}

// write is the receiver's own goroutine. After a failed write it goes on taking jobs, so that
// nobody waits for it, and drops them.
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
			err := fault.Call(func() error {
				return rc.s.storeReceived(context.WithoutCancel(rc.ctx), batch.jobs, rc.over)
			})
			if err != nil {
				rc.mu.Lock()
				rc.err = fmt.Errorf("store received blob: %w", err)
				rc.mu.Unlock()
			}
		}
		small := 0
		for _, j := range batch.jobs {
			if j.stored != nil {
				close(j.stored)
			} else {
				small += int(j.size)
			}
			if j.seg != nil {
				rc.free <- j.seg
			}
		}
		rc.mu.Lock()
		rc.pending -= small
		rc.room.Broadcast()
		rc.mu.Unlock()
	}
}

// receiveBatch is jobs that are stored together.
type receiveBatch struct {
	jobs     []receiveJob
	segments int
	bytes    int // of tiny blobs
}

func (b *receiveBatch) add(j receiveJob) {
	b.jobs = append(b.jobs, j)
	if j.seg != nil {
		b.segments++
	}
	b.bytes += len(j.tiny)
}

func (b *receiveBatch) full() bool {
	return len(b.jobs) >= batchBlobs || b.segments >= batchSegments || b.bytes >= batchBytes
}

// storeReceived writes content first, and then, in one transaction, what says that it is there.
// Content of a blob is the same whoever writes it, so it may be written twice, or by two receivers
// at once. over puts it in the place of what is there.
func (s *Store) storeReceived(ctx context.Context, jobs []receiveJob, over bool) error {
	var small []smallBlob
	var segs []receiveJob
	for _, j := range jobs {
		switch {
		case j.seg == nil && j.stored != nil: // of a flush
		case j.seg == nil:
			small = append(small, smallBlob{j.hash, j.size, j.tiny})
		case j.packed():
			small = append(small, smallBlob{j.hash, j.size, j.seg.buf[:treeBytes(j.seg.n)+int(j.size)]})
		default:
			segs = append(segs, j)
		}
	}
	if err := s.putSmall(ctx, small, over); err != nil || len(segs) == 0 {
		return err
	}
	ids, err := s.filesOf(ctx, segs, over)
	if err != nil {
		return err
	}
	s.writing.RLock()
	defer s.writing.RUnlock()
	for _, j := range segs {
		id, wanted := ids[j.hash]
		if !wanted {
			continue // it is complete, or cannot be here
		}
		err := j.seg.runs(j.size, func(off uint64, p []byte) error { return s.files.WriteAt(id, p, off) })
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("blob %s: %w", j.hash.Short(), ErrDeleted)
		}
		if disk.IsTooLarge(err) { // the file was begun where it could be longer
			*j.failed = &FileSizeError{j.hash, j.size}
			delete(ids, j.hash)
			continue
		}
		if err != nil {
			return err
		}
	}
	var finished []contentID
	err = s.kv.Update(ctx, func(tx kv.Txn) error {
		finished = finished[:0]
		for _, j := range segs {
			id, wanted := ids[j.hash]
			if !wanted {
				continue
			}
			complete, err := s.putSegment(tx, id, j, over)
			if err != nil {
				return err
			}
			if complete {
				finished = append(finished, id)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, id := range finished {
		// The masks have served. If this is cut short they remain, unread, until the blob is deleted.
		if err := s.deleteAll(ctx, idKey(keyMask, id)); err != nil {
			return err
		}
	}
	return nil
}

// filesOf returns the file of each blob that is partial, and makes those of blobs that are new, if
// their size is proved. Complete blobs are left out, unless what is received is to replace what
// they have.
func (s *Store) filesOf(
	ctx context.Context, jobs []receiveJob, over bool,
) (map[Hash]contentID, error) {
	ids := map[Hash]contentID{}
	for _, j := range jobs {
		if _, known := ids[j.hash]; known {
			continue
		}
		s.Touch(j.hash)
		rec, err := s.lookUp(ctx, j.hash)
		if errors.Is(err, ErrNotFound) {
			if last := j.seg.index*fanOut+uint64(j.seg.n) == groupCount(j.size) &&
				j.seg.mask>>(j.seg.n-1)&1 == 1; !last {
				// Whoever sends this believed the blob to be known.
				return nil, fmt.Errorf("blob %s: %w, or %w", j.hash.Short(), ErrDeleted, ErrSizeNotProved)
			}
			rec, err = s.createPartial(ctx, j.hash, j.size)
		}
		if large, is := errors.AsType[*FileSizeError](err); is {
			*j.failed = large
			continue
		}
		switch {
		case err != nil:
			return nil, err
		case rec.state != statePartial && !(over && rec.hasFile()):
		case rec.size != j.size:
			return nil, fmt.Errorf("blob %s has %d bytes, not %d", j.hash.Short(), rec.size, j.size)
		default:
			ids[j.hash] = rec.id
		}
	}
	return ids, nil
}

func (s *Store) lookUp(ctx context.Context, h Hash) (rec record, err error) {
	err = s.kv.View(ctx, func(r kv.Reader) error {
		rec, err = getRecord(r, h)
		return err
	})
	return rec, err
}

// createPartial makes a blob known, with nothing of it there yet, or returns the record that
// somebody else has made meanwhile.
func (s *Store) createPartial(ctx context.Context, h Hash, size uint64) (rec record, err error) {
	id, err := s.newFile(ctx)
	if err != nil {
		return rec, err
	}
	fits, err := s.files.Fits(id, size)
	if err == nil && !fits {
		err = &FileSizeError{h, size}
	}
	if err != nil {
		return rec, errors.Join(err, s.reap(context.WithoutCancel(ctx), id))
	}
	s.writing.RLock()
	err = s.kv.Update(ctx, func(tx kv.Txn) error {
		if rec, err = getRecord(tx, h); !errors.Is(err, ErrNotFound) {
			return err
		}
		rec = record{state: statePartial, size: size, id: id}
		return errors.Join(
			s.markUnsynced(tx, rec), tx.Set(recordKey(h), rec.marshal()), tx.Delete(idKey(keyGarbage, id)),
		)
	})
	s.writing.RUnlock()
	if err != nil || rec.id != id {
		return rec, errors.Join(err, s.reap(context.WithoutCancel(ctx), id))
	}
	return rec, nil
}

// newFile makes a content file, which counts as garbage until a record points at it: a crash leaves
// nothing that Open does not clear.
func (s *Store) newFile(ctx context.Context) (contentID, error) {
	id := newContentID()
	if err := s.kv.Update(ctx, func(tx kv.Txn) error {
		return tx.Set(idKey(keyGarbage, id), nil)
	}); err != nil {
		return id, err
	}
	if err := s.files.Create(id); err != nil {
		return id, errors.Join(err, s.reap(context.WithoutCancel(ctx), id))
	}
	return id, nil
}

// putSegment notes the groups of a segment, which have been written to the file id, and reports
// whether they completed the blob.
func (s *Store) putSegment(
	tx kv.Txn, id contentID, j receiveJob, over bool,
) (complete bool, err error) {
	rec, err := getRecord(tx, j.hash)
	switch {
	case errors.Is(err, ErrNotFound) || err == nil && rec.state == statePartial && rec.id != id:
		return false, fmt.Errorf("blob %s: %w", j.hash.Short(), ErrDeleted)
	case err != nil:
		return false, err
	case rec.state != statePartial && !(over && rec.state == stateComplete && rec.id == id):
		return false, nil // somebody else completed it
	}
	for _, b := range append([]upperBlock{{index: j.seg.index, tree: j.seg.tree()}}, j.above...) {
		if err := putBlock(tx, id, b, over); err != nil {
			return false, err
		}
	}
	if rec.state == stateComplete {
		return false, s.markUnsynced(tx, rec)
	}
	had, err := getMask(tx, id, j.seg.index)
	if err != nil {
		return false, err
	}
	rec.have += uint64(bits.OnesCount32(j.seg.mask &^ had))
	if rec.have == groupCount(rec.size) {
		rec.state = stateComplete
	}
	return rec.state == stateComplete, errors.Join(
		tx.Set(maskKey(id, j.seg.index), binary.LittleEndian.AppendUint32(nil, had|j.seg.mask)),
		s.markUnsynced(tx, rec),
		tx.Set(recordKey(j.hash), rec.marshal()))
}
