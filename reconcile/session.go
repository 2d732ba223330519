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
	// itemsFrame is the length from which items are sent: short enough that the peer has something to do while more is read.
	itemsFrame = 128 << 10
	splitInto  = 16 // parts that a differing range is divided into
	listBelow  = 32 // items of a range below which they are listed rather than divided
	// much is how many times more items one side must have for the smaller one to list its own at once.
	much = 8
	// softOpen is the number of open questions above which a side stops dividing ranges and lists items instead, so that
	// the number of questions under way stays bounded on both sides.
	softOpen = 1 << 15
	// hardOpen and hardMemory bound what a peer may leave waiting: its questions, and the bytes that they occupy.
	hardOpen   = 1 << 18
	hardMemory = 64 << 20
)

// Config says what a session reconciles.
type Config struct {
	Set Set
	// Insert stores items that the peer sent, in the order they came; it copies what it keeps. It is called by one goroutine at a time; what it
	// does not accept it reports by an error, which ends the session.
	Insert func(ctx context.Context, items [][]byte) error
	// Key keys digests and short ids. Both sides must have contributed to it, freshly for this session.
	Key [32]byte
	// Initiator is set on the side that asks first.
	Initiator bool
}

// Stats counts what a session did.
type Stats struct {
	Rounds        int    // round trips of the longest chain of question and answer
	BytesSent     uint64 // with items
	BytesReceived uint64
	ItemsSent     uint64
	ItemsReceived uint64 // also those that were known already
}

// Run reconciles cfg.Set with that of the peer at the other end of r and w, and returns when both have what the other had. It
// reads from r no byte that does not belong to the session.
//
// On an error, or when ctx ends, it calls abort, which must make pending reads and writes fail, and returns the first cause: a
// *ProtocolError if the peer is at fault, the error of Set, Insert, r or w otherwise. What was inserted until then stays, and the next
// session goes on from there.
func Run(ctx context.Context, r *bufio.Reader, w io.Writer, abort func(), cfg Config) (Stats, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s := &session{cfg: cfg, key: newSessionKey(cfg.Key), r: r, w: w, wake: make(chan struct{}, 1)}
	stop := context.AfterFunc(ctx, abort)
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.read(ctx); err != nil {
			cancel(err)
		}
	})
	err := s.write(ctx)
	if err != nil {
		cancel(err)
	}
	wg.Wait()
	if cause := context.Cause(ctx); cause != nil {
		return s.stats, fmt.Errorf("reconcile: %w", cause)
	}
	return s.stats, nil
}

// session is the state of one side. The reader takes frames in, inserts items and queues questions; the writer answers them. The
// reader never waits for the writer, so two sides that both have much to send cannot lock each other up.
type session struct {
	cfg Config
	key sessionKey
	r   *bufio.Reader
	w   io.Writer

	mu       sync.Mutex
	queue    []question
	memory   int    // of the queue
	open     uint64 // own questions that the peer has not answered
	peerDone bool
	stats    Stats

	wake chan struct{} // tells the writer that something above has changed

	// The rest belongs to the writer.
	ranges   []byte // questions of the frame being built
	bound    []byte // the last bound in it
	asked    uint64 // questions in it
	round    int    // the highest round in it
	answered uint64 // of the peer's questions, in all
	told     uint64 // of these, the peer knows
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
		kind, b, err := readFrame(s.r)
		if err != nil {
			return noEOF(err)
		}
		s.mu.Lock()
		s.stats.BytesReceived += uint64(len(b)) + 2
		s.mu.Unlock()
		switch kind {
		case frameItems:
			items, err := parseItems(b)
			if err != nil {
				return err
			}
			if err := s.cfg.Insert(ctx, items); err != nil {
				return err
			}
			s.mu.Lock()
			s.stats.ItemsReceived += uint64(len(items))
			s.mu.Unlock()
		case frameRanges:
			f, err := parseRanges(b)
			if err != nil {
				return err
			}
			if err := s.take(f); err != nil {
				return err
			}
		case frameDone:
			if len(b) > 0 {
				return protocolErrorf("a done frame with content")
			}
			return s.takeDone()
		default:
			return protocolErrorf("frame of unknown type %d", kind)
		}
	}
}

func (s *session) take(f rangesFrame) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.signal()
	if f.answered > s.open {
		return protocolErrorf("%d answers to %d questions", f.answered, s.open)
	}
	s.open -= f.answered
	s.stats.Rounds = max(s.stats.Rounds, (f.round+1)/2)
	for i := range f.questions {
		s.memory += f.questions[i].memory()
	}
	s.queue = append(s.queue, f.questions...)
	if len(s.queue) > hardOpen || s.memory > hardMemory {
		return protocolErrorf("%d questions wait for an answer", len(s.queue))
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

// write answers questions until the session is over. It flushes whenever nothing is left to answer, so that the peer never waits for
// something that has been decided.
func (s *session) write(ctx context.Context) error {
	if s.cfg.Initiator {
		if err := s.compare(ctx, Part{Range: All}, 1); err != nil {
			return err
		}
	}
	saidDone := false
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
			if !s.cfg.Initiator {
				return s.send(frameDone, nil)
			}
			if !saidDone {
				return protocolErrorf("done before the initiator said so")
			}
			return nil
		}
		if err := s.flush(); err != nil {
			return err
		}
		if s.cfg.Initiator && !saidDone && s.quiet() {
			saidDone = true
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

// next takes the latest question, so that ranges are narrowed down depth first and few are open at a time. over means that there
// is none, and the peer will ask no more.
func (s *session) next() (q question, ok, over bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.queue); n > 0 {
		q = s.queue[n-1]
		s.queue[n-1] = question{}
		s.queue = s.queue[:n-1]
		s.memory -= q.memory()
		return q, true, false
	}
	return q, false, s.peerDone
}

// quiet reports, after a flush, that there is nothing to do and nothing to wait for. The peer's questions come before or with the
// answers that gave rise to them, so none can still be on its way.
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
	default: // kindSend
		return s.sendItems(ctx, q.r, wanted(q.ids), true, nil)
	}
}

