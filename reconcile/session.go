package reconcile

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
)

const (
	// itemsFrame is the length from which items are sent: short enough that the peer has something to
	// do while more is read.
	itemsFrame = 128 << 10
	// softOpen is the number of open questions above which a side stops dividing ranges and lists
	// items instead, so that the number of questions under way stays bounded on both sides.
	softOpen = 1 << 15
	// softMemory is likewise of the bytes that open questions may occupy at the peer: a quarter of
	// hardMemory, since the peer may have answered the small ones first.
	softMemory = hardMemory / 4
	// hardOpen and hardMemory bound what a peer may leave waiting: its questions, and the bytes that
	// they occupy.
	hardOpen   = 1 << 18
	hardMemory = 64 << 20
	// hardParts bounds what a peer may ask in all: each part costs a look at the tree.
	hardParts = 1 << 21
	// freePasses, and passesEach for each item of the set, are how many items a peer may have this
	// side look at and not send.
	freePasses = 1 << 16
	passesEach = 4
)

// Config says what a session reconciles.
type Config struct {
	Set Set
	// Range is what is reconciled of the set, on both sides; the zero value is all of it.
	Range Range
	// Insert takes items that the peer sent, in the order they came; it copies what it keeps. It is
	// called by one goroutine at a time, and may return before the items are stored, but should wait
	// when many are not. What it does not accept it reports by an error, then or later, which ends the
	// session.
	Insert func(ctx context.Context, items [][]byte) error
	// Flush, if set, returns when all items taken before are stored and Set shows them. It may be
	// called while Insert runs.
	Flush func(ctx context.Context) error
	// Key keys digests and short ids. Both sides must have contributed to it, freshly for this
	// session.
	Key [32]byte
	// Sent, if set, is told of each item that is sent, by one goroutine at a time.
	Sent func(*Item)
	// Unchecked leaves out the last, strict question, because what Insert gets does not change Set.
	Unchecked bool
	// Plain does without sketches: for measuring what they are worth.
	Plain bool
	// Budget, if set, counts the memory in bytes that the peer makes this side hold: frames that
	// are being read, and questions that wait. What it refuses ends the session with its error. All
	// is given back when Run returns.
	Budget Budget
	// Guard, if set, calls what reads and what writes, each in a goroutine, and may make an error of a
	// panic.
	Guard func(func() error) error
	// Initiator is set on the side that asks first.
	Initiator bool

	softMemory uint64 // softMemory, but in tests
}

// Budget bounds memory. Its methods are called by several goroutines.
type Budget interface {
	// Take counts n bytes before they are taken, or returns an error.
	Take(n int) error
	// Give takes back n bytes.
	Give(n int)
}

// unbounded is the Budget of a session without one.
type unbounded struct{}

func (unbounded) Take(int) error { return nil }
func (unbounded) Give(int)       {}

func (c *Config) flush(ctx context.Context) error {
	if c.Flush == nil {
		return nil
	}
	return c.Flush(ctx)
}

// Stats counts what a session did.
type Stats struct {
	Rounds        int    // round trips of the longest chain of question and answer
	Messages      int    // frames, both ways together
	BytesSent     uint64 // with items
	BytesReceived uint64
	ItemsSent     uint64
	ItemsReceived uint64 // also those that were known already
}

