package node

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/skerry-sync/skerry/node/link"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/replica"
)

// Known peers have places that newcomers cannot take, and newcomers do not all run at once.
func TestPlaces(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, id := newSessions(), replica.ID{1}
		var leave []func()
		take := func(is standing) bool {
			end, ok := s.tryPlace(id, is)
			if ok {
				leave = append(leave, end)
			}
			return ok
		}
		require.True(t, take(newcomer))
		require.False(t, take(newcomer), "what the first brings, the second need not")
		require.True(t, take(known), "a known peer does not wait for a newcomer")
		require.False(t, take(known))
		time.Sleep(aside)
		require.True(t, take(newcomer))
		require.True(t, take(known))
		for range 10 {
			time.Sleep(aside)
			take(newcomer)
			take(known)
		}
		require.Equal(t, mostPlaces, s.places[id].taken)
		require.Len(t, leave, mostPlaces[newcomer]+mostPlaces[known])

		waits := make(chan func(), 1)
		go func() {
			end, err := s.place(context.Background(), id, newcomer)
			require.NoError(t, err)
			waits <- end
		}()
		time.Sleep(time.Hour)
		require.Empty(t, waits)
		for _, end := range leave {
			end()
		}
		(<-waits)()
		require.Empty(t, s.places)
		ctx, cancel := context.WithCancel(context.Background())
		end, ok := s.tryPlace(id, known)
		require.True(t, ok)
		cancel()
		_, err := s.place(ctx, id, known)
		require.ErrorIs(t, err, context.Canceled)
		end()
	})
}

// Known peers whose sessions last do not keep others from theirs.
func TestLongSessionsGiveTheirPlace(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, id := newSessions(), replica.ID{1}
		now := func() (p places) {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.places[id] != nil {
				p = *s.places[id]
			}
			return p
		}
		var leave []func()
		for len(leave) < mostLong+mostPlaces[known] {
			time.Sleep(aside)
			if end, ok := s.tryPlace(id, known); ok {
				leave = append(leave, end)
			} else {
				require.Equal(t, mostPlaces[known], now().taken[known])
			}
		}
		time.Sleep(time.Hour)
		require.Equal(t, mostPlaces[known], now().taken[known])
		require.Equal(t, mostLong, now().long)
		_, ok := s.tryPlace(id, known)
		require.False(t, ok)
		for _, end := range leave {
			end()
		}
		require.Zero(t, now())
	})
}

// Peers that this node knows run all the sessions that there is room for as slowly as they may, for
// ever. The node still begins sessions with another that it knows.
func TestSlowKnownPeersDoNotFillTheSchedule(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx := context.Background()
		s, log := newSimNet(1), &events{}
		honest, looking := simOpen(t), simNodeOf(t, s)
		require.NoError(t, honest.GoOnline(onlyAsked{dribbles{s.end(honest.ID()), "", 0, log}}))
		r := simReplica(t, honest, nil)
		_, err := looking.Replicas.Join(ctx, r)
		require.NoError(t, err)
		require.NoError(t, looking.Remember(ctx, []replica.ID{r.ID}, []peer.AddrInfo{{ID: honest.ID()}}))
		time.Sleep(30 * time.Second)
		require.EqualValues(t, 1, entriesOf(t, looking, r.ID))
		for i := range 2 * parallelSessions {
			// Each of a replica of its own, with something to bring.
			slow := simOpen(t)
			require.NoError(t, slow.GoOnline(slowSessions{s.end(slow.ID()), log}))
			other := simReplica(t, slow, nil)
			_, err := looking.Replicas.Join(
				ctx, replica.Replica{ID: other.ID, Name: fmt.Sprint(i), Capability: replica.Read},
			)
			require.NoError(t, err)
			require.NoError(
				t, looking.Remember(ctx, []replica.ID{other.ID}, []peer.AddrInfo{{ID: slow.ID()}}),
			)
		}
		time.Sleep(3 * time.Minute)
		require.True(t, log.has("slow session"))
		_, err = honest.Replicas.Write(
			ctx, r.ID, replica.NewSecretKey(),
			[]replica.Change{{Key: []byte("later"), Hash: blobs.Hash{2}, Size: 5}},
		)
		require.NoError(t, err)
		looking.contacts.compareSoonWith(honest.ID())
		time.Sleep(4 * time.Minute) // less than a slow session takes for its first message
		require.EqualValues(t, 2, entriesOf(t, looking, r.ID))
	})
}

// onlyAsked is the network of a node that is honest, and says nothing by itself.
type onlyAsked struct{ dribbles }

func (onlyAsked) Publish(context.Context, string, []byte) error { return errors.New("not now") }

// slowSessions is the network of a node that proves that it holds a replica, and then says a little
// now and then, as often as it has to, without end. It begins nothing.
type slowSessions struct {
	*simEnd
	log *events
}

func (e slowSessions) Open(_ context.Context, p peer.ID, _ string) (link.Stream, error) {
	return nil, &link.UnreachableError{Peer: p, Err: errors.New("not now")}
}

func (e slowSessions) Handle(protocol string, fn func(link.Stream)) {
	if protocol == syncProtocol {
		honest := fn
		fn = func(s link.Stream) { honest(&endless{Stream: s, e: e}) }
	}
	e.simEnd.Handle(protocol, fn)
}

// endless lets pass what a greeting writes, and then writes no more but the beginnings of a long
// message.
type endless struct {
	link.Stream
	e     slowSessions
	wrote int
}

// SetWriteDeadline and SetReadDeadline are ignored: this one has time.
func (s *endless) SetWriteDeadline(time.Time) error { return nil }
func (s *endless) SetReadDeadline(time.Time) error  { return nil }

func (s *endless) Write(b []byte) (int, error) {
	const greeting = 32 + 32 + 1
	if s.wrote+len(b) <= greeting {
		s.wrote += len(b)
		return s.Stream.Write(b)
	}
	s.e.log.add("slow session")
	// The longest message of items, and the longest item.
	piece := binary.AppendUvarint(binary.AppendUvarint([]byte{2}, 512<<10), 192<<10)
	for s.e.ctx.Err() == nil {
		if _, err := s.Stream.Write(piece); err != nil {
			return 0, err
		}
		time.Sleep(10 * time.Second)
		piece = make([]byte, 20*link.LeastRate)
	}
	return 0, s.e.ctx.Err()
}
