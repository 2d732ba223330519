package versions

import (
	"context"
	"iter"
	"math"
	"sync"
	"time"

	"github.com/skerry-sync/skerry/replica"
)

// What of this device's versions is known to be elsewhere, too, so that it would survive the loss
// of the device. Peers are asked for it (see AskHeld), and believed.

// held is what has been found out since the Set was opened.
type held struct {
	mu    sync.Mutex
	known map[[32]byte]bool // ids of entries after Device.Held that are elsewhere
	least uint64            // the earliest time that was written at since the last look began
}

// maxKnown is how many entries are remembered. Others are asked for again.
const maxKnown = 1 << 17

func (h *held) has(id [32]byte) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.known[id]
}

func (h *held) note(id [32]byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.known == nil {
		h.known = map[[32]byte]bool{}
	}
	if len(h.known) < maxKnown {
		h.known[id] = true
	}
}

// begin begins a look.
func (h *held) begin() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.least = math.MaxUint64
}

// wrote takes note of a time that was written at.
func (h *held) wrote(at uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.least = min(h.least, at)
}

// end returns the earliest time that was written at since the look began, and forgets what a look
// has found if all was found.
func (h *held) end(all bool) (least uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if all {
		h.known = nil
	}
	return h.least
}

// put writes values. The caller holds the lock of the Set.
func (s *Set) put(ctx context.Context, as replica.SecretKey, values []Value) error {
	if err := s.maySign(); err != nil {
		return err
	}
	written, err := s.cfg.Slots.Put(ctx, as, values)
	for i := range written {
		if e := &written[i].Entry; e.Author == s.dev.Author {
			// The clock may have gone back. If the power fails now, this version is not pending.
			s.held.wrote(e.Timestamp)
			if e.Timestamp <= s.dev.Held && err == nil {
				err = s.saveHeld(ctx, e.Timestamp-1)
			}
		}
	}
	return err
}

func (s *Set) saveHeld(ctx context.Context, until uint64) error {
	dev := s.dev
	dev.Held = until
	if err := s.cfg.State.Save(ctx, dev); err != nil {
		return err
	}
	s.dev = dev
	return nil
}

// Written yields the entries that this device has in its slots, those of manifests of batches
// included, from a time on, in µs since 1970, in the order of their times.
func (s *Set) Written(ctx context.Context, since uint64) iter.Seq2[replica.Item, error] {
	return func(yield func(replica.Item, error) bool) {
		for it, err := range s.written(ctx, replica.Query{
			ByTime: true, Since: time.UnixMicro(int64(since)),
		}) {
			if !yield(it, s.failed(err)) {
				return
			}
		}
	}
}

// LastWritten returns the latest time of an entry that this device has in its slots, in µs since
// 1970; 0 if there is none.
func (s *Set) LastWritten(ctx context.Context) (last uint64, err error) {
	for it, err := range s.written(ctx, replica.Query{ByTime: true, Reverse: true, Limit: 1}) {
		return it.Entry.Timestamp, s.failed(err)
	}
	return 0, nil
}

// WrittenAt returns the entry that this device has in its slot of a key; ok is false if there is
// none.
func (s *Set) WrittenAt(ctx context.Context, key []byte) (it replica.Item, ok bool, err error) {
	for it, err := range s.written(ctx, replica.Query{Key: key}) {
		return it, err == nil, s.failed(err)
	}
	return it, false, nil
}

func (s *Set) written(ctx context.Context, q replica.Query) iter.Seq2[replica.Item, error] {
	s.mu.Lock()
	author := s.dev.Author
	s.mu.Unlock()
	if author == (replica.AuthorID{}) {
		return func(func(replica.Item, error) bool) {}
	}
	q.Author = &author
	return s.cfg.Slots.Entries(ctx, q)
}

// HeldUntil returns a time, in µs since 1970, until which all that Written yields was elsewhere
// when a peer was last asked.
func (s *Set) HeldUntil() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dev.Held
}

// Pending yields the entries of this device's versions that are not known to be held by any other
// peer, with their content, in the order of their times. What it does not yield was elsewhere when
// a peer was last asked.
func (s *Set) Pending(ctx context.Context) iter.Seq2[replica.Item, error] {
	return func(yield func(replica.Item, error) bool) {
		for it, err := range s.Written(ctx, s.HeldUntil()+1) {
			if err == nil && (len(it.Key) > 0 && it.Key[0] == 0 || s.held.has(it.Entry.ID())) {
				continue
			}
			if !yield(it, err) || err != nil {
				return
			}
		}
	}
}

// askedAtOnce is how many entries are asked for together.
const askedAtOnce = 1 << 10

// AskHeld asks for all that may be pending, and returns how many entries are still, manifests
// included. ask reports for each of some entries, at most 1,024, whether another peer holds it with
// its content. It is for one goroutine at a time.
func (s *Set) AskHeld(
	ctx context.Context, ask func(ctx context.Context, some []replica.Item) ([]bool, error),
) (pending int, err error) {
	s.held.begin()
	until, first := uint64(0), uint64(math.MaxUint64) // of all, and of those that are pending
	var some []replica.Item
	flush := func() error {
		held, err := ask(ctx, some)
		if err != nil {
			return err
		}
		for i := range some {
			e := &some[i].Entry
			if i < len(held) && held[i] {
				s.held.note(e.ID())
				continue
			}
			pending++
			first = min(first, e.Timestamp)
		}
		some = some[:0]
		return nil
	}
	for it, err := range s.Written(ctx, s.HeldUntil()+1) {
		if err != nil {
			return pending, err
		}
		until = max(until, it.Entry.Timestamp)
		if s.held.has(it.Entry.ID()) {
			continue
		}
		if some = append(some, it); len(some) == askedAtOnce {
			if err := flush(); err != nil {
				return pending, s.failed(err)
			}
		}
	}
	if len(some) > 0 {
		if err := flush(); err != nil {
			return pending, s.failed(err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	// What was written meanwhile may be earlier, and was not seen.
	until = min(until, first-1, s.held.end(pending == 0)-1)
	if until <= s.dev.Held {
		return pending, nil
	}
	return pending, s.failed(s.saveHeld(ctx, until))
}