// Run reconciles cfg.Set with that of the peer at the other end of r and w, and returns when both
// have what the other had. It reads from r no byte that does not belong to the session.
//
// On an error, or when ctx ends, it calls abort, which must make pending reads and writes fail, and
// returns the first cause: a *ProtocolError if the peer is at fault, what Guard makes of a panic,
// the error of Set, Insert, r or w otherwise. What was inserted until then stays, and the next
// session goes on from there.
func Run(
	ctx context.Context, r *bufio.Reader, w io.Writer, abort func(), cfg Config,
) (Stats, error) {
	if cfg.Set == nil || cfg.Insert == nil || abort == nil {
		return Stats{}, errors.New("reconcile: Config needs Set and Insert, and Run needs abort")
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if cfg.Budget == nil {
		cfg.Budget = unbounded{}
	}
	if cfg.softMemory == 0 {
		cfg.softMemory = softMemory
	}
	s := &session{cfg: cfg, key: newSessionKey(cfg.Key), r: r, w: w, wake: make(chan struct{}, 1)}
	stop := context.AfterFunc(ctx, abort)
	defer stop()
	var wg sync.WaitGroup
	guard := cfg.Guard
	if guard == nil {
		guard = func(fn func() error) error { return fn() }
	}
	wg.Go(func() {
		if err := guard(func() error { return s.read(ctx) }); err != nil {
			cancel(err)
		}
	})
	// A fault on this side, too, ends the reader before anybody else learns of it.
	err := guard(func() error { return s.write(ctx) })
	if err != nil {
		cancel(err)
	}
	wg.Wait()
	cfg.Budget.Give(s.memory) // of what is left unanswered
	if cause := context.Cause(ctx); cause != nil {
		return s.stats, fmt.Errorf("reconcile: %w", cause)
	}
	return s.stats, nil
}

// session is the state of one side. The reader takes frames in, inserts items and queues questions;
// the writer answers them. The reader never waits for the writer, so two sides that both have much
// to send cannot lock each other up.
type session struct {
	cfg Config
	key sessionKey
	r   *bufio.Reader
	w   io.Writer

	mu       sync.Mutex
	queue    []question
	memory   int    // of the queue
	open     uint64 // own questions that the peer has not answered
	weight   uint64 // about what these occupy at the peer, in bytes
	peerDone bool
	stats    Stats
	parts    uint64 // that the peer has asked about
	asked    uint64 // items that were asked for by their ids or elements

	wake chan struct{} // tells the writer that something above has changed

	// The rest belongs to the writer.
	ranges   []byte // questions of the frame being built
	bound    []byte // the last bound in it
	pending  uint64 // questions in it
	heavy    uint64 // about what these will occupy at the peer, in bytes
	round    int    // the highest round in it
	answered uint64 // of the peer's questions, in all
	told     uint64 // of these, the peer knows
	passed   uint64 // items that were looked at, and not sent
	mayPass  uint64 // up to how many that may be before the set is counted again
	items    []byte // items of the frame being built
}

func (s *session) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *session) read(ctx context.Context) error {
	for {
		over, err := s.readOne(ctx)
		if err != nil || over {
			return err
		}
	}
}

// readOne takes one frame in. over tells that the peer sends no more.
func (s *session) readOne(ctx context.Context) (over bool, err error) {
	kind, n, err := readHead(s.r)
	if err != nil {
		return false, noEOF(err)
	}
	held := 0
	take := func(n int) error {
		err := s.cfg.Budget.Take(n)
		if err == nil {
			held += n
		}
		return err
	}
	defer func() { s.cfg.Budget.Give(held) }()
	if err := take(n); err != nil {
		return false, err
	}
	b, err := readPayload(s.r, n)
	if err != nil {
		return false, err
	}
	s.mu.Lock()
	s.stats.BytesReceived += uint64(frameSize(len(b)))
	s.stats.Messages++
	s.mu.Unlock()
	switch kind {
	case frameItems:
		items, err := parseItems(b, take)
		if err != nil {
			return false, err
		}
		if err := s.cfg.Insert(ctx, items); err != nil {
			return false, err
		}
		s.mu.Lock()
		s.stats.ItemsReceived += uint64(len(items))
		s.mu.Unlock()
	case frameRanges:
		f, err := parseRanges(b, s.keep)
		if err != nil {
			return false, err
		}
		return false, s.take(f)
	case frameDone:
		if len(b) > 0 {
			return false, protocolErrorf("a done frame with content")
		}
		return true, s.takeDone()
	default:
		return false, protocolErrorf("frame of unknown type %d", kind)
	}
	return false, nil
}

// keep counts what has just been parsed of a question; next and Run give it back.
func (s *session) keep(n int) error {
	if err := s.cfg.Budget.Take(n); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.memory += n; s.memory > hardMemory {
		return protocolErrorf("questions of %d bytes wait for an answer", s.memory)
	}
	return nil
}

