package session

import (
	"bytes"
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/node/admission"
	"github.com/skerry-sync/skerry/node/bundle"
	"github.com/skerry-sync/skerry/node/contacts"
	"github.com/skerry-sync/skerry/node/limits"
	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/node/names"
	"github.com/skerry-sync/skerry/replica"
)

// entriesOf makes signed entries of a replica, one for each time, and the grant for their author.
func entriesOf(t *testing.T, r replica.Replica, times ...time.Time) (grant []byte, all [][]byte) {
	author := replica.NewSecretKey()
	g := replica.NewGrant(r.Secret, author.Author(), 1)
	for i, at := range times {
		e := replica.Entry{
			Replica: r.ID, Key: []byte{byte(i)}, Timestamp: uint64(at.UnixMicro()),
			Hash: blobs.HashOf([]byte("v")), Size: 1,
		}
		e.Sign(author)
		b, err := e.AppendBinary(nil)
		require.NoError(t, err)
		all = append(all, b)
	}
	return g.Bytes(), all
}

// A message of gossip is passed on while some of it is new, and never again: whoever knows a
// replica could otherwise have everybody pass on what all have, in any number of messages. Nor is
// an entry of the future, which nobody has verified. Who goes on is not looked at any more.
func TestWhatIsKnownIsNotPassedOn(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	n := alone(t, &now)
	r, err := n.replicas.Create(t.Context(), "r")
	require.NoError(t, err)
	grant, entries := entriesOf(t, r, now, now.Add(time.Second))
	ahead, future := entriesOf(t, r, now.Add(time.Hour))
	future[0][len(future[0])-1]++ // its signature is wrong, too
	take := func(from peer.ID, statements, entries [][]byte) link.Verdict {
		msg := SealGossip(r.ID, bundle.Append(bundle.Append(nil, statements), entries))
		return n.takeGossip(t.Context(), r.ID, from, msg)
	}
	both, first := entries[:2], entries[:1]
	require.Equal(t, link.Accept, take("p", [][]byte{grant}, first))
	require.Equal(t, link.Accept, take("p", nil, both), "one of the two is new")
	require.Equal(t, link.Ignore, take("p", nil, both))
	require.Equal(t, link.Ignore, take("q", [][]byte{grant}, first), "in other words")
	require.Equal(t, link.Ignore, take("q", nil, nil), "nothing at all")
	require.Equal(t, link.Accept, take("q", [][]byte{ahead}, nil), "a statement is news, too")
	require.Equal(t, link.Ignore, take("q", nil, future))
	require.False(t, n.blamed.Refused("q"), "none of it is beyond good faith")

	n.cfg.Limits.Retune(func(f *limits.Figures) { f.Work = limits.Rate{PerSecond: 1e-9, AtOnce: 100} })
	for range 20 {
		require.Equal(t, link.Ignore, take("p", nil, both))
	}
	_, more := entriesOf(t, r, now)
	none, err := n.replicas.Create(t.Context(), "other")
	require.NoError(t, err)
	fresh := func() []byte { return newGrant(r).Bytes() }
	require.Equal(t, link.Ignore, take("p", [][]byte{fresh()}, nil), "it has spent what it may cost")
	require.Equal(t, link.Accept, take("q", [][]byte{fresh()}, nil), "others have not")
	require.Equal(t, link.Reject, n.takeGossip(t.Context(), none.ID, "q", more[0]))
}

// Whoever may write can put a new entry into many messages, each beside much that all have, and
// give each to another node. Each node passes its message on, to others who know it all by then.
// That keeps none of them from what it asks of another.
func TestWhatOthersMadeHoldsUpNoAnswers(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		n := newWorld(t, time.Now)
		n.cfg.Limits.Retune(func(f *limits.Figures) {
			f.Work = limits.Rate{PerSecond: 10, AtOnce: 100}
		})
		r, err := n.replicas.Create(t.Context(), "r")
		require.NoError(t, err)
		grant, entries := entriesOf(t, r, time.Now(), time.Now(), time.Now())
		take := func() link.Verdict {
			plain := bundle.Append(bundle.Append(nil, [][]byte{grant}), entries)
			return n.takeGossip(t.Context(), r.ID, "friend", SealGossip(r.ID, plain))
		}
		require.Equal(t, link.Accept, take())
		for range 1000 { // as if somebody else had brought it first each time
			require.Equal(t, link.Ignore, take())
		}
		v, err := lobby().Enter(Protocol, admission.Party{Peer: "friend", Named: true, Known: true})
		require.NoError(t, err)
		defer v.Leave()
		start := time.Now()
		asked := link.NewGuest(pipeStream{nil, "friend"}, v)
		require.NoError(t, n.cfg.Limits.Worked(t.Context(), asked, 100))
		require.Zero(t, time.Since(start))
		require.False(t, n.cfg.Limits.Hears("friend"))
		time.Sleep(time.Second)
		require.True(t, n.cfg.Limits.Hears("friend"), "it has no debts either")
	})
}

