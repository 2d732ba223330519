package libp2pnet

import (
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/node/link"
)

// However many connect, no more are let in than the limit has room for, and those that were there
// stay; when some go, others come in.
func TestFloodOfConnections(t *testing.T) {
	const most = 8
	n := startWith(t, Config{MaxPeers: most})
	room := most + most/4 + 64
	first := startWith(t, Config{})
	require.NoError(t, first.Connect(t.Context(), n.info(t)))
	n.Keep(first.ID(), link.TrustProved)
	var all []*Network
	for range room + 20 {
		x := startWith(t, Config{})
		_ = x.Connect(t.Context(), n.info(t)) // some are refused
		all = append(all, x)
	}
	require.LessOrEqual(t, len(n.host.Network().Conns()), room)
	require.Greater(
		t, n.host.ConnManager().GetTagInfo(first.ID()).Value,
		n.host.ConnManager().GetTagInfo(all[0].ID()).Value, "who shares something is let go last",
	)
	require.True(t, n.Connected(first.ID()))
	last := all[len(all)-1]
	require.False(t, n.Connected(last.ID()))
	for _, x := range all[:40] {
		x.Drop()
	}
	require.Eventually(t, func() bool {
		return last.Connect(t.Context(), n.info(t)) == nil &&
			n.Connected(last.ID())
	}, 10*time.Second, 20*time.Millisecond)
}

// A peer that opens ever more streams is refused, and others are not; one may have as many as
// OBJECTS asks for.
func TestFloodOfStreams(t *testing.T) {
	const proto = "/skerry/test/1"
	_, key := newKey(t)
	n, err := New(Config{Key: key, Listen: loopback(t), Log: silent})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	var mu sync.Mutex
	served := map[peer.ID]int{}
	n.Handle(proto, func(s link.Stream) {
		mu.Lock()
		served[s.Remote()]++
		mu.Unlock()
		_, _ = s.Read(make([]byte, 1)) // until it is reset
	})
	require.NoError(t, n.Start(func(peer.ID, bool) {}))
	open := func(x *Network, count int) {
		for range count {
			s, err := x.host.NewStream(network.WithNoDial(t.Context(), ""), n.ID(), proto)
			if err != nil {
				return
			}
			_, _ = s.Write([]byte{}) // the name of the protocol goes with it
		}
	}
	greedy, modest := startWith(t, Config{}), startWith(t, Config{})
	require.NoError(t, greedy.Connect(t.Context(), n.info(t)))
	require.NoError(t, modest.Connect(t.Context(), n.info(t)))
	open(greedy, 2*streamsOfOne)
	open(modest, 100)
	of := func(x *Network) int {
		mu.Lock()
		defer mu.Unlock()
		return served[x.ID()]
	}
	require.Eventually(t, func() bool {
		return of(modest) == 100
	}, 10*time.Second, 10*time.Millisecond)
	require.GreaterOrEqual(t, of(greedy), 100)
	require.LessOrEqual(t, of(greedy), streamsOfOne)
	greedy.Drop()
	modest.Drop()
}