func (s *session) take(f rangesFrame) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.signal()
	if f.answered > s.open {
		return protocolErrorf("%d answers to %d questions", f.answered, s.open)
	}
	if f.answered > 0 { // which ones, the peer does not say
		s.weight = s.weight / s.open * (s.open - f.answered)
		s.open -= f.answered
	}
	s.stats.Rounds = max(s.stats.Rounds, (f.round+1)/2)
	for i := range f.questions {
		q := &f.questions[i]
		if q.kind != kindFetch && !q.r.within(s.cfg.Range) {
			return protocolErrorf("a question about what is not reconciled")
		}
		s.parts += uint64(max(1, len(q.parts)))
	}
	s.queue = append(s.queue, f.questions...)
	if len(s.queue) > hardOpen {
		return protocolErrorf("%d questions wait for an answer", len(s.queue))
	}
	if s.parts > hardParts {
		return protocolErrorf("more than %d questions", hardParts)
	}
	return nil
}

func (s *session) takeDone() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.signal()
	if !s.cfg.Initiator && (s.open > 0 || len(s.queue) > 0) {
		return protocolErrorf("done with %d questions open", s.open+uint64(len(s.queue)))
	}
	s.peerDone = true
	return nil
}

// write answers questions until the session is over. It flushes whenever nothing is left to answer,
// so that the peer never waits for something that has been decided.
func (s *session) write(ctx context.Context) error {
	if s.cfg.Initiator {
		if err := s.compareAll(ctx, false, 1); err != nil {
			return err
		}
	}
	checked, saidDone := false, false
	for {
		q, ok, over := s.next()
		switch {
		case ok:
			if err := s.answer(ctx, &q); err != nil {
				return err
			}
			s.answered++
			continue
		case over:
			return s.end(ctx, saidDone)
		}
		if err := s.flush(); err != nil {
			return err
		}
		if s.cfg.Initiator && !saidDone && s.quiet() {
			if st := s.current(); !checked && !s.cfg.Unchecked && st.ItemsSent+st.ItemsReceived > 0 {
				checked = true
				if err := s.compareAll(ctx, true, 2*st.Rounds+1); err != nil {
					return err
				}
				continue
			}
			saidDone = true
			if err := s.cfg.flush(ctx); err != nil {
				return err
			}
			if err := s.send(frameDone, nil); err != nil {
				return err
			}
		}
		select {
		case <-s.wake:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// compareAll asks about everything: at first with a sketch, then strictly, to make sure of what
// sketches have shown.
func (s *session) compareAll(ctx context.Context, strict bool, round int) error {
	sums := capacity
	if strict {
		if err := s.cfg.flush(ctx); err != nil {
			return err
		}
	}
	if strict || s.cfg.Plain {
		sums = 0
	}
	r := s.cfg.Range
	sum, err := SummaryOf(ctx, s.cfg.Set, r)
	if err != nil {
		return err
	}
	return s.ask(
		&question{kind: kindCompare, r: r, sums: sums, strict: strict, parts: []claim{s.claim(r, &sum)}},
		round,
	)
}

// end is called when the peer has said that it is done.
func (s *session) end(ctx context.Context, saidDone bool) error {
	if s.cfg.Initiator && !saidDone {
		return protocolErrorf("done before the initiator said so")
	}
	if !s.cfg.Initiator {
		if err := s.cfg.flush(ctx); err != nil {
			return err
		}
		if err := s.send(frameDone, nil); err != nil {
			return err
		}
	}
	// An item may have been replaced by a newer one when the peer is asked for it, but not most of
	// many.
	s.mu.Lock()
	defer s.mu.Unlock()
	const many = 16
	if s.asked >= many && s.stats.ItemsReceived < s.asked/2 {
		return protocolErrorf("it claimed %d items that it did not send", s.asked-s.stats.ItemsReceived)
	}
	return nil
}

// wanted counts items that the peer is asked for.
func (s *session) wanted(n int) {
	s.mu.Lock()
	s.asked += uint64(n)
	s.mu.Unlock()
}

func (s *session) current() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

// next takes the latest question, so that ranges are narrowed down depth first and few are open at
// a time. over means that there is none, and the peer will ask no more.
func (s *session) next() (q question, ok, over bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.queue); n > 0 {
		q = s.queue[n-1]
		s.queue[n-1] = question{}
		s.queue = s.queue[:n-1]
		s.memory -= q.memory()
		s.cfg.Budget.Give(q.memory())
		return q, true, false
	}
	return q, false, s.peerDone
}

// quiet reports, after a flush, that there is nothing to do and nothing to wait for. The peer's
// questions come before or with the answers that gave rise to them, so none can still be on its
// way.
func (s *session) quiet() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open == 0 && len(s.queue) == 0
}

func (s *session) answer(ctx context.Context, q *question) error {
	if q.round >= maxRounds {
		return protocolErrorf("no end after %d rounds", q.round)
	}
	round := q.round + 1
	switch q.kind {
	case kindCompare:
		return s.answerCompare(ctx, q, round)
	case kindList:
		return s.offer(ctx, q.r, round)
	case kindOffer:
		return s.answerOffer(ctx, q, round)
	case kindFetch:
		return s.answerFetch(ctx, q)
	default: // kindSend
		return s.sendItems(ctx, q.r, idSet(q.ids), true, nil)
	}
}

func (s *session) crowded() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open+s.pending > softOpen || s.weight+s.heavy > s.cfg.softMemory
}

