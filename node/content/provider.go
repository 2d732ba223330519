package content

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/internal/fault"
	"github.com/skerry-sync/skerry/node/content/schedule"
	"github.com/skerry-sync/skerry/node/content/wire"
	"github.com/skerry-sync/skerry/node/link"
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
	src  *schedule.Source

	mu      sync.Mutex
	turn    turn // when it is asked
	running bool
	streams int
	err     error // why it is not asked any more
	dead    bool
	retried bool // see again
	inRow   int  // see passesOver
}

// newProvider returns a provider that has not been asked yet.
func (f *fetcher) newProvider(info peer.AddrInfo) *provider {
	return &provider{f: f, info: info, src: f.sched.NewSource(info.ID)}
}

// came takes account of n verified bytes.
func (p *provider) came(n int) {
	p.mu.Lock()
	p.inRow = 0
	p.mu.Unlock()
	p.src.Came(n)
}

// run asks the provider until the fetch ends, or the provider fails.
func (p *provider) run(ctx context.Context) {
	err := fault.Guard(p.f.x.log, "a fetch", func() error {
		return p.f.x.net.Connect(ctx, p.info)
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
	p.f.sched.Notify()
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
		p.src.IsFar()
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
	stream
	p      *provider
	flying []*schedule.Block
	deaf   bool           // takes no more requests; answers may still come
	broke  *schedule.Item // at which it ended, if it ended while an answer was awaited or read
}

// stream asks for blocks on one stream until there is nothing more to ask for. A stream that was
// cancelled, because nobody needs the rest of its answer, is replaced.
func (p *provider) stream(ctx context.Context) {
	for ctx.Err() == nil && !p.failed() {
		s := &openStream{p: p, stream: p.f.x.stream(p.info.ID, p.f.background)}
		more := false
		err := fault.Guard(p.f.x.log, "a fetch", func() (err error) {
			more, err = s.run(ctx)
			return err
		}, "peer", p.info.ID)
		cancelled := false
		for _, b := range s.flying {
			cancelled = p.f.sched.GiveBack(b) || cancelled
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
			if p.passesOver(s, err) {
				continue
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
	for end := time.Now().Add(noticed); p.f.x.net.Connected(p.info.ID); {
		if time.Now().After(end) {
			return false, nil // it is there, and has refused
		}
		select {
		case <-ctx.Done():
			return false, nil
		case <-time.After(noticed / 20):
		}
	}
	err := p.f.x.net.Connect(ctx, p.info)
	return err == nil, err
}

// mostPassed is how many pieces of content in a row a provider may fail to give before it is asked
// for nothing more.
const mostPassed = 4

// passesOver reports whether a provider whose stream has ended is asked for the rest, without what
// it ended at: that may be all that is wrong, such as a file that cannot be read any more. Content
// that is asked for behind it would otherwise never come.
func (p *provider) passesOver(s *openStream, err error) bool {
	if s.broke == nil || isAnswer(err) {
		return false
	}
	p.f.sched.Refuse(s.broke, p.src)
	var wait net.Error
	slow := errors.As(err, &wait) && wait.Timeout() || errors.Is(err, link.ErrSlow)
	if slow || !p.f.x.net.Connected(p.info.ID) {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inRow++
	if p.dead || p.inRow > mostPassed {
		return false
	}
	p.err = err
	p.f.x.log.Info("a provider does not give a blob", "peer", p.info.ID,
		"hash", s.broke.Request.Hash, "error", err)
	return true
}

// run asks and reads until there is nothing to do: more says that there may be later.
func (s *openStream) run(ctx context.Context) (more bool, err error) {
	sched := s.p.f.sched
	for {
		for len(s.flying) < pipeline && !s.deaf {
			wait := time.Duration(0)
			if len(s.flying) == 0 {
				wait = streamIdle
				if err := s.p.f.x.limits.Turns.Wait(ctx, s.p.f.background); err != nil {
					return false, err
				}
			}
			b := sched.Take(ctx, s.p.src, wait)
			if b == nil {
				break
			}
			s.flying = append(s.flying, b)
			if err := s.ask(ctx, b); err != nil {
				if last := len(s.flying) - 1; last > 0 && ctx.Err() == nil {
					// The provider has ended the stream, maybe behind answers that tell where.
					s.flying, s.deaf = s.flying[:last], true
					sched.GiveBack(b)
					break
				}
				return false, err
			}
		}
		if len(s.flying) == 0 {
			return !sched.Ended() && ctx.Err() == nil, nil // if it is deaf, on another stream
		}
		b := s.flying[0]
		if err := s.read(ctx, b); err != nil {
			return false, err
		}
		s.flying = s.flying[1:]
		sched.GiveBack(b)
		s.used = true
	}
}

// ask asks for a block.
func (s *openStream) ask(ctx context.Context, b *schedule.Block) error {
	if err := s.open(ctx); err != nil {
		return err
	}
	raw := s.raw
	s.p.f.sched.OnCancel(b, func() {
		s.p.f.work.Go(func() { _ = raw.Reset() }) // which may wait for the network
	})
	reqs := make([]wire.Request, len(b.Items))
	for i, it := range b.Items {
		reqs[i] = it.Request
	}
	return s.send(reqs)
}

// read reads the answers of a block.
func (s *openStream) read(ctx context.Context, b *schedule.Block) error {
	for i, it := range b.Items {
		asked := time.Now()
		if i == 0 {
			if _, err := s.r.Peek(1); err != nil {
				if s.used && errors.Is(err, io.EOF) {
					return errStale
				}
				s.broke = it
				return fmt.Errorf("blob %s: %w", it.Request.Hash.Short(), link.NoEOF(err))
			}
			if !s.used {
				s.p.addStreams(ctx, time.Since(asked))
			}
		}
		if err := s.readItem(b, it); err != nil {
			s.broke = it
			return err
		}
	}
	return nil
}

func (s *openStream) readItem(b *schedule.Block, it *schedule.Item) error {
	f, want := s.p.f, it.Want
	head, err := wire.ReadHead(s.r)
	if err != nil {
		return fmt.Errorf("blob %s: %w", want.Hash.Short(), err)
	}
	switch {
	case head.Status == wire.StatusLarger, head.Status == wire.StatusSpent:
		return &PeerFault{"a blob is said to be over a limit or budget that was not given"}
	case head.Status == wire.StatusNotHere:
		if it.Request.Children != nil {
			if n, err := binary.ReadUvarint(s.r); err != nil || n > 0 {
				return errors.Join(&PeerFault{"children of a sequence that is not here"}, err)
			}
		}
		f.sched.Answered(b, it, true)
		return nil
	case len(head.Ranges.Without(it.Request.Ranges)) > 0:
		return &PeerFault{fmt.Sprintf("ranges of blob %s that nobody asked for", want.Hash.Short())}
	}
	size, known := f.sched.Expect(it, head.Ranges)
	if known && head.Size != size {
		return &PeerFault{fmt.Sprintf("blob %s is said to have %d bytes, it has %d",
			want.Hash.Short(), head.Size, size)}
	}
	if err := s.receive(it, head); err != nil {
		return err
	}
	asked := it.Request.Ranges.Intersect(blobs.Ranges{{Start: 0, End: head.Size}})
	refused := len(asked.Without(head.Ranges).Without(provedRanges(it, head))) > 0
	if it.Request.Children == nil {
		f.sched.Answered(b, it, refused)
		return nil
	}
	return s.readChildren(b, it, refused)
}

func provedRanges(it *schedule.Item, head wire.Head) blobs.Ranges {
	if it.Request.ProveSize {
		return wire.LastGroup(head.Size)
	}
	return nil
}

// receive reads the streams of one blob.
func (s *openStream) receive(it *schedule.Item, head wire.Head) error {
	f, want := s.p.f, it.Want
	proved := !it.Request.ProveSize
	on := blobs.Hooks{
		Verified: func(n int) {
			if proved { // the proof itself is not part of what is expected
				f.sched.Got(it, n)
			}
			s.p.came(n)
			f.came(n)
		},
		Accept: func() error {
			ok, err := f.checkClaims(head.Size, want, f.sched.Claims(it)...)
			if err == nil && !ok {
				f.sched.Drop(it)
				err = errRefuted
			}
			return err
		},
		Proved: func() error {
			proved = true
			if f.sizeKnown != nil {
				f.sizeKnown(head.Size)
			}
			f.sched.Prove(it, head.Size)
			return nil
		},
	}
	var err error
	if it.Request.ProveSize {
		err = f.rc.ReceiveNew(s.r, want.Hash, head.Size, head.Ranges, on)
	} else {
		err = f.rc.Receive(s.r, want.Hash, head.Size, head.Ranges, on)
	}
	if local := f.rc.Err(); local != nil {
		return storeFault{local}
	}
	if _, large := errors.AsType[*blobs.FileSizeError](err); large && f.claims {
		f.x.log.Info("content is not fetched", "error", err)
		f.sched.Drop(it)
		f.noteLater(want.Hash)
		return errEnough
	}
	if errors.Is(err, errRefuted) {
		if err = nil; head.Size > blobs.SegmentSize {
			err = errEnough // the rest of the answer is not wanted
		}
	}
	return err
}

// readChildren reads the children of a sequence that came unasked for by name.
func (s *openStream) readChildren(b *schedule.Block, it *schedule.Item, refused bool) error {
	f, h := s.p.f, it.Request.Hash
	count, err := binary.ReadUvarint(s.r)
	if err != nil {
		return fmt.Errorf("sequence %s: %w", h.Short(), link.NoEOF(err))
	}
	defer f.sched.ChildrenEnded()
	var children blobs.Sequence
	var have []bool
	if count > 0 {
		if children, have, err = f.children(h, it.Request.Children, count); err != nil {
			return err
		}
	}
	f.sched.ExpectChildren(it, children, have)
	f.sched.Answered(b, it, refused)
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
		more, err := s.readChild(child, it.Request.Children, have[i])
		if err != nil || !more {
			return err
		}
	}
	return nil
}

// children returns the children, of a sequence that has just come, that follow on a request, and
// which of them are here.
func (f *fetcher) children(
	h blobs.Hash, req *wire.Children, count uint64,
) (blobs.Sequence, []bool, error) {
	if err := f.rc.Flush(); err != nil {
		return nil, nil, storeFault{err}
	}
	content, err := f.store.ReadAll(f.ctx, h, blobs.MaxChildren*blobs.HashSize)
	if errors.Is(err, blobs.ErrIncomplete) || errors.Is(err, blobs.ErrNotFound) {
		return nil, nil, &PeerFault{"children of a sequence that did not come whole"}
	}
	if err != nil {
		return nil, nil, storeFault{err}
	}
	children, err := blobs.ParseSequence(content)
	if err != nil || req.First+count > uint64(len(children)) || count > req.Count {
		return nil, nil, &PeerFault{fmt.Sprintf("%d children of blob %s, which has not so many",
			count, h.Short())}
	}
	children = children[req.First : req.First+count]
	have := make([]bool, count)
	err = f.store.Stats(f.ctx, children, func(
		i int, info blobs.Info, known bool, _ func() (blobs.Ranges, error),
	) error {
		have[i] = known && info.Complete
		return nil
	})
	if err != nil {
		return nil, nil, storeFault{err}
	}
	return children, have, nil
}

// readChild reads the answer for one child; more says whether others follow.
func (s *openStream) readChild(h blobs.Hash, req *wire.Children, have bool) (more bool, err error) {
	f := s.p.f
	head, err := wire.ReadHead(s.r)
	if err != nil {
		return false, fmt.Errorf("blob %s: %w", h.Short(), err)
	}
	switch {
	case head.Status == wire.StatusSpent && req.Budget > 0:
		return false, nil
	case head.Status != wire.StatusHere:
		f.sched.ChildCame(h, false)
		return true, nil
	}
	if req.Limit > 0 && head.Size > req.Limit || len(head.Ranges.Without(req.Ranges)) > 0 {
		return false, &PeerFault{fmt.Sprintf("blob %s is more than was asked for", h.Short())}
	}
	f.store.Touch(h)
	on := blobs.Hooks{Verified: func(n int) { s.p.came(n); f.came(n) }}
	if have {
		on.Verified = func(n int) { s.p.came(n) }
	}
	if err := f.rc.ReceiveNew(s.r, h, head.Size, head.Ranges, on); err != nil {
		if local := f.rc.Err(); local != nil {
			return false, storeFault{local}
		}
		return false, err
	}
	all := blobs.Ranges{{Start: 0, End: head.Size}}
	f.sched.ChildCame(h, len(all.Without(wire.LastGroup(head.Size)).Without(head.Ranges)) == 0)
	return true, nil
}