func (s *session) answerCompare(ctx context.Context, q *question, round int) error {
	mine, err := s.cfg.Set.Summary(ctx, q.r)
	if err != nil {
		return err
	}
	switch {
	case s.key.digest(&mine) == q.digest && mine.Count == q.count:
		return nil
	case q.count == 0:
		return s.sendItems(ctx, q.r, nil, false, nil)
	case mine.Count <= listBelow, mine.Count <= q.count/much, s.crowded():
		return s.offer(ctx, q.r, round)
	case q.count <= listBelow, q.count <= mine.Count/much:
		return s.ask(&question{kind: kindList, r: q.r}, round)
	}
	parts, err := s.cfg.Set.Split(ctx, q.r, splitInto)
	if err != nil {
		return err
	}
	for _, p := range parts {
		if err := s.compare(ctx, p, round); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) crowded() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open+s.asked > softOpen
}

func (s *session) compare(ctx context.Context, p Part, round int) error {
	if len(p.Range.From) == 0 && len(p.Range.To) == 0 && p.Count == 0 { // the whole set: not summed up yet
		var err error
		if p.Summary, err = s.cfg.Set.Summary(ctx, p.Range); err != nil {
			return err
		}
	}
	return s.ask(&question{kind: kindCompare, r: p.Range, count: p.Count, digest: s.key.digest(&p.Summary)}, round)
}

// offer lists all items of a range, in pieces of at most maxIDs.
func (s *session) offer(ctx context.Context, r Range, round int) error {
	q := question{kind: kindOffer, r: r}
	var last []byte
	for item, err := range s.cfg.Set.Items(ctx, r) {
		if err != nil {
			return err
		}
		if len(q.ids) == maxIDs {
			at := Separator(last, item.Key)
			q.r.To = at
			if err := s.ask(&q, round); err != nil {
				return err
			}
			q.r, q.ids = Range{From: at, To: r.To}, q.ids[:0]
		}
		q.ids = append(q.ids, s.key.short(item.ID))
		last = append(last[:0], item.Key...)
	}
	return s.ask(&q, round)
}

func wanted(ids []shortID) map[shortID]bool {
	m := make(map[shortID]bool, len(ids))
	for _, id := range ids {
		m[id] = true
	}
	return m
}

// answerOffer sends what the peer did not list, and asks for what it did and is not here.
func (s *session) answerOffer(ctx context.Context, q *question, round int) error {
	offered := wanted(q.ids)
	lacking := wanted(q.ids)
	if err := s.sendItems(ctx, q.r, offered, false, lacking); err != nil || len(lacking) == 0 {
		return err
	}
	ids := make([]shortID, 0, len(lacking))
	for _, id := range q.ids {
		if lacking[id] {
			ids = append(ids, id)
			delete(lacking, id) // an id that is listed twice is asked for once
		}
	}
	return s.ask(&question{kind: kindSend, r: q.r, ids: ids}, round)
}

// sendItems sends the items of r whose short id is in ids, or is not, depending on in; what it meets it takes out of seen.
func (s *session) sendItems(ctx context.Context, r Range, ids map[shortID]bool, in bool, seen map[shortID]bool) error {
	for item, err := range s.cfg.Set.Items(ctx, r) {
		if err != nil {
			return err
		}
		if ids != nil {
			id := s.key.short(item.ID)
			delete(seen, id)
			if ids[id] != in {
				continue
			}
		}
		if len(s.items) > 0 && len(s.items)+len(item.Data)+binary.MaxVarintLen32 > itemsFrame {
			if err := s.flushItems(); err != nil {
				return err
			}
		}
		s.items = binary.AppendUvarint(s.items, uint64(len(item.Data)))
		s.items = append(s.items, item.Data...)
		s.mu.Lock()
		s.stats.ItemsSent++
		s.mu.Unlock()
	}
	return nil
}

// ask adds a question to the frame being built.
func (s *session) ask(q *question, round int) error {
	b := appendQuestion(s.ranges, &s.bound, q)
	if len(b)+2*binary.MaxVarintLen64 > maxFrame {
		if err := s.flush(); err != nil {
			return err
		}
		b = appendQuestion(s.ranges, &s.bound, q)
	}
	s.ranges = b
	s.asked++
	s.round = max(s.round, round)
	return nil
}

// flush sends what has been built: items before the answers that count them.
func (s *session) flush() error {
	if err := s.flushItems(); err != nil {
		return err
	}
	if s.asked == 0 && s.answered == s.told {
		return nil
	}
	b := binary.AppendUvarint(nil, uint64(s.round))
	b = binary.AppendUvarint(b, s.answered-s.told)
	b = append(b, s.ranges...)
	s.mu.Lock()
	s.open += s.asked // before they are sent: the answer may come at once
	s.stats.Rounds = max(s.stats.Rounds, (s.round+1)/2)
	s.mu.Unlock()
	s.told, s.asked, s.ranges, s.bound, s.round = s.answered, 0, s.ranges[:0], nil, 0
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
	s.mu.Unlock()
	_, err := s.w.Write(frame)
	if errors.Is(err, io.ErrClosedPipe) {
		return io.ErrUnexpectedEOF
	}
	return err
}
