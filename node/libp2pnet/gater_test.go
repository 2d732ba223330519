package libp2pnet

import (
	"testing"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/stretchr/testify/require"
)

func addr(t *testing.T, text string) ma.Multiaddr {
	t.Helper()
	m, err := ma.NewMultiaddr(text)
	require.NoError(t, err)
	return m
}

func who(t *testing.T, texts ...string) (all []Who) {
	t.Helper()
	for _, text := range texts {
		w, err := ParseWho(text)
		require.NoError(t, err, text)
		all = append(all, w)
	}
	return all
}

type from struct{ at ma.Multiaddr }

func (from) LocalMultiaddr() ma.Multiaddr    { return nil }
func (f from) RemoteMultiaddr() ma.Multiaddr { return f.at }

// comesIn reports whether a connection from an address is accepted and, once its id is known, kept.
func (g *gater) comesIn(p peer.ID, m ma.Multiaddr) bool {
	return g.InterceptAccept(from{m}) && g.InterceptSecured(network.DirInbound, p, from{m})
}

const relayID = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN"

// The address of a relayed connection is the relay's. It says nothing of the peer behind it.
func TestRelayedPeersAreJudgedByID(t *testing.T) {
	direct := addr(t, "/ip4/192.0.2.1/tcp/1")
	relayed := addr(t, "/ip4/192.0.2.1/tcp/1/p2p/"+relayID+"/p2p-circuit")
	relay, err := peer.Decode(relayID)
	require.NoError(t, err)
	for name, tt := range map[string]struct {
		cfg                      Config
		ofRelay, friend, unknown bool // whether each is let in: the relay directly, the others through it
	}{
		"no lists":                      {Config{}, true, true, true},
		"the relay's address is let in": {Config{Allow: who(t, "192.0.2.0/24")}, true, false, false},
		"a friend is let in":            {Config{Allow: []Who{{Peer: "friend"}}}, false, true, false},
		"address and friend": {Config{
			Allow: append(who(t, "192.0.2.1"), Who{Peer: "friend"}),
		}, true, true, false},
		"the relay's address is denied": {Config{Deny: who(t, "192.0.2.1")}, false, true, true},
		"a friend is denied":            {Config{Deny: []Who{{Peer: "friend"}}}, true, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGater(tt.cfg)
			require.Equal(t, tt.ofRelay, g.comesIn(relay, direct))
			require.Equal(t, tt.ofRelay, g.InterceptAddrDial(relay, direct))
			require.Equal(t, tt.friend, g.comesIn("friend", relayed))
			require.Equal(t, tt.friend, g.InterceptAddrDial("friend", relayed))
			require.Equal(t, tt.unknown, g.comesIn("stranger", relayed))
			require.Equal(t, tt.unknown, g.InterceptAddrDial("stranger", relayed))
		})
	}
}

// Every form of an address in a list does something, or is refused.
func TestFormsOfAddressesInLists(t *testing.T) {
	for _, text := range []string{"10.0.0.1", "10.0.0.0/8", "::ffff:10.0.0.1", "::ffff:10.0.0.1/128",
		"::ffff:10.0.0.0/104", "::ffff:a00:1", "::ffff:0:0/96"} {
		deny, allow := newGater(Config{Deny: who(t, text)}), newGater(Config{Allow: who(t, text)})
		for _, at := range []string{
			"/ip4/10.0.0.1/tcp/1", "/ip6/::ffff:10.0.0.1/tcp/1", "/ip6zone/lo/ip6/::ffff:10.0.0.1/tcp/1",
		} {
			require.False(t, deny.comesIn("p", addr(t, at)), "%s, %s", text, at)
			require.False(t, deny.InterceptAddrDial("p", addr(t, at)), "%s, %s", text, at)
			require.True(t, allow.comesIn("p", addr(t, at)), "%s, %s", text, at)
			require.True(t, allow.InterceptAddrDial("p", addr(t, at)), "%s, %s", text, at)
		}
		for _, at := range []string{
			"/ip6/64:ff9b::a00:1/tcp/1", "/ip6/64:ff9b:1::a00:1/tcp/1", "/ip6/2002:a00:1::1/tcp/1",
			"/ip6/2001:0:101:101::f5ff:fffe/udp/1/quic-v1", "/ip6/::a00:1/tcp/1",
		} {
			require.False(t, deny.InterceptAddrDial("p", addr(t, at)), "%s leads to %s", at, text)
			require.False(t, allow.InterceptAddrDial("p", addr(t, at)), "%s is not %s itself", at, text)
		}
	}
	for _, text := range []string{
		"::ffff:0:0/95", "::ffff:10.0.0.0/8", "fe80::1%eth0", "fe80::%eth0/64",
	} {
		_, err := ParseWho(text)
		require.Error(t, err, text)
	}
}