// A node without room passes on what others may have room for, but not for ever.
func TestWhatThereIsNoRoomForIsCharged(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	n := alone(t, &now)
	r, err := n.replicas.Create(t.Context(), "r")
	require.NoError(t, err)
	grant, entries := entriesOf(t, r, now, now)
	_, err = n.InsertStatements(t.Context(), r.ID, [][]byte{grant})
	require.NoError(t, err)
	n.full = true
	n.cfg.Limits.Retune(func(f *limits.Figures) { f.Work = limits.Rate{PerSecond: 1e-9, AtOnce: 100} })
	passed := 0
	for range 1000 {
		msg := SealGossip(r.ID, bundle.Append(bundle.Append(nil, nil), entries))
		if n.takeGossip(t.Context(), r.ID, "p", msg) == link.Accept {
			passed++
		}
	}
	require.Positive(t, passed)
	require.Less(t, passed, 20)
}

func newGrant(r replica.Replica) *replica.Grant {
	g := replica.NewGrant(r.Secret, replica.NewSecretKey().Author(), 1)
	return &g
}

// Pushes of what is known are charged to whoever sends them.
func TestPushesOfWhatIsKnownAreCharged(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	n := alone(t, &now)
	r, err := n.replicas.Create(t.Context(), "r")
	require.NoError(t, err)
	grant, entries := entriesOf(t, r, now)
	lookup := names.Lookup(r.ID, n.id, names.Day(now))
	msg := append([]byte{PushVersion}, lookup[:]...)
	msg = bundle.Append(bundle.Append(msg, [][]byte{grant}), entries)
	v, err := lobby().Enter(PushProtocol, admission.Party{Peer: "peer"})
	require.NoError(t, err)
	defer v.Leave()
	push := func() (spent float64) {
		before := n.cfg.Limits.WorkLeft("peer")
		s := link.NewGuest(reading{bytes.NewReader(msg)}, v)
		require.NoError(t, n.takePush(t.Context(), s))
		return before - n.cfg.Limits.WorkLeft("peer")
	}
	n.cfg.Limits.Retune(func(f *limits.Figures) {
		f.Work = limits.Rate{PerSecond: 1e-9, AtOnce: 1 << 20}
	})
	require.Zero(t, push())
	require.GreaterOrEqual(t, push(), 8.0)
}

// Who is refused is not told in an overview either what is the same.
func TestOverviewWithTheRefused(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	a, b := alone(t, &now), alone(t, &now)
	shareAll(t, a, b, "r")
	b.blamed.Rubbish(a.id, io.ErrUnexpectedEOF)
	ours, theirs := net.Pipe()
	done := make(chan error, 1)
	go func() {
		done <- b.answerOverview(t.Context(), pipeStream{theirs, a.id})
		theirs.Close()
	}()
	require.Error(t, a.askOverview(t.Context(), pipeStream{ours, b.id}))
	require.ErrorIs(t, <-done, contacts.ErrNotShared)
	ours.Close()
}

// stalling is a network in which a peer takes nothing of what is pushed to it, until it is mended.
type stalling struct {
	nowhere
	opened atomic.Int32
	mended atomic.Bool
	mu     sync.Mutex
	ends   []net.Conn
}

func (s *stalling) Open(context.Context, peer.ID, string) (link.Stream, error) {
	s.opened.Add(1)
	ours, theirs := net.Pipe()
	s.mu.Lock()
	s.ends = append(s.ends, ours, theirs)
	s.mu.Unlock()
	if s.mended.Load() {
		go func() { _, _ = io.Copy(io.Discard, theirs) }()
	}
	return pipeStream{ours, "peer"}, nil
}

func (s *stalling) close() {
	for _, c := range s.ends {
		_ = c.Close()
	}
}

// To a peer that lets pushes stall the node pushes ever more seldom, also if it leaves and comes
// back in between; and as before when it takes them again.
func TestWhoLetsPushesStallIsGivenFewer(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		n := newWorld(t, time.Now)
		network := &stalling{}
		defer network.close()
		n.Online(network)
		r, err := n.replicas.Create(t.Context(), "r")
		require.NoError(t, err)
		push := func(pause time.Duration, times int) (pushes int32) {
			before := network.opened.Load()
			for range times {
				n.outbox("peer").add(t.Context(), replica.Entry{Replica: r.ID, Key: []byte("k")})
				time.Sleep(pause)
			}
			synctest.Wait()
			return network.opened.Load() - before
		}
		require.Less(t, push(10*time.Second, 6*60), int32(15), "in an hour")
		for range 6 * 60 {
			n.DropOutbox("peer")
			push(10*time.Second, 1)
		}
		require.Less(t, network.opened.Load(), int32(30), "in another one")
		network.mended.Store(true)
		time.Sleep(lastRest)
		require.EqualValues(t, 20, push(time.Second, 20))
		n.DropOutbox("peer")
		require.Empty(t, n.outboxes)
	})
}

// Who has stalled and gone is forgotten when it could be pushed to again.
func TestStallsOfTheAbsentAreForgotten(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		n := newWorld(t, time.Now)
		n.outbox("peer").pushed(context.DeadlineExceeded)
		n.DropOutbox("peer")
		n.dropRested()
		require.Len(t, n.outboxes, 1)
		time.Sleep(firstRest + lastRest)
		n.dropRested()
		require.Empty(t, n.outboxes)
	})
}
