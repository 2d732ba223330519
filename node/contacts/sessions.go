package contacts

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/internal/kind"
	"github.com/skerry-sync/skerry/node/holders"
	"github.com/skerry-sync/skerry/replica"
)

var (
	// ErrNotShared reports a peer that does not hold the replica, or does not want to say that it
	// does.
	ErrNotShared = kind.New(kind.Unreachable,
		"peer does not hold the replica, or does not share it with this node")
	// ErrBusy reports a peer that is in a session of the replica with this node already.
	ErrBusy = errors.New("a session with the peer is under way")
)

// Sessions knows which sync sessions are under way. One replica is never reconciled twice with one
// peer at the same time. Of the sessions of one replica that this node begins, the next one waits
// for those before it, since what the first brings, the second need not. But it does not wait long:
// after aside it runs beside them, so that a slow peer does not keep the others waiting.
//
// A session takes one of the replica's places only when the peer has proved that it holds the
// replica. Peers that are known (see package holders) have places of their own, and do not wait for
// newcomers.
type Sessions struct {
	mu      sync.Mutex
	running map[sessionID]side
	places  map[replica.ID]*places
	changed chan struct{} // closed, and made anew, when one has ended
}

type sessionID struct {
	id replica.ID
	p  peer.ID
}

// side says who began a session.
type side int

const (
	began side = iota + 1
	asked
)

// places are those sessions of a replica that this node began, and with which the peer has proved
// that it holds the replica.
type places struct {
	taken [2]int       // by standing
	last  [2]time.Time // when the last one was taken
	long  int          // of known peers, that have lasted for longSession: they are not in taken
}

// aside is how long a session waits for others of the same replica before it runs beside them.
const aside = 2 * time.Second

// mostPlaces bounds how many run side by side.
var mostPlaces = [2]int{holders.Newcomer: 2, holders.Known: 4}

// A session with a known peer may last for hours, and a few peers that make the least progress
// would take all places for as long as they like. So one that lasts gives its place to others, and
// goes on beside them.
const (
	longSession = time.Minute
	// mostLong is how many of a replica may go on so: more than there are peers with a history.
	mostLong = 2 * holders.MaxHistory
)

// NewSessions returns a Sessions in which none is under way.
func NewSessions() *Sessions {
	return &Sessions{
		running: map[sessionID]side{}, places: map[replica.ID]*places{},
		changed: make(chan struct{}),
	}
}

// Begin waits until this node may begin a session with p. leave must be called at its end.
func (s *Sessions) Begin(ctx context.Context, id replica.ID, p peer.ID) (leave func(), err error) {
	at := sessionID{id, p}
	for {
		s.mu.Lock()
		if s.running[at] == 0 {
			s.running[at] = began
			s.mu.Unlock()
			return func() { s.end(at, began) }, nil
		}
		changed := s.changed
		s.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// idle reports whether a session with p could begin, and have a place, right now.
func (s *Sessions) idle(id replica.ID, p peer.ID, is holders.Standing) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	free, _ := s.freeLocked(id, is, time.Now())
	return s.running[sessionID{id, p}] == 0 && free
}

// freeLocked reports whether a place may be taken, or when one may be if nothing changes: zero if
// only a change helps. The caller holds the lock.
func (s *Sessions) freeLocked(
	id replica.ID, is holders.Standing, now time.Time,
) (free bool, at time.Time) {
	all := s.places[id]
	if all == nil {
		return true, at
	}
	before, last := 0, time.Time{}
	for other := is; other <= holders.Known; other++ { // newcomers wait for those that are known, too
		before += all.taken[other]
		if all.last[other].After(last) {
			last = all.last[other]
		}
	}
	switch {
	case before == 0:
		return true, at
	case all.taken[is] >= mostPlaces[is]:
		return false, at
	}
	at = last.Add(aside)
	return !at.After(now), at
}

// TryPlace takes a place of a replica, if one is free. leave must be called at the end.
func (s *Sessions) TryPlace(id replica.ID, is holders.Standing) (leave func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if free, _ := s.freeLocked(id, is, now); !free {
		return nil, false
	}
	all := s.places[id]
	if all == nil {
		all = &places{}
		s.places[id] = all
	}
	all.taken[is]++
	all.last[is] = now
	ended, long := false, false
	lasts := time.AfterFunc(longSession, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if long = !ended && is == holders.Known && all.long < mostLong; long {
			all.taken[is]--
			all.long++
			s.notify()
		}
	})
	return func() {
		lasts.Stop()
		s.mu.Lock()
		defer s.mu.Unlock()
		if ended = true; long {
			all.long--
		} else {
			all.taken[is]--
		}
		if all.taken == [2]int{} && all.long == 0 {
			delete(s.places, id)
		}
		s.notify()
	}, true
}

// Place waits for a place.
func (s *Sessions) Place(
	ctx context.Context, id replica.ID, is holders.Standing,
) (leave func(), err error) {
	for {
		s.mu.Lock()
		changed := s.changed
		_, at := s.freeLocked(id, is, time.Now())
		s.mu.Unlock()
		if leave, ok := s.TryPlace(id, is); ok {
			return leave, nil
		}
		var due <-chan time.Time
		if !at.IsZero() {
			due = time.After(time.Until(at))
		}
		select {
		case <-changed:
		case <-due:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Accept lets p begin a session, unless there is one already. If both begin at once, the one with
// the smaller id goes on.
func (s *Sessions) Accept(id replica.ID, p, self peer.ID) (leave func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := sessionID{id, p}
	switch s.running[at] {
	case asked:
		return nil, false
	case began:
		if self < p {
			return nil, false
		}
		// The one that this node began is refused by the peer, and ends; what is noted from now on is
		// the peer's.
	}
	s.running[at] = asked
	return func() { s.end(at, asked) }, true
}

func (s *Sessions) end(at sessionID, by side) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running[at] == by {
		delete(s.running, at)
	}
	s.notify()
}

// notify wakes all who wait; the caller holds the lock.
func (s *Sessions) notify() {
	close(s.changed)
	s.changed = make(chan struct{})
}
