package replica

import (
	"context"
	"errors"
	"slices"
	"sync"
)

// Event tells of an entry that was stored, or dropped.
type Event struct {
	Entry   Entry
	From    Origin
	Dropped bool // a revocation has made it void
}

// Subscription delivers the events of one replica, or of all.
type Subscription struct {
	hub  *hub
	done chan struct{} // closed by Close, and when the hub ends
	id   ID
	all  bool
	wake chan struct{}

	mu    sync.Mutex
	queue []Event
	lost  uint64
	added uint64 // events, all together
}

// maxQueued is how many events wait for a subscriber that does not keep up; beyond, the oldest are
// dropped and counted.
const maxQueued = 1 << 14

// hub hands events to subscriptions. It never blocks a writer.
type hub struct {
	mu    sync.Mutex
	subs  map[*Subscription]struct{}
	ended bool
}

// end ends all subscriptions, and those that begin later.
func (h *hub) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ended = true
	for s := range h.subs {
		close(s.done)
	}
	clear(h.subs)
}

func (h *hub) publish(entries []Entry, from Origin, dropped bool) {
	if len(entries) == 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.subs {
		s.add(entries, from, dropped)
	}
}

func (s *Subscription) add(entries []Entry, from Origin, dropped bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) == 0 && (s.all || entries[0].Replica == s.id) {
		s.queue = slices.Grow(s.queue, min(len(entries), maxQueued))
	}
	for _, e := range entries {
		if !s.all && e.Replica != s.id {
			continue
		}
		if len(s.queue) == maxQueued {
			s.queue = s.queue[1:]
			s.lost++
		}
		s.queue = append(s.queue, Event{e, from, dropped})
		s.added++
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Subscribe delivers events of the replica id from now on, until Close.
func (s *Store) Subscribe(id ID) *Subscription { return s.events.subscribe(&Subscription{id: id}) }

// SubscribeAll delivers events of all replicas from now on, until Close.
func (s *Store) SubscribeAll() *Subscription { return s.events.subscribe(&Subscription{all: true}) }

func (h *hub) subscribe(s *Subscription) *Subscription {
	s.hub, s.wake, s.done = h, make(chan struct{}, 1), make(chan struct{})
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended {
		close(s.done)
		return s
	}
	if h.subs == nil {
		h.subs = map[*Subscription]struct{}{}
	}
	h.subs[s] = struct{}{}
	return s
}

// ErrClosed reports a wait for what does not come any more: the subscription, or the node, has been
// closed.
var ErrClosed = errors.New("closed")

// Next waits for events and returns all that have come, in the order they were stored, and how many
// were dropped before them because the subscriber was too slow. It returns ctx's error when that
// ends, and ErrClosed once nothing more comes.
func (s *Subscription) Next(ctx context.Context) (events []Event, lost uint64, err error) {
	for {
		if events, lost = s.Poll(); len(events) > 0 {
			return events, lost, nil
		}
		select {
		case <-s.wake:
		case <-s.done:
			if events, lost = s.Poll(); len(events) > 0 { // which came before
				return events, lost, nil
			}
			return nil, 0, ErrClosed
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		}
	}
}

// Added returns how many events there have been, also those that were dropped.
func (s *Subscription) Added() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.added
}

// Poll returns what Next would, without waiting: nothing if nothing has come. What a call has
// stored that has returned is among it.
func (s *Subscription) Poll() (events []Event, lost uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	events, s.queue = s.queue, nil
	lost, s.lost = s.lost, 0
	return events, lost
}

// Close ends the subscription, and a Next that waits. It may be called again.
func (s *Subscription) Close() {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	if _, open := s.hub.subs[s]; open {
		delete(s.hub.subs, s)
		close(s.done)
	}
}
