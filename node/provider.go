package node

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/skerry-sync/skerry/node/limits"
	"github.com/skerry-sync/skerry/node/link"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/internal/fault"
)

const (
	// pipeline is how many blocks are asked for on one stream before the first is answered.
	pipeline = 2
	// nearStreams and farStreams are how many streams one provider is asked on. One waits while its
	// last segment is being stored, and another goes on. Each has a window of its own, and together
	// they must hold what is on the way to one that is far away.
	nearStreams = 2
	farStreams  = 4
	// farAway is the round trip from which a provider counts as far away.
	farAway = 3 * time.Millisecond
	// streamIdle is how long an unused stream is kept; less than idleTimeout, after which the provider
	// would end it.
	streamIdle = 10 * time.Second
)

// provider is a peer that is asked for blobs during one fetch.
type provider struct {
	f    *fetcher
	info peer.AddrInfo

	mu      sync.Mutex
	turn    turn // when it is asked
	running bool
	bytes   uint64  // verified since measured
	speed   float64 // bytes a second, 0 while unknown
	since   time.Time
	last    time.Time // something came
	gave    uint64
	streams int
	far     bool
	err     error // why it is not asked any more
	dead    bool
	retried bool // see again
}

// came takes account of n verified bytes.
func (p *provider) came(n int) {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gave += uint64(n)
	p.bytes += uint64(n)
	p.last = now
	if p.since.IsZero() {
		p.since = now
	}
	const window = 100 * time.Millisecond
	if elapsed := now.Sub(p.since); elapsed >= window {
		speed := float64(p.bytes) / elapsed.Seconds()
		if p.speed > 0 {
			speed = (speed + p.speed) / 2
		}
		p.speed, p.bytes, p.since = speed, 0, now
	}
}

// rate returns the speed in bytes a second, or 0 while it is unknown. A provider that gives nothing
// slows down.
func (p *provider) rate() float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.since.IsZero() {
		return 0
	}
	if elapsed := time.Since(p.since); p.speed > 0 && elapsed > time.Second {
		return min(p.speed, float64(p.bytes+1)/elapsed.Seconds())
	}
	return p.speed
}

// idle returns how long nothing has come.
func (p *provider) idle() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last.IsZero() {
		return 0
	}
	return time.Since(p.last)
}

// blockBytes is how much work the provider takes at a time.
func (p *provider) blockBytes() uint64 {
	speed := p.rate()
	if speed == 0 {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.far {
			return firstFarBlock
		}
		return firstBlock
	}
	return uint64(min(max(speed*blockTime.Seconds(), minBlock), maxBlock))
}

// run asks the provider until the fetch ends, or the provider fails.
func (p *provider) run(ctx context.Context) {
	err := fault.Guard(p.f.n.log, "a fetch", func() error {
		return p.f.n.net.Connect(ctx, p.info)
	}, "peer", p.info.ID)
	if err != nil {
		p.fail(err)
		return
	}
	p.mu.Lock()
	p.streams = 1
	p.mu.Unlock()
	p.stream(ctx)
}

// fail ends the provider's part in the fetch.
func (p *provider) fail(err error) {
	p.mu.Lock()
	if !p.dead {
		p.dead, p.err = true, err
	}
	p.mu.Unlock()
	p.f.sched.mu.Lock()
	p.f.sched.notify()
	p.f.sched.mu.Unlock()
}

func (p *provider) failed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dead
}

// addStreams opens further streams, once the first has been answered.
func (p *provider) addStreams(ctx context.Context, roundTrip time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	most := nearStreams
	if roundTrip >= farAway {
		p.far = true
		most = farStreams
	}
	if p.dead || p.f.background {
		return
	}
	for p.streams < most {
		p.streams++
		p.f.work.Go(func() { p.stream(ctx) })
	}
}

// noticed is how long it takes at most until a connection that has failed counts as lost.
const noticed = 500 * time.Millisecond

// openStream is a stream with what has been asked on it and not answered yet.
type openStream struct {
	p      *provider
	raw    link.Stream
	r      *bufio.Reader
	w      io.Writer
	flying []*block
	stop   func() bool
	used   bool // has been answered before
}