func (s *session) sendItem(item *Item) error {
	if len(s.items) > 0 && len(s.items)+len(item.Data)+binary.MaxVarintLen32 > itemsFrame {
		if err := s.flushItems(); err != nil {
			return err
		}
	}
	s.items = binary.AppendUvarint(s.items, uint64(len(item.Data)))
	s.items = append(s.items, item.Data...)
	if s.cfg.Sent != nil {
		s.cfg.Sent(item)
	}
	s.mu.Lock()
	s.stats.ItemsSent++
	s.mu.Unlock()
	return nil
}

// ask adds a question to the frame being built. A comparison of parts whose bounds are too long for
// one frame becomes several.
func (s *session) ask(q *question, round int) error {
	b, bound := appendQuestion(s.ranges, s.bound, q)
	if len(b) > maxRanges {
		if err := s.flush(); err != nil {
			return err
		}
		b, bound = appendQuestion(s.ranges, s.bound, q)
	}
	if n := len(q.parts); len(b) > maxRanges && n > 1 {
		first, rest := *q, *q
		first.parts, rest.parts = q.parts[:n/2], q.parts[n/2:]
		first.r.To = first.parts[n/2-1].to
		rest.r.From = first.r.To
		if err := s.ask(&first, round); err != nil {
			return err
		}
		return s.ask(&rest, round)
	}
	s.ranges, s.bound = b, bound
	s.pending++
	s.heavy += uint64(q.memory())
	s.round = max(s.round, round)
	return nil
}

// flush sends what has been built: items before the answers that count them.
func (s *session) flush() error {
	if err := s.flushItems(); err != nil {
		return err
	}
	if s.pending == 0 && s.answered == s.told {
		return nil
	}
	b := binary.AppendUvarint(nil, uint64(s.round))
	b = binary.AppendUvarint(b, s.answered-s.told)
	b = append(b, s.ranges...)
	s.mu.Lock()
	s.open += s.pending // before they are sent: the answer may come at once
	s.weight += s.heavy
	s.stats.Rounds = max(s.stats.Rounds, (s.round+1)/2)
	s.mu.Unlock()
	s.told, s.pending, s.heavy = s.answered, 0, 0
	s.ranges, s.bound, s.round = s.ranges[:0], nil, 0
	return s.send(frameRanges, b)
}

func (s *session) flushItems() error {
	if len(s.items) == 0 {
		return nil
	}
	err := s.send(frameItems, s.items)
	s.items = s.items[:0]
	return err
}

func (s *session) send(kind byte, payload []byte) error {
	frame := appendFrame(nil, kind, payload)
	s.mu.Lock()
	s.stats.BytesSent += uint64(len(frame))
	s.stats.Messages++
	s.mu.Unlock()
	_, err := s.w.Write(frame)
	if errors.Is(err, io.ErrClosedPipe) {
		return io.ErrUnexpectedEOF
	}
	return err
}
