package libp2pnet

import (
	"crypto/rand"
	"fmt"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/node/link"
)

func at(t *testing.T, format string, args ...any) ma.Multiaddr {
	m, err := ma.NewMultiaddr(fmt.Sprintf(format, args...))
	require.NoError(t, err)
	return m
}

func newPeerID(t *testing.T) peer.ID {
	_, key, err := crypto.GenerateEd25519Key(rand.Reader)
	require.NoError(t, err)
	id, err := peer.IDFromPublicKey(key)
	require.NoError(t, err)
	return id
}

// A few addresses that open connections and say nothing neither keep a named peer away that comes
// from where it was before, nor this node from dialling.
func TestSilentConnectionsLeaveRoom(t *testing.T) {
	manager, err := resourceManager(DefaultMaxPeers)
	require.NoError(t, err)
	defer manager.Close()
	named := newNamedPlaces(manager)
	friend, other := newPeerID(t), newPeerID(t)
	home := at(t, "/ip4/198.51.100.7/tcp/4001")
	require.NoError(t, named.add(friend, home))
	var held int
	for i := range 16 * perAddress {
		from := at(t, "/ip4/203.0.113.%d/tcp/%d", i/perAddress, 1024+i)
		if _, err = manager.OpenConnection(network.DirInbound, true, from); err != nil {
			break
		}
		held++
	}
	require.Error(t, err, "the attack takes all there is")
	t.Logf("%d connections", held)
	_, err = manager.OpenConnection(network.DirInbound, true, at(t, "/ip4/192.0.2.1/tcp/4001"))
	require.Error(t, err)

	_, err = manager.OpenConnection(network.DirOutbound, true, at(t, "/ip4/192.0.2.2/tcp/4001"))
	require.NoError(t, err)
	scope, err := manager.OpenConnection(network.DirInbound, true, home)
	require.NoError(t, err)
	require.NoError(t, scope.SetPeer(friend))
	scope, err = manager.OpenConnection(network.DirInbound, true, home)
	require.NoError(t, err)
	require.Error(t, scope.SetPeer(other), "whoever shares the address has no place")
}

func TestNamedPlacesAreBounded(t *testing.T) {
	manager, err := resourceManager(DefaultMaxPeers)
	require.NoError(t, err)
	defer manager.Close()
	named, list, friend := newNamedPlaces(manager), rcmgr.GetAllowlist(manager), newPeerID(t)
	from := func(i int) ma.Multiaddr {
		return at(t, "/ip4/198.51.%d.%d/tcp/1", i/256, i%256)
	}
	for range 2 {
		for i := range maxNamedPlaces + 2 {
			require.NoError(t, named.add(friend, from(i)))
		}
	}
	require.Len(t, named.order, maxNamedPlaces)
	require.Len(t, named.has, maxNamedPlaces)
	require.False(t, list.Allowed(from(1)))
	require.True(t, list.Allowed(from(maxNamedPlaces+1)))
	require.NoError(t, named.add(friend, at(t, "/dns4/example.org/tcp/1")))
	require.Len(t, named.order, maxNamedPlaces)
}

// Only peers that a person has named are given places.
func TestNamedPeersGetPlaces(t *testing.T) {
	a, b := startWith(t, Config{}), startWith(t, Config{})
	require.NoError(t, a.Connect(t.Context(), b.info(t)))
	require.Eventually(t, func() bool { return b.Connected(a.ID()) }, 10*time.Second, time.Millisecond)
	list := rcmgr.GetAllowlist(b.host.Network().ResourceManager())
	home := at(t, "/ip4/127.0.0.1/tcp/9")
	for _, trust := range []link.Trust{link.TrustProved, link.TrustHistory} {
		b.Keep(a.ID(), trust)
		require.False(t, list.AllowedPeerAndMultiaddr(a.ID(), home))
	}
	b.Keep(a.ID(), link.TrustNamed)
	require.True(t, list.AllowedPeerAndMultiaddr(a.ID(), home))
}
