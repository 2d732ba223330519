package node

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/node/holders"
	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/ticket"
)

// crowded is a network without streams, of which a test says who is connected and where.
type crowded struct {
	nowhere
	addrs []ma.Multiaddr
}

func (*crowded) Connected(peer.ID) bool              { return false }
func (*crowded) Peers() []link.Peer                  { return nil }
func (c *crowded) KnownAddrs(peer.ID) []ma.Multiaddr { return c.addrs }

func (*crowded) Connect(context.Context, peer.AddrInfo) error {
	return &link.UnreachableError{Peer: "nobody"}
}

// crowdedNode is a node with a clock that a test sets, and one replica.
func crowdedNode(t *testing.T, now *time.Time) (*Node, *crowded, replica.ID) {
	n, net := offline(t, now), &crowded{}
	n.joinNetwork(net)
	r, err := n.replicas.Create(t.Context(), "r")
	require.NoError(t, err)
	return n, net, r.ID
}

// visit has a peer come, prove that it holds the replica, and go.
func visit(n *Node, p peer.ID, id replica.ID) {
	n.contacts.Changed(p, true)
	n.contacts.Shares(p, id)
	n.contacts.Changed(p, false)
}

func remembered(t *testing.T, n *Node, id replica.ID) map[peer.ID][]ma.Multiaddr {
	all, err := n.KnownPeers(context.Background(), id)
	require.NoError(t, err)
	out := map[peer.ID][]ma.Multiaddr{}
	for _, p := range all {
		out[p.ID] = p.Addrs
	}
	return out
}

func throwaway(i int) peer.ID { return peer.ID(fmt.Sprintf("crowd %05d", i)) }

var crowdTime = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

// Throwaway identities, however many, make a node forget neither who was named to it, nor who has a
// history with it, nor who was there before them; and they have a bounded number of records.
func TestCrowdDisplacesNobody(t *testing.T) {
	testkit.SeenElsewhere(t)
	now := crowdTime
	n, _, id := crowdedNode(t, &now)
	// Their ids come before those of the crowd.
	named, old, before := peer.ID("a named"), peer.ID("b old"), peer.ID("c before")
	require.NoError(t, n.Remember(t.Context(), []replica.ID{id}, []peer.AddrInfo{{ID: named}}))
	for range 4 {
		visit(n, old, id)
		now = now.Add(24 * time.Hour)
	}
	visit(n, before, id)
	most := 0
	for i := range 1000 {
		now = now.Add(time.Minute)
		visit(n, throwaway(i), id)
		most = max(most, len(remembered(t, n, id)))
	}
	all := remembered(t, n, id)
	for _, p := range []peer.ID{named, old, before} {
		require.Contains(t, all, p)
	}
	require.LessOrEqual(t, most, 64+1)
	require.Contains(t, all, throwaway(999), "a newcomer is not shut out")
}

// trusting is a network that notes how much a node trusts its peers.
type trusting struct {
	crowded
	trust map[peer.ID]link.Trust
}

func (n *trusting) Keep(p peer.ID, trust link.Trust) { n.trust[p] = trust }

// A history makes a peer known, but not as one that a person has named: with patience anybody gets
// any number of histories.
func TestHistoriesCountLessThanNames(t *testing.T) {
	now := crowdTime
	n, _, id := crowdedNode(t, &now)
	net := &trusting{trust: map[peer.ID]link.Trust{}}
	n.joinNetwork(net)
	require.NoError(t, n.Remember(t.Context(), []replica.ID{id}, []peer.AddrInfo{{ID: "friend"}}))
	for range 3 {
		visit(n, "patient", id)
		visit(n, "friend", id)
		now = now.Add(24 * time.Hour)
	}
	check := func(p peer.ID, trust link.Trust) {
		t.Helper()
		n.contacts.Changed(p, true)
		defer n.contacts.Changed(p, false)
		n.contacts.Shares(p, id)
		who := n.partyOf(pipeStream{remote: p})
		require.Equal(t, trust, net.trust[p])
		require.Equal(t, trust >= link.TrustHistory, who.Known)
		require.Equal(t, trust == link.TrustNamed, who.Named)
	}
	check("friend", link.TrustNamed)
	check("patient", link.TrustHistory)
	check("new", link.TrustProved)

	// One with a history may be named later, also while it is connected.
	n.contacts.Changed("patient", true)
	n.contacts.Shares("patient", id)
	require.NoError(t, n.Remember(t.Context(), []replica.ID{id}, []peer.AddrInfo{{ID: "patient"}}))
	require.Equal(t, link.TrustNamed, net.trust["patient"])
	require.True(t, n.partyOf(pipeStream{remote: "patient"}).Named)
	n.contacts.Changed("patient", false)
	check("patient", link.TrustNamed)
}

// What somebody registers at a seed names peers of his choice: they displace nobody, and are
// bounded.
func TestHintsDisplaceNobody(t *testing.T) {
	now := crowdTime
	n, _, id := crowdedNode(t, &now)
	require.NoError(t, n.Remember(t.Context(), []replica.ID{id}, []peer.AddrInfo{{ID: "named"}}))
	for i := range 5 {
		visit(n, peer.ID(fmt.Sprintf("a device %d", i)), id)
	}
	for i := range 100 {
		at, err := ma.NewMultiaddr("/ip4/198.51.100.1/tcp/1/p2p/" + idOf(byte(i)).String())
		require.NoError(t, err)
		tk := &ticket.Doc{Capability: replica.Sync, Replica: id, Addrs: []ma.Multiaddr{at}}
		_, err = n.Keep(t.Context(), tk, "")
		require.NoError(t, err)
	}
	all := remembered(t, n, id)
	require.Contains(t, all, peer.ID("named"))
	require.Contains(t, all, idOf(99), "the last one is dialled")
	require.LessOrEqual(t, len(all), 1+holders.MaxNewcomers)
	for i := range holders.MaxNewcomers {
		visit(n, throwaway(i), id)
	}
	all = remembered(t, n, id)
	for i := range 5 {
		require.Contains(t, all, peer.ID(fmt.Sprintf("a device %d", i)))
	}
	require.NotContains(t, all, idOf(99), "who has proved itself goes first")
}
