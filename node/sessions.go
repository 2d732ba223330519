package node

import (
	"context"
	"sync"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/replica"
)

// sessions knows which sync sessions are under way, so that no two do the same work: one replica is never reconciled twice with one peer at the same time,
// and this node begins a session of a replica only when no other that it began is under way. What the first brings, the second need not.
type sessions struct {
	mu       sync.Mutex
	running  map[sessionID]side
	outgoing map[replica.ID]bool
	changed  chan struct{} // closed, and made anew, when one has ended
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

func newSessions() *sessions {
	return &sessions{running: map[sessionID]side{}, outgoing: map[replica.ID]bool{}, changed: make(chan struct{})}
}

// begin waits until this node may begin a session with p. leave must be called at its end.
func (s *sessions) begin(ctx context.Context, id replica.ID, p peer.ID) (leave func(), err error) {
	at := sessionID{id, p}
	for {
		s.mu.Lock()
		if s.running[at] == 0 && !s.outgoing[id] {
			s.running[at], s.outgoing[id] = began, true
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

// accept lets p begin a session, unless there is one already. If both begin at once, the one with the smaller id goes on.
func (s *sessions) accept(id replica.ID, p, self peer.ID) (leave func(), ok bool) {
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
		// The one that this node began is refused by the peer, and ends; what is noted from now on is the peer's.
	}
	s.running[at] = asked
	return func() { s.end(at, asked) }, true
}

func (s *sessions) end(at sessionID, by side) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if by == began {
		delete(s.outgoing, at.id)
	}
	if s.running[at] == by {
		delete(s.running, at)
	}
	close(s.changed)
	s.changed = make(chan struct{})
}
