package node

import (
	"context"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/replica"
)

// Newcomers of some replicas, however many, leave room for a session with a newcomer of another one;
// known peers have room of their own.
func TestNewcomersOfOneReplicaLeaveRoomForOthers(t *testing.T) {
	var b background
	id := func(i int) replica.ID { return replica.ID{byte(i), byte(i >> 8), 1} }
	begun := 0
	for i := range 16 { // four would take all that there was
		for b.room(id(i), newcomer) {
			b.begin(id(i), newcomer)
			begun++
		}
		require.LessOrEqual(t, b.of[id(i)], mostPlaces[newcomer])
	}
	require.True(t, b.room(id(99), newcomer))
	for range parallelSessions {
		require.True(t, b.room(id(0), known))
		b.begin(id(0), known)
	}
	require.False(t, b.room(id(1), known))
	for i := 100; b.room(id(i), newcomer); i++ {
		b.begin(id(i), newcomer)
		begun++
	}
	require.Equal(t, mostNewcomers, begun)
	for x, n := range b.of {
		for range n {
			b.end(x, newcomer)
		}
	}
	for range parallelSessions {
		b.end(id(0), known)
	}
	require.Zero(t, b.newcomers+b.known)
	require.Empty(t, b.of)
}

// A node whose sessions with the newcomers of many replicas all hang goes on with a newcomer of another
// replica.
func TestHangingNewcomersKeepNoOtherReplicaWaiting(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newSimWorld(t, 1)
		r := w.found(replica.Read)
		a, honest := w.nodes[0], w.nodes[1]
		for i := range 2 * parallelSessions { // sessions under way that do not end
			a.peers.mu.Lock()
			a.peers.running.begin(replica.ID{byte(i), 7}, newcomer)
			a.peers.mu.Unlock()
		}
		author := replica.NewSecretKey()
		_, err := honest.Replicas.Write(t.Context(), r.ID, author, []replica.Change{{Key: []byte("k")}})
		if err != nil { // the first node is the one that may write
			a, honest = honest, a
			_, err = honest.Replicas.Write(t.Context(), r.ID, author,
				[]replica.Change{{Key: []byte("k")}})
		}
		require.NoError(t, err)
		require.NoError(t, a.end.Connect(context.Background(), peer.AddrInfo{ID: honest.ID()}))
		time.Sleep(time.Hour)
		one, err := a.Replicas.Fingerprint(t.Context(), r.ID)
		require.NoError(t, err)
		two, err := honest.Replicas.Fingerprint(t.Context(), r.ID)
		require.NoError(t, err)
		require.Equal(t, one, two)
		for _, n := range w.nodes {
			require.NoError(t, n.Close())
		}
	})
}
