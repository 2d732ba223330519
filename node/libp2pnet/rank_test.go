package libp2pnet

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	circuitpb "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	"github.com/libp2p/go-libp2p/p2p/protocol/identify"
	idpb "github.com/libp2p/go-libp2p/p2p/protocol/identify/pb"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/skerry-sync/skerry/ticket"
)

// With eight bridges of containers, a ticket has the address of the local network (go-libp2p
// #1025).
func TestAddressesThatReachSomebodyComeFirst(t *testing.T) {
	const id = "/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN"
	r := ranks{defaults: []netip.Addr{netip.MustParseAddr("192.168.1.20")}}
	var all []ma.Multiaddr
	add := func(ips ...string) {
		for _, ip := range ips {
			for _, transport := range []string{"/tcp/4001", "/udp/4001/quic-v1"} {
				all = append(all, ma.StringCast(ip+transport+id))
			}
		}
	}
	add("/ip4/127.0.0.1", "/ip4/10.8.0.2")
	for i := range 8 {
		add(fmt.Sprintf("/ip4/172.%d.0.1", 17+i))
		r.bridges = append(r.bridges, netip.MustParsePrefix(fmt.Sprintf("172.%d.0.0/16", 17+i)))
	}
	add("/ip4/192.168.1.20", "/ip4/203.0.114.5", "/ip6/::1", "/ip6/fe80::1", "/ip6/2a00:1450::1")
	relayed := ma.StringCast("/ip4/203.0.114.9/tcp/1" + id + "/p2p-circuit" + id)
	all = append(all, relayed)
	all = r.order(all)
	var order []int
	for _, a := range all {
		order = append(order, r.of(a))
	}
	require.IsNonDecreasing(t, order)
	require.Equal(t, relayed, all[0])
	first := fmt.Sprint(all[:ticket.MaxAddrs])
	for _, ip := range []string{"192.168.1.20", "203.0.114.5", "2a00:1450::1", "10.8.0.2"} {
		require.Contains(t, first, ip)
	}
	require.NotContains(t, first, "127.0.0.1")
	require.Equal(t, rankLoopback, order[len(order)-1])
	for name, bridge := range map[string]bool{
		"docker0": true, "br-1234": true, "virbr0": true, "eth0": false, "wlan0": false, "en0": false,
		"wg0": false,
	} {
		require.Equal(t, bridge, isBridge(name), name)
	}
}

// A relay that says that it is at hundreds of addresses, or many relays, take neither the room of
// other relays in a ticket nor that of the node's direct addresses.
func TestRelaysShareTheRoomInATicket(t *testing.T) {
	const id = "/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN"
	var r ranks
	var all, direct []ma.Multiaddr
	relays := []peer.ID{stranger(t), stranger(t), stranger(t)}
	at := func(relay peer.ID, ip string) {
		all = append(all, ma.StringCast(fmt.Sprintf("/ip4/%s/tcp/1/p2p/%s/p2p-circuit%s", ip, relay, id)))
	}
	for i := range 200 {
		at(relays[0], fmt.Sprintf("8.8.8.%d", i))
	}
	at(relays[1], "203.0.114.1")
	at(relays[2], "203.0.114.2")
	for i := range 6 {
		m := ma.StringCast(fmt.Sprintf("/ip4/192.168.1.%d/tcp/1%s", i, id))
		all, direct = append(all, m), append(direct, m)
	}
	ordered := r.order(all)
	require.ElementsMatch(t, all, ordered)
	first := ordered[:ticket.MaxAddrs]
	for _, m := range direct {
		require.Contains(t, first, m)
	}
	for _, relay := range relays {
		require.True(t, slices.ContainsFunc(first, func(m ma.Multiaddr) bool {
			return relayOf(m) == relay
		}))
	}
	for i, m := range r.order(all)[:2*len(direct)] {
		require.Equal(t, i%2 == 0, isRelayed(m), "in turn, so that any beginning has both")
	}
}

// What a relay says of where it is makes few addresses of the node, beside those that the
// configuration names.
func TestARelayHasFewAddresses(t *testing.T) {
	relay, other := stranger(t), stranger(t)
	named := []ma.Multiaddr{ma.StringCast("/dns4/relay.example/tcp/4001"),
		ma.StringCast("/ip4/203.0.114.1/tcp/4001")}
	n := startWith(t, Config{Relays: []peer.AddrInfo{{ID: relay, Addrs: named}}})
	b := n.host.Peerstore()
	for round := range 5 {
		var said []ma.Multiaddr
		for i := range 40 {
			for _, f := range []string{"/ip4/8.8.%d.%d/tcp/1", "/ip4/8.8.%d.%d/udp/1/quic-v1",
				"/ip6/2a00:%d::%d/tcp/1", "/ip6/2a00:%d::%d/udp/1/quic-v1", "/ip4/8.8.%d.%d/tcp/1/ws"} {
				said = append(said, ma.StringCast(fmt.Sprintf(f, round, i+1)))
			}
		}
		b.AddAddrs(relay, said, time.Hour)
		b.AddAddrs(other, said, time.Hour)
	}
	b.AddAddrs(relay, named, time.Hour)
	got := b.Addrs(relay)
	require.Len(t, got, len(named)+4, "one for each version of IP, with TCP and with QUIC")
	require.ElementsMatch(t, named, got[:len(named)])
	require.Equal(t, got, b.Addrs(relay), "always the same")
	require.Len(t, b.Addrs(other), maxBookAddrs)

	through := func(m ma.Multiaddr) ma.Multiaddr {
		return m.Encapsulate(ma.StringCast("/p2p/" + relay.String() + "/p2p-circuit"))
	}
	said := []ma.Multiaddr{ma.StringCast("/ip4/8.8.8.8/tcp/1"), through(got[3]), through(named[1]),
		through(named[0])}
	require.Equal(t, []ma.Multiaddr{said[2], said[3], said[0], said[1]},
		n.namedFirst(slices.Clone(said)))
}

// A node that has a place at a relay which boasts has few addresses there.
func TestABoastfulRelay(t *testing.T) {
	relay := startRelay(t, Config{})
	relay.host.SetStreamHandler(identify.ID, func(s network.Stream) {
		defer s.Close()
		m := &idpb.Identify{Protocols: []string{circuitpb.ProtoIDv2Hop, identify.ID, identify.IDPush}}
		for i := range 60 {
			a := ma.StringCast(fmt.Sprintf("/ip4/8.8.8.%d/tcp/4001", i))
			m.ListenAddrs = append(m.ListenAddrs, a.Bytes())
		}
		b, err := proto.Marshal(m)
		if assert.NoError(t, err) {
			_, _ = s.Write(append(binary.AppendUvarint(nil, uint64(len(b))), b...)) // it may be gone
		}
	})
	n := startWith(t, Config{Relays: []peer.AddrInfo{{
		ID: relay.ID(), Addrs: relay.host.Network().ListenAddresses()}}})
	relayed := func() (all []ma.Multiaddr) {
		return slices.DeleteFunc(n.Addrs(), func(m ma.Multiaddr) bool { return !isRelayed(m) })
	}
	require.Eventually(t, func() bool { return len(relayed()) > 0 }, 30*time.Second, time.Millisecond)
	require.Len(t, relayed(), 1)
}