// stream asks for blocks on one stream until there is nothing more to ask for. A stream that was
// cancelled, because nobody needs the rest of its answer, is replaced.
func (p *provider) stream(ctx context.Context) {
	for ctx.Err() == nil && !p.failed() {
		s := &openStream{p: p}
		more := false
		err := fault.Guard(p.f.n.log, "a fetch", func() (err error) {
			more, err = s.run(ctx)
			return err
		}, "peer", p.info.ID)
		cancelled := false
		for _, b := range s.flying {
			p.f.sched.mu.Lock()
			cancelled = cancelled || b.cancelled
			p.f.sched.mu.Unlock()
			p.f.sched.giveBack(b)
		}
		s.close(err != nil)
		switch {
		case err == nil && !more:
			return
		case err == nil || cancelled || errors.Is(err, errEnough):
		case ctx.Err() != nil:
			return
		case s.used && errors.Is(err, errStale):
			// The provider ended a stream that was not used for a while.
		default:
			if again, connectErr := p.again(ctx, s, err); again {
				continue
			} else if connectErr != nil {
				err = connectErr
			}
			p.f.providerError(p, err)
			return
		}
	}
}

// again reports whether a provider that has answered nothing on its first stream can be asked
// once more: its connection may have been dead before anybody noticed, and another be made.
// If none can, the error says why.
func (p *provider) again(ctx context.Context, s *openStream, cause error) (bool, error) {
	if isAnswer(cause) {
		return false, nil
	}
	p.mu.Lock()
	first := !p.retried && !s.used && p.streams == 1
	p.retried = true
	p.mu.Unlock()
	if !first {
		return false, nil
	}
	for end := time.Now().Add(noticed); p.f.n.net.Connected(p.info.ID); {
		if time.Now().After(end) {
			return false, nil // it is there, and has refused
		}
		select {
		case <-ctx.Done():
			return false, nil
		case <-time.After(noticed / 20):
		}
	}
	err := p.f.n.net.Connect(ctx, p.info)
	return err == nil, err
}

var (
	// errEnough ends a stream of which the rest is not wanted.
	errEnough = errors.New("enough")
	// errStale reports a stream that ended between two answers.
	errStale = errors.New("stream ended between answers")
)

// run asks and reads until there is nothing to do: more says that there may be later.
func (s *openStream) run(ctx context.Context) (more bool, err error) {
	sched := s.p.f.sched
	for {
		for len(s.flying) < pipeline {
			wait := time.Duration(0)
			if len(s.flying) == 0 {
				wait = streamIdle
				if err := s.p.f.n.limits.Turns.Wait(ctx, s.p.f.background); err != nil {
					return false, err
				}
			}
			b := sched.take(ctx, s.p, wait)
			if b == nil {
				break
			}
			s.flying = append(s.flying, b)
			if err := s.ask(ctx, b); err != nil {
				return false, err
			}
		}
		if len(s.flying) == 0 {
			sched.mu.Lock()
			defer sched.mu.Unlock()
			return !sched.ended && ctx.Err() == nil, nil
		}
		b := s.flying[0]
		if err := s.read(ctx, b); err != nil {
			return false, err
		}
		s.flying = s.flying[1:]
		sched.giveBack(b)
		s.used = true
	}
}

func (s *openStream) ask(ctx context.Context, b *block) error {
	if s.raw == nil {
		raw, err := s.p.f.n.net.Open(ctx, s.p.info.ID, blobProtocol)
		if err != nil {
			return err
		}
		s.raw = raw
		s.stop = context.AfterFunc(ctx, func() { _ = raw.Reset() }) // so that a read that waits for the peer ends
		quiet := link.Within(raw, idleTimeout).Paced()
		t := limits.Transfer{
			Limits: s.p.f.n.limits.Download(s.p.info.ID), Background: s.p.f.background,
			Count: &s.p.f.n.counters.contentReceived,
		}
		s.r = bufio.NewReaderSize(t.Reader(ctx, quiet), readBuffer)
		s.w = quiet
	}
	s.p.f.sched.mu.Lock()
	b.cancel = func() { s.p.f.work.Go(func() { _ = s.raw.Reset() }) } // which may wait for the network; who cancels holds the schedule
	s.p.f.sched.mu.Unlock()
	reqs := make([]blobRequest, len(b.items))
	for i, it := range b.items {
		reqs[i] = it.req
	}
	msg, err := appendRequests(nil, s.p.f.background, reqs)
	if err != nil {
		return err
	}
	if _, err := io.Copy(s.w, bytes.NewReader(msg)); err != nil {
		if s.used {
			return errors.Join(errStale, err)
		}
		return fmt.Errorf("ask for blobs: %w", err)
	}
	return nil
}

