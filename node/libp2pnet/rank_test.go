package libp2pnet

import (
	"fmt"
	"net/netip"
	"testing"

	ma "github.com/multiformats/go-multiaddr"
	"github.com/stretchr/testify/require"

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
	r.sort(all)
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
