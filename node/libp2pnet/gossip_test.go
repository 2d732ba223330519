package libp2pnet

import (
	"context"
	"reflect"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/node/link"
)

// places returns the peers to which a node passes on at once what it gossips about a topic, and how
// often it has looked who these should be. The library shows neither.
func (n *Network) places(t *testing.T, topic string) (peers map[peer.ID]bool, looks uint64) {
	t.Helper()
	gossip := reflect.ValueOf(n.gossip).Elem()
	eval := gossip.FieldByName("eval")
	router := gossip.FieldByName("rt").Elem().Elem()
	mesh, ticks := router.FieldByName("mesh"), router.FieldByName("heartbeatTicks")
	require.True(t, eval.IsValid() && mesh.IsValid() && ticks.IsValid(), "the library has changed")
	within := reflect.NewAt(eval.Type(), eval.Addr().UnsafePointer()).Elem().Interface().(chan func())
	done := make(chan struct{})
	within <- func() {
		defer close(done)
		peers, looks = map[peer.ID]bool{}, ticks.Uint()
		for _, p := range mesh.MapIndex(reflect.ValueOf(topic)).MapKeys() {
			peers[peer.ID(p.String())] = true
		}
	}
	<-done
	return peers, looks
}

// Strangers take no place among those to whom a node passes on at once what it gossips, so no crowd
// of them keeps those out who hold the replica.
func TestStrangersTakeNoPlacesOfGossip(t *testing.T) {
	const topic = "skerry test"
	n := startWith(t, Config{})
	take := func(context.Context, peer.ID, []byte) link.Verdict { return link.Accept }
	require.NoError(t, n.Join(topic, take))
	join := func() *Network {
		guest := startWith(t, Config{})
		guest.Keep(n.ID(), link.TrustNamed)
		require.NoError(t, guest.Join(topic, take))
		return guest
	}
	stranger := join()
	require.NoError(t, stranger.Connect(t.Context(), n.info(t)))
	holders := map[link.Trust]peer.ID{}
	for _, trust := range []link.Trust{link.TrustProved, link.TrustHistory, link.TrustNamed} {
		guest := join()
		n.Keep(guest.ID(), trust)
		require.NoError(t, guest.Connect(t.Context(), n.info(t)))
		holders[trust] = guest.ID()
	}
	require.Eventually(t, func() bool {
		peers, _ := n.places(t, topic)
		return peers[holders[link.TrustProved]] && peers[holders[link.TrustHistory]] &&
			peers[holders[link.TrustNamed]] && len(n.Listeners(topic)) == 4
	}, 20*time.Second, 10*time.Millisecond)
	_, before := n.places(t, topic)
	require.Eventually(t, func() bool {
		_, looks := n.places(t, topic)
		return looks >= before+2
	}, 20*time.Second, 10*time.Millisecond)
	peers, _ := n.places(t, topic)
	require.NotContains(t, peers, stranger.ID())

	proved, history, named := n.standing(holders[link.TrustProved]),
		n.standing(holders[link.TrustHistory]), n.standing(holders[link.TrustNamed])
	require.Zero(t, proved)
	require.Greater(t, history, proved)
	require.Greater(t, named, history)
	require.Greater(t, float64(noNames), named, "and none of them names others to dial")
}