func (s *openStream) close(broken bool) {
	if s.raw == nil {
		return
	}
	if s.stop() && !broken {
		_ = s.raw.CloseWrite() // the provider then ends the stream, too
		_ = s.raw.Close()
		return
	}
	_ = s.raw.Reset() // it is of no more use
}

// read reads the answers of a block.
func (s *openStream) read(ctx context.Context, b *block) error {
	for i, it := range b.items {
		asked := time.Now()
		if i == 0 {
			if _, err := s.r.Peek(1); err != nil {
				if s.used && errors.Is(err, io.EOF) {
					return errStale
				}
				return fmt.Errorf("blob %s: %w", it.req.hash.Short(), noEOF(err))
			}
			if !s.used {
				s.p.addStreams(ctx, time.Since(asked))
			}
		}
		if err := s.readItem(b, it); err != nil {
			return err
		}
	}
	return nil
}

// PeerFault is something that a peer sent and must not have sent.
type PeerFault struct{ What string }

func (e *PeerFault) Error() string { return "the peer breaks the protocol: " + e.What }

func (s *openStream) readItem(b *block, it *blockItem) error {
	f, want := s.p.f, it.need.want
	head, err := readAnswerHead(s.r)
	if err != nil {
		return fmt.Errorf("blob %s: %w", want.Hash.Short(), err)
	}
	switch {
	case head.status == statusLarger, head.status == statusSpent:
		return &PeerFault{"a blob is said to be over a limit or budget that was not given"}
	case head.status == statusNotHere:
		if it.req.children != nil {
			if n, err := binary.ReadUvarint(s.r); err != nil || n > 0 {
				return errors.Join(&PeerFault{"children of a sequence that is not here"}, err)
			}
		}
		f.sched.answered(b, it, true)
		return nil
	case len(head.ranges.Without(it.req.ranges)) > 0:
		return &PeerFault{fmt.Sprintf("ranges of blob %s that nobody asked for", want.Hash.Short())}
	}
	f.sched.mu.Lock()
	known, size := it.need.proved, it.need.size
	it.expect = head.ranges
	if it.expect == nil {
		it.expect = blobs.Ranges{}
	}
	f.sched.mu.Unlock()
	if known && head.size != size {
		return &PeerFault{fmt.Sprintf("blob %s is said to have %d bytes, it has %d", want.Hash.Short(), head.size, size)}
	}
	if err := s.receive(it, head); err != nil {
		return err
	}
	refused := len(it.req.ranges.Intersect(blobs.Ranges{{Start: 0, End: head.size}}).Without(head.ranges).Without(provedRanges(it, head))) > 0
	if it.req.children == nil {
		f.sched.answered(b, it, refused)
		return nil
	}
	return s.readChildren(b, it, refused)
}

func provedRanges(it *blockItem, head answerHead) blobs.Ranges {
	if it.req.proveSize {
		return lastGroup(head.size)
	}
	return nil
}

// receive reads the streams of one blob.
func (s *openStream) receive(it *blockItem, head answerHead) error {
	f, want := s.p.f, it.need.want
	proved := !it.req.proveSize
	on := blobs.Hooks{
		Verified: func(n int) {
			if proved { // the proof itself is not part of what is expected
				f.sched.mu.Lock()
				it.got += uint64(n)
				f.sched.mu.Unlock()
			}
			s.p.came(n)
			f.came(n)
		},
		Accept: func() error {
			ok, err := f.checkClaims(head.size, want, it.need.also...)
			if err == nil && !ok {
				f.sched.drop(it)
				err = errRefuted
			}
			return err
		},
		Proved: func() error {
			proved = true
			if f.sizeKnown != nil {
				f.sizeKnown(head.size)
			}
			f.sched.setProved(it, head.size)
			return nil
		},
	}
	var err error
	if it.req.proveSize {
		err = f.rc.ReceiveNew(s.r, want.Hash, head.size, head.ranges, on)
	} else {
		err = f.rc.Receive(s.r, want.Hash, head.size, head.ranges, on)
	}
	if local := f.rc.Err(); local != nil {
		return storeFault{local}
	}
	if errors.Is(err, errRefuted) {
		if err = nil; head.size > blobs.SegmentSize {
			err = errEnough // the rest of the answer is not wanted
		}
	}
	return err
}

