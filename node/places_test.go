package node

import (
	"context"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/node/holders"
	"github.com/skerry-sync/skerry/replica"
)

// A session that was given a place, and then waits for one that the peer has begun meanwhile, gives
// the place back when it is given up. A peer that could have it kept would close a replica's places
// one by one.
func TestPlacesAreGivenBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newSimWorld(t, 1)
		r := w.found(replica.Read)
		a, b := w.nodes[0], w.nodes[1]
		require.NoError(t, a.end.Connect(context.Background(), peer.AddrInfo{ID: b.ID()}))
		time.Sleep(time.Minute) // what the nodes do by themselves
		var others []func()
		for range 2 {
			leave, err := a.sessions.Place(context.Background(), r.ID, holders.Newcomer)
			require.NoError(t, err)
			others = append(others, leave)
		}
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error)
		go func() {
			_, err := a.syncer.SyncAs(ctx, b.ID(), r.ID, holders.Newcomer)
			ended <- err
		}()
		time.Sleep(5 * time.Second) // b has proved itself, and waits for a place
		leave, ok := a.sessions.Accept(r.ID, b.ID(), a.ID())
		require.True(t, ok)
		for _, leave := range others {
			leave()
		}
		time.Sleep(5 * time.Second)
		cancel()
		require.ErrorIs(t, <-ended, context.Canceled)
		leave()
		for range 2 { // of which one would be taken
			leave, err := a.sessions.Place(t.Context(), r.ID, holders.Newcomer)
			require.NoError(t, err)
			defer leave()
		}
		for _, n := range w.nodes {
			require.NoError(t, n.Close())
		}
	})
}