// With PublicOnly nothing is dialled that leads into this machine or a private network, however the
// address is written; a relay that the configuration names is.
func TestPublicOnlyDials(t *testing.T) {
	relay, err := peer.Decode(relayID)
	require.NoError(t, err)
	g := newGater(Config{PublicOnly: true, Relays: []peer.AddrInfo{{ID: relay}}})
	for _, at := range []string{
		"/ip4/10.0.0.1", "/ip4/127.0.0.1", "/ip4/0.0.0.0", "/ip4/100.64.0.1", "/ip4/169.254.169.254",
		"/ip4/192.0.0.1", "/ip4/192.0.2.1", "/ip4/198.18.0.1", "/ip4/224.0.0.1", "/ip4/255.255.255.255",
		"/ip6/::", "/ip6/::1", "/ip6/::ffff:10.0.0.1", "/ip6/::ffff:127.0.0.1", "/ip6/::ffff:0.0.0.0",
		"/ip6/::10.0.0.1", "/ip6/64:ff9b::10.0.0.1", "/ip6/64:ff9b:1::10.0.0.1", "/ip6/2002:a00:1::1",
		"/ip6/2001:0:101:101::f5ff:fffe", "/ip6/fe80::1", "/ip6/fc00::1", "/ip6/2001:db8::1",
		"/ip6/ff02::1", "/ip6zone/eth0/ip6/fe80::1", "/ip6zone/lo/ip6/2a00::1",
		"/ip6zone/lo/ip6/::ffff:127.0.0.1", "/dns4/localhost", "/dns/private.example",
	} {
		require.False(t, g.InterceptAddrDial("p", addr(t, at+"/tcp/1")), at)
		require.False(t, g.InterceptAddrDial("p", addr(t, at+"/udp/1/quic-v1")), at)
	}
	for _, at := range []string{
		"/ip4/1.1.1.1", "/ip6/2a00::1", "/ip6/::ffff:1.1.1.1", "/ip6/64:ff9b::1.1.1.1",
	} {
		require.True(t, g.InterceptAddrDial("p", addr(t, at+"/tcp/1")), at)
	}
	require.True(t, g.InterceptAddrDial(relay, addr(t, "/ip4/10.0.0.1/tcp/1")))
	require.True(
		t, g.InterceptAddrDial("p", addr(t, "/ip4/10.0.0.1/tcp/1/p2p/"+relayID+"/p2p-circuit")),
		"through the relay that is named",
	)
	require.False(
		t, g.InterceptAddrDial("other", addr(t, "/ip4/10.0.0.1/tcp/1")),
		"another relay would be dialled itself",
	)
}

// All addresses of one network, and all peers behind one relay, are one origin.
func TestOrigins(t *testing.T) {
	for text, want := range map[string]string{
		"/ip4/192.0.2.1/tcp/1":                                 "192.0.2.1/32",
		"/ip6/::ffff:192.0.2.1/tcp/1":                          "192.0.2.1/32",
		"/ip6/2001:db8:0:1ff::1/udp/1/quic-v1":                 "2001:db8:0:100::/56",
		"/ip6zone/eth0/ip6/fe80::1/tcp/1":                      "fe80::/56",
		"/ip4/192.0.2.1/tcp/1/p2p/" + relayID + "/p2p-circuit": "192.0.2.1/32",
		"/dns4/seed.example/tcp/1":                             "",
	} {
		require.Equal(t, want, originOf(addr(t, text)), text)
	}
	require.Empty(t, originOf(nil))
}