// readChildren reads the children of a sequence that came unasked for by name.
func (s *openStream) readChildren(b *block, it *blockItem, refused bool) error {
	f, h := s.p.f, it.req.hash
	count, err := binary.ReadUvarint(s.r)
	if err != nil {
		return fmt.Errorf("sequence %s: %w", h.Short(), noEOF(err))
	}
	defer f.sched.childrenEnded()
	var children blobs.Sequence
	var have []bool
	if count > 0 {
		if children, have, err = f.children(h, it.req.children, count); err != nil {
			return err
		}
	}
	if it.req.children.limit == eagerLimit {
		f.sched.expectChildren(children, have)
	}
	f.sched.answered(b, it, refused)
	present := 0
	for _, is := range have {
		if is {
			present++
		}
	}
	if present > 16 && present > len(have)/8 {
		return errEnough // most would come for nothing: ask for what is missing, by name
	}
	for i, child := range children {
		more, err := s.readChild(child, it.req.children, have[i])
		if err != nil || !more {
			return err
		}
	}
	return nil
}

// children returns the children, of a sequence that has just come, that follow on a request, and
// which of them are here.
func (f *fetcher) children(h blobs.Hash, req *childRequest, count uint64) (blobs.Sequence, []bool, error) {
	if err := f.rc.Flush(); err != nil {
		return nil, nil, storeFault{err}
	}
	content, err := f.n.Blobs.ReadAll(f.ctx, h, blobs.MaxChildren*blobs.HashSize)
	if errors.Is(err, blobs.ErrIncomplete) || errors.Is(err, blobs.ErrNotFound) {
		return nil, nil, &PeerFault{"children of a sequence that did not come whole"}
	}
	if err != nil {
		return nil, nil, storeFault{err}
	}
	children, err := blobs.ParseSequence(content)
	if err != nil || req.first+count > uint64(len(children)) || count > req.count {
		return nil, nil, &PeerFault{fmt.Sprintf("%d children of blob %s, which has not so many", count, h.Short())}
	}
	children = children[req.first : req.first+count]
	have := make([]bool, count)
	err = f.n.Blobs.Stats(f.ctx, children, func(i int, info blobs.Info, known bool, _ func() (blobs.Ranges, error)) error {
		have[i] = known && info.Complete
		return nil
	})
	if err != nil {
		return nil, nil, storeFault{err}
	}
	return children, have, nil
}

// readChild reads the answer for one child; more says whether others follow.
func (s *openStream) readChild(h blobs.Hash, req *childRequest, have bool) (more bool, err error) {
	f := s.p.f
	head, err := readAnswerHead(s.r)
	if err != nil {
		return false, fmt.Errorf("blob %s: %w", h.Short(), err)
	}
	switch {
	case head.status == statusSpent && req.budget > 0:
		return false, nil
	case head.status != statusHere:
		f.sched.childCame(h, false)
		return true, nil
	}
	if req.limit > 0 && head.size > req.limit || len(head.ranges.Without(req.ranges)) > 0 {
		return false, &PeerFault{fmt.Sprintf("blob %s is more than was asked for", h.Short())}
	}
	f.n.Blobs.Touch(f.ctx, h)
	on := blobs.Hooks{Verified: func(n int) { s.p.came(n); f.came(n) }}
	if have {
		on.Verified = func(n int) { s.p.came(n) }
	}
	if err := f.rc.ReceiveNew(s.r, h, head.size, head.ranges, on); err != nil {
		if local := f.rc.Err(); local != nil {
			return false, storeFault{local}
		}
		return false, err
	}
	whole := len(blobs.Ranges{{Start: 0, End: head.size}}.Without(lastGroup(head.size)).Without(head.ranges)) == 0
	f.sched.childCame(h, whole)
	return true, nil
}
