package node

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/node/session"
	"github.com/skerry-sync/skerry/node/simnet"
	"github.com/skerry-sync/skerry/replica"
)

// Peers that this node knows run all the sessions that there is room for as slowly as they may, for
// ever. The node still begins sessions with another that it knows.
func TestSlowKnownPeersDoNotFillTheSchedule(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx := context.Background()
		s, log := simnet.New(1), &events{}
		honest, looking := simOpen(t), simNodeOf(t, s)
		require.NoError(t, honest.GoOnline(onlyAsked{dribbles{s.End(honest.ID()), "", 0, log}}))
		r := simReplica(t, honest, nil)
		_, err := looking.replicas.Join(ctx, r)
		require.NoError(t, err)
		require.NoError(t, looking.Remember(ctx, []replica.ID{r.ID}, []peer.AddrInfo{{ID: honest.ID()}}))
		time.Sleep(30 * time.Second)
		require.EqualValues(t, 1, entriesOf(t, looking, r.ID))
		for i := range 2 * 8 {
			// Each of a replica of its own, with something to bring.
			slow := simOpen(t)
			require.NoError(t, slow.GoOnline(slowSessions{s.End(slow.ID()), log}))
			other := simReplica(t, slow, nil)
			_, err := looking.replicas.Join(
				ctx, replica.Replica{ID: other.ID, Name: fmt.Sprint(i), Capability: replica.Read},
			)
			require.NoError(t, err)
			require.NoError(
				t, looking.Remember(ctx, []replica.ID{other.ID}, []peer.AddrInfo{{ID: slow.ID()}}),
			)
		}
		time.Sleep(3 * time.Minute)
		require.True(t, log.has("slow session"))
		_, err = honest.replicas.Write(
			ctx, r.ID, replica.NewSecretKey(),
			[]replica.Change{{Key: []byte("later"), Hash: blobs.Hash{2}, Size: 5}},
		)
		require.NoError(t, err)
		looking.contacts.CompareSoonWith(honest.ID())
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
	*simnet.End
	log *events
}

func (e slowSessions) Open(_ context.Context, p peer.ID, _ string) (link.Stream, error) {
	return nil, &link.UnreachableError{Peer: p, Err: errors.New("not now")}
}

func (e slowSessions) Handle(protocol string, fn func(link.Stream)) {
	if protocol == session.Protocol {
		honest := fn
		fn = func(s link.Stream) { honest(&endless{Stream: s, e: e}) }
	}
	e.End.Handle(protocol, fn)
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
	for s.e.Context().Err() == nil {
		if _, err := s.Stream.Write(piece); err != nil {
			return 0, err
		}
		time.Sleep(10 * time.Second)
		piece = make([]byte, 20*link.LeastRate)
	}
	return 0, s.e.Context().Err()
}
