package libp2pnet

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/stretchr/testify/require"
)

// However many peers that do not exist are announced on the local network, a peer that somebody has
// named is met there, and an attempt in vain is soon over.
func TestBlackHolesOnTheLocalNetwork(t *testing.T) {
	n, friend := startWith(t, Config{}), startWith(t, Config{})
	wrong, held := tarpits(t, maxFinds+1)
	for _, at := range wrong[1:] {
		n.found(peer.AddrInfo{ID: stranger(t), Addrs: []ma.Multiaddr{at}})
	}
	done := make(chan error, 1)
	p := peer.AddrInfo{ID: stranger(t), Addrs: wrong[:1]}
	go func() { done <- n.Connect(t.Context(), p) }()
	require.Eventually(t, func() bool {
		return held.Load() == maxFinds+1
	}, 10*time.Second, time.Millisecond)
	n.voices.know(friend.ID())
	n.found(friend.info(t))
	require.Eventually(t, func() bool {
		return n.Connected(friend.ID())
	}, 10*time.Second, time.Millisecond)
	require.Eventually(t, func() bool { return n.finds.len() == 0 }, 10*time.Second, time.Millisecond)
	require.Empty(t, done, "another dial goes on for longer")
	require.Error(t, <-done)
}

// Dials to what is announced on the local network take no more than their share of the room, and
// nothing of the ration of others.
func TestDialsOnTheLocalNetworkAreBounded(t *testing.T) {
	now := time.Now()
	d := newDials(nil, func() time.Time { return now })
	began, refused := 0, 0
	for round := range 40 {
		var running []func(error)
		for i := range 2 * maxFinds {
			p := peer.ID(fmt.Sprint("near ", round, i))
			defer d.announced(p)()
			for j := range maxFoundDials {
				// in a network of their own each, so that only the ration of all is of account
				at := fmt.Sprintf("/ip4/10.%d.%d.%d/tcp/1", i, round, j+1)
				ended, err := d.start(p, addr(t, at))
				if err != nil {
					require.ErrorAs(t, err, new(*RationedError))
					refused++
					continue
				}
				began++
				running = append(running, ended)
			}
		}
		require.LessOrEqual(t, len(running), maxTryingNear)
		for i := range maxTrying - maxTryingNear {
			at := fmt.Sprintf("/ip4/11.%d.%d.1/tcp/1", round, i)
			ended, err := d.start(peer.ID(fmt.Sprint("far ", i)), addr(t, at))
			require.NoError(t, err, "there is room for others")
			ended(nil) // which costs nothing
		}
		for _, ended := range running {
			ended(context.DeadlineExceeded)
		}
	}
	require.Equal(t, nearBurst, began)
	require.Positive(t, refused)
	require.EqualValues(t, allBurst, d.all.left)
	require.Zero(t, d.near.trying)
	require.Zero(t, d.trying)
}

// What is announced is dialled only where it can be near, at few addresses, the likeliest first.
func TestAnnouncedAddressesAreNear(t *testing.T) {
	r := ranks{links: []netip.Prefix{netip.MustParsePrefix("192.168.1.0/24"),
		netip.MustParsePrefix("2a00:1450:1::/64")},
		bridges: []netip.Prefix{netip.MustParsePrefix("172.17.0.0/16")}}
	relayed := "/ip4/192.168.1.9/tcp/1/p2p/" + stranger(t).String() + "/p2p-circuit"
	var all, want []ma.Multiaddr
	for _, s := range []string{
		"/ip4/8.8.8.8/tcp/1", "/dns4/example.com/tcp/1", "/ip6/2a00:1450:2::1/tcp/1", relayed,
		"/ip4/127.0.0.1/tcp/1", "/ip4/172.17.0.2/tcp/1", "/ip4/10.0.0.1/tcp/1",
		"/ip4/192.168.1.7/tcp/1", "/ip6/2a00:1450:1::7/tcp/1",
	} {
		all = append(all, ma.StringCast(s))
	}
	for _, i := range []int{7, 8, 6, 4, 5} {
		want = append(want, all[i])
	}
	require.Equal(t, want, r.near(all))
	for i := range 20 {
		all = append(all, ma.StringCast(fmt.Sprintf("/ip4/192.168.1.7/tcp/%d", i+2)))
	}
	require.Len(t, r.near(all), maxFoundDials)
	require.NotContains(t, r.near(all), all[6])
	require.Empty(t, r.near(all[:4]))
}

// A peer is dialled once at a time, however often it is announced; and peers that somebody has
// named are bounded for themselves.
func TestFinds(t *testing.T) {
	var f finds
	for i := range maxFinds {
		require.True(t, f.begin(peer.ID(fmt.Sprint("stranger ", i)), false))
	}
	require.False(t, f.begin("another", false))
	for i := range maxFinds {
		require.True(t, f.begin(peer.ID(fmt.Sprint("friend ", i)), true))
		require.False(t, f.begin(peer.ID(fmt.Sprint("friend ", i)), true))
	}
	require.False(t, f.begin("another", true))
	f.end("stranger 0")
	require.False(t, f.begin("another", true))
	require.True(t, f.begin("another", false))
	f.end("friend 0")
	require.True(t, f.begin("friend 0", true))
	require.Equal(t, 2*maxFinds, f.len())
}
