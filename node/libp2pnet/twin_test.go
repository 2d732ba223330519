package libp2pnet

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"github.com/stretchr/testify/require"
)

// passOn passes all connections to an address on to another one, as anybody can.
func passOn(t *testing.T, to ma.Multiaddr) ma.Multiaddr {
	t.Helper()
	bare, _ := peer.SplitAddr(to)
	target, err := manet.ToNetAddr(bare)
	require.NoError(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var running sync.WaitGroup
	running.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", target.String())
			if err != nil {
				_ = in.Close()
				continue
			}
			for _, pair := range [][2]net.Conn{{in, out}, {out, in}} {
				running.Go(func() {
					_, _ = io.Copy(pair[0], pair[1])
					_, _ = pair[0].Close(), pair[1].Close()
				})
			}
		}
	})
	t.Cleanup(func() { require.NoError(t, l.Close()); running.Wait() })
	at, err := manet.FromNetAddr(l.Addr())
	require.NoError(t, err)
	return at
}

// looked has a network look at an address, and returns when it has.
func (n *Network) looked(t *testing.T, at ma.Multiaddr) ma.Multiaddr {
	t.Helper()
	n.LookForTwin([]ma.Multiaddr{at})
	require.Eventually(t, func() bool {
		n.twins.mu.Lock()
		defer n.twins.mu.Unlock()
		_, tried := n.twins.tried[string(at.Bytes())]
		return tried && !n.twins.probing
	}, 20*time.Second, 10*time.Millisecond)
	return n.Twin()
}

// A node finds another that runs with its key where somebody says that it is itself. Others cannot
// pretend to be one: neither with a key of theirs, nor by passing connections on to the node.
func TestTwin(t *testing.T) {
	_, key := newKey(t)
	a, b := startWith(t, Config{Key: key}), startWith(t, Config{Key: key})
	stranger := startWith(t, Config{})
	at := func(n *Network) ma.Multiaddr { return n.info(t).Addrs[0] }

	require.Nil(t, a.looked(t, at(stranger)))
	require.Nil(t, a.looked(t, passOn(t, at(a))), "the node itself counts as another one")
	a.LookForTwin([]ma.Multiaddr{at(a)})
	require.Len(t, a.twins.tried, 2, "it dials itself")

	way := passOn(t, at(b))
	require.Equal(t, way.String(), a.looked(t, way).String())
	require.Nil(t, b.Twin())

	require.Error(t, b.Connect(t.Context(), peer.AddrInfo{ID: a.ID(), Addrs: []ma.Multiaddr{at(a)}}))
	require.Eventually(t, func() bool { return b.Twin() != nil }, 20*time.Second, 10*time.Millisecond)
	require.Equal(t, at(a).String(), b.Twin().String())
}

// What is announced on the local network with this node's id leads to the other one.
func TestTwinOnTheLocalNetwork(t *testing.T) {
	_, key := newKey(t)
	a, b := startWith(t, Config{Key: key}), startWith(t, Config{Key: key})
	a.found(peer.AddrInfo{ID: a.ID(), Addrs: a.host.Network().ListenAddresses()})
	require.Empty(t, a.twins.tried)
	a.found(peer.AddrInfo{ID: b.ID(), Addrs: b.host.Network().ListenAddresses()})
	require.Eventually(t, func() bool { return a.Twin() != nil }, 20*time.Second, 10*time.Millisecond)
}

// One address is tried again only after a while, and however many are named, few are remembered. A
// twin that is not found any more is forgotten.
func TestLookingForTwinsIsBounded(t *testing.T) {
	var x twins
	now := time.Unix(1_000_000, 0)
	addr := func(i int) ma.Multiaddr {
		m, err := ma.NewMultiaddr("/ip4/192.0.2.1/udp/" + string(rune('1'+i/10)) + string(rune('0'+i%10)))
		require.NoError(t, err)
		return m
	}
	var all []ma.Multiaddr
	for i := range 80 {
		all = append(all, addr(i))
	}
	tried := 0
	for range 100 {
		some := x.begin(all, now)
		if len(some) == 0 {
			break
		}
		require.LessOrEqual(t, len(some), maxTwinAddrs)
		require.Empty(t, x.begin(all[70:], now), "two at a time")
		tried += len(some)
		x.end()
	}
	require.Equal(t, maxTried, tried)
	require.Empty(t, x.begin(all[:1], now.Add(twinAgain-1)))
	require.Len(t, x.begin(all[:1], now.Add(twinAgain)), 1)
	x.end()
	now = now.Add(twinAgain)
	x.at, x.found = all[0], now
	require.Empty(t, x.begin(all[:1], now.Add(twinEvery-1)))
	require.Len(t, x.begin(all[:1], now.Add(twinEvery)), 1)
	x.end()
	require.NotNil(t, x.where(now.Add(twinFresh-1)))
	require.Nil(t, x.where(now.Add(twinFresh)))
}
