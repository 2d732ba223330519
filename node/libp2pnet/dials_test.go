package libp2pnet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/node/link"
)

// stranger returns the id of a peer that nobody is.
func stranger(t *testing.T) peer.ID {
	t.Helper()
	_, key := newKey(t)
	k, err := crypto.UnmarshalEd25519PrivateKey(key)
	require.NoError(t, err)
	id, err := peer.IDFromPrivateKey(k)
	require.NoError(t, err)
	return id
}

// victim listens and hangs up. calls counts the connections that came.
func victim(t *testing.T) (at ma.Multiaddr, calls *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	calls = new(atomic.Int64)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			calls.Add(1)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() {
		require.NoError(t, l.Close())
		<-done
	})
	at, err = manet.FromNetAddr(l.Addr())
	require.NoError(t, err)
	return at, calls
}

// However many peers strangers say are at an address, the node does not flood it; and those that a
// person names, or that have been reached there before, are reached all the same.
func TestNodeIsNoReflector(t *testing.T) {
	at, calls := victim(t)
	n, friend := startWith(t, Config{}), startWith(t, Config{})
	require.NoError(t, n.Connect(t.Context(), friend.info(t)))
	var last error
	for range 600 {
		last = n.Connect(t.Context(), peer.AddrInfo{ID: stranger(t), Addrs: []ma.Multiaddr{at}})
		require.Error(t, last)
	}
	require.Positive(t, calls.Load())
	require.Less(t, calls.Load(), int64(150))
	var rationed *RationedError
	require.ErrorAs(t, last, &rationed)

	n.Drop()
	require.Eventually(t, func() bool {
		return !n.Connected(friend.ID())
	}, 10*time.Second, time.Millisecond)
	require.NoError(t, n.Connect(t.Context(), friend.info(t)), "it has been reached there before")
	other := startWith(t, Config{})
	require.ErrorAs(t, n.Connect(t.Context(), other.info(t)), &rationed)
	require.NoError(t, n.Connect(link.Named(t.Context()), other.info(t)), "a person names it")
}

// A pool of peers that prove themselves at an address earns nothing for other ports there.
func TestDialsAreRationed(t *testing.T) {
	now := time.Unix(1e9, 0)
	d := newDials(
		[]peer.AddrInfo{{ID: "configured", Addrs: []ma.Multiaddr{addr(t, "/ip4/192.0.2.1/tcp/1")}}},
		func() time.Time {
			return now
		},
	)
	refused := errors.New("refused")
	// try dials until it is refused, most times at most, and returns how often it dialled.
	try := func(most int, outcome error, where func(i int) (peer.ID, ma.Multiaddr)) int {
		for i := range most {
			p, m := where(i)
			ended, err := d.start(p, m)
			if err != nil {
				require.ErrorAs(t, err, new(*RationedError))
				return i
			}
			ended(outcome)
		}
		return most
	}
	port := func(ip string) func(int) (peer.ID, ma.Multiaddr) {
		return func(i int) (peer.ID, ma.Multiaddr) {
			return peer.ID(fmt.Sprint("p", i)), addr(t, fmt.Sprintf("%s/tcp/%d", ip, 1+i%60000))
		}
	}
	require.Equal(t, oneBurst, try(1000, refused, port("/ip4/192.0.2.1")))
	require.Equal(
		t, 0, try(1000, refused, port("/ip6/::ffff:192.0.2.1")), "another form of the address",
	)
	require.Equal(t, 5, try(5, refused, func(int) (peer.ID, ma.Multiaddr) {
		return "configured", addr(t, "/ip4/192.0.2.1/tcp/1")
	}))

	// All failed: the pause has doubled.
	now = now.Add(10 * 2 * onePause)
	require.Equal(t, 10, try(1000, refused, port("/ip4/192.0.2.1")))
	now = now.Add(-time.Hour)
	require.Equal(
		t, 0, try(1000, refused, port("/ip4/192.0.2.1")), "a clock that goes back gives nothing",
	)
	now = now.Add(100 * time.Hour)
	for range 20 {
		try(1000, refused, port("/ip4/192.0.2.1"))
		now = now.Add(time.Hour)
	}
	now = now.Add((onePause << maxDoubling) * oneBurst)
	try(1000, refused, port("/ip4/192.0.2.1"))
	now = now.Add(10 * (onePause << maxDoubling))
	require.Equal(t, 10, try(1000, refused, port("/ip4/192.0.2.1")), "the pause grows no further")

	// Addresses next to each other share a ration, and so do those of one IPv6 network.
	require.Equal(t, netBurst, try(10000, refused, func(i int) (peer.ID, ma.Multiaddr) {
		return "p", addr(t, fmt.Sprintf("/ip4/198.51.100.%d/tcp/1", i%256))
	}))
	require.Equal(t, oneBurst, try(10000, refused, func(i int) (peer.ID, ma.Multiaddr) {
		return "p", addr(t, fmt.Sprintf("/ip6/2001:db8::%x/tcp/1", i))
	}))

	// All addresses together share one.
	now = now.Add(time.Hour)
	spread := func(i int) (peer.ID, ma.Multiaddr) {
		return "p", addr(t, fmt.Sprintf("/ip4/10.%d.%d.1/tcp/1", i>>8&255, i&255))
	}
	require.Equal(t, allBurst, try(10000, refused, spread))
	now = now.Add(time.Minute)
	require.Equal(t, int(time.Minute/allPause), try(10000, refused, spread))

	// A dial that reaches the peer costs nothing and exempts that peer there, as long as it is
	// reached.
	now = now.Add(time.Hour)
	there := func(int) (peer.ID, ma.Multiaddr) { return "honest", addr(t, "/ip4/192.0.2.77/tcp/9") }
	require.Equal(t, 10000, try(10000, nil, there))
	require.Equal(
		t, oneBurst, try(1000, refused, port("/ip4/192.0.2.77")),
		"others at the same address are rationed",
	)
	require.Equal(t, 1, try(1, context.Canceled, there), "one that is given up says nothing")
	require.Equal(t, 1, try(1, refused, there))
	require.Equal(t, 0, try(1000, refused, there))
	require.Equal(t, newNames(), d.named)
	require.Zero(t, d.trying)
	require.Empty(t, d.tryingOne)
}

// Whatever is dialled, what the rations remember stays within bounds.
func TestRationsAreBounded(t *testing.T) {
	now := time.Unix(1e9, 0)
	d := newDials(nil, func() time.Time { return now })
	for i := range 3 * maxRations {
		ip := netip.AddrFrom4([4]byte{11, byte(i >> 16), byte(i >> 8), byte(i)})
		m := addr(t, fmt.Sprintf("/ip4/%s/tcp/1", ip))
		if ended, err := d.start("p", m); err == nil {
			ended([]error{nil, errors.New("refused")}[i%2])
		}
		now = now.Add(allPause)
	}
	require.LessOrEqual(t, len(d.rations), maxRations)
	require.LessOrEqual(t, len(d.proved), maxProved)
	require.Len(t, d.proved, maxProved)
}

// A relay in the addresses of a peer that a person names is dialled, too.
func TestNamingAPeerNamesItsRelays(t *testing.T) {
	d := newDials(nil, time.Now)
	relay, err := peer.Decode(relayID)
	require.NoError(t, err)
	end := d.name(peer.AddrInfo{ID: "p", Addrs: []ma.Multiaddr{
		addr(t, "/ip4/192.0.2.1/tcp/1/p2p/"+relayID+"/p2p-circuit"), addr(t, "/ip4/192.0.2.1/tcp/2"),
		addr(t, "/dns4/seed.example/tcp/4/p2p/"+relayID+"/p2p-circuit"),
	}})
	at := func(p peer.ID, port uint16) place {
		return place{p, netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), port)}
	}
	require.Equal(
		t,
		names{
			map[place]int{at("p", 2): 1, at(relay, 1): 1},
			map[peer.ID]map[string]int{relay: {"/dns4/seed.example/4": 1}},
		},
		d.named,
	)
	require.True(t, d.isNamed(at(relay, 1)))
	require.False(t, d.isNamed(at(relay, 9)), "it is not anywhere")
	require.False(t, d.isNamed(at("p", 1)), "somebody else is said to be there")
	end()
	require.Equal(t, newNames(), d.named)
}

// What others say of a named peer's addresses is rationed, and bounded at a time.
func TestHearsayOfNamedPeersIsRationed(t *testing.T) {
	d := newDials(nil, time.Now)
	defer d.name(peer.AddrInfo{ID: "p", Addrs: []ma.Multiaddr{addr(t, "/ip4/192.0.2.1/tcp/1")}})()
	var running []func(error)
	for i := range maxTryingOne {
		ended, err := d.start("p", addr(t, fmt.Sprintf("/ip4/198.51.100.1/tcp/%d", i+1)))
		require.NoError(t, err)
		running = append(running, ended)
	}
	_, err := d.start("p", addr(t, "/ip4/198.51.100.1/udp/99/quic-v1"))
	require.ErrorAs(t, err, new(*RationedError))
	for _, m := range []string{"/ip4/192.0.2.1/tcp/1", "/ip4/192.0.2.1/udp/1/quic-v1"} {
		ended, err := d.start("p", addr(t, m))
		require.NoError(t, err)
		ended(nil)
	}
	for i := range maxTrying - maxTryingOne {
		ended, err := d.start(peer.ID(fmt.Sprint(i)), addr(t, fmt.Sprintf("/ip4/10.0.%d.1/tcp/1", i)))
		require.NoError(t, err)
		running = append(running, ended)
	}
	_, err = d.start("another", addr(t, "/ip4/10.1.0.1/tcp/1"))
	require.ErrorAs(t, err, new(*RationedError))
	for _, ended := range running {
		ended(context.Canceled)
	}
	ended, err := d.start("another", addr(t, "/ip4/10.1.0.1/tcp/1"))
	require.NoError(t, err)
	ended(nil)
	require.Zero(t, d.trying)
	require.Empty(t, d.tryingOne)
}

// looksUp is a resolver that knows some names.
type looksUp map[string][]ma.Multiaddr

func (l looksUp) ResolveDNSAddr(
	_ context.Context, _ peer.ID, m ma.Multiaddr, _, _ int,
) ([]ma.Multiaddr, error) {
	return l[m.String()], nil
}

func (l looksUp) ResolveDNSComponent(
	_ context.Context, m ma.Multiaddr, _ int,
) ([]ma.Multiaddr, error) {
	return l[m.String()], nil
}

// A peer that is named by a host name is dialled without ration where that leads, and nowhere else.
func TestHostNamesLeadSomewhere(t *testing.T) {
	all := func(texts ...string) (out []ma.Multiaddr) {
		for _, text := range texts {
			out = append(out, addr(t, text))
		}
		return out
	}
	d := newDials([]peer.AddrInfo{{ID: "p", Addrs: all("/dns4/a.example/tcp/1")},
		{ID: "q", Addrs: all("/dnsaddr/b.example")}}, time.Now)
	r := resolver{looksUp{
		"/dns4/a.example/tcp/1":         all("/ip4/192.0.2.1/tcp/1", "/ip4/192.0.2.2/tcp/1"),
		"/dns4/a.example/udp/1/quic-v1": all("/ip4/192.0.2.1/udp/1/quic-v1"),
		"/dnsaddr/b.example":            all("/ip4/192.0.2.3/tcp/3", "/dns/c.example/tcp/4"),
		"/dns/c.example/tcp/4":          all("/ip4/192.0.2.4/tcp/4"),
		"/dns/evil.example/tcp/5":       all("/ip4/192.0.2.5/tcp/5"),
	}, d}
	at := func(p peer.ID, last byte, port uint16) bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.isNamed(place{p, netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, last}), port)})
	}
	require.False(t, at("p", 1, 1), "not before the name was looked up")
	look := func(text string) {
		var err error
		if m := addr(t, text); m[0].Code() == ma.P_DNSADDR {
			_, err = r.ResolveDNSAddr(t.Context(), "q", m, 1, 9)
		} else {
			_, err = r.ResolveDNSComponent(t.Context(), m, 9)
		}
		require.NoError(t, err)
	}
	for _, text := range []string{"/dns4/a.example/tcp/1", "/dnsaddr/b.example",
		"/dns/c.example/tcp/4", "/dns/evil.example/tcp/5"} {
		look(text)
	}
	require.True(t, at("p", 1, 1))
	require.True(t, at("p", 2, 1))
	require.True(t, at("q", 3, 3))
	require.True(t, at("q", 4, 4), "through another name")
	require.False(t, at("p", 3, 3), "another peer's")
	require.False(t, at("p", 1, 2), "another port")
	require.False(t, at("q", 5, 5))
	require.Len(t, d.led, 3, "nobody is named by the last")
	for _, host := range []string{"/dns/evil.example/tcp/5", "/dns/far.example/tcp/6"} {
		end := d.name(peer.AddrInfo{ID: "p", Addrs: all(host)})
		look(host)
		require.Equal(t, host == "/dns/evil.example/tcp/5", at("p", 5, 5))
		end()
		require.False(t, at("p", 5, 5))
		require.Len(t, d.led, 3, "what a person named is forgotten")
	}
}

// What is remembered of host names is bounded by what peers are named by now: names that lead to
// themselves are forgotten, and those that a zone does not name any more.
func TestHostNamesThatLeadInCircles(t *testing.T) {
	to := looksUp{
		"/dnsaddr/self.example": {addr(t, "/dnsaddr/self.example"), addr(t, "/ip4/192.0.2.1/tcp/1")},
		"/dnsaddr/a.example":    {addr(t, "/dnsaddr/b.example")},
		"/dnsaddr/b.example":    {addr(t, "/dnsaddr/a.example")},
	}
	of := func(p peer.ID, host string) peer.AddrInfo {
		return peer.AddrInfo{ID: p, Addrs: []ma.Multiaddr{addr(t, "/dnsaddr/"+host+".example")}}
	}
	d := newDials([]peer.AddrInfo{of("q", "zone")}, time.Now)
	r := resolver{to, d}
	look := func(text string) {
		_, err := r.ResolveDNSAddr(t.Context(), "p", addr(t, text), 1, 9)
		require.NoError(t, err)
	}
	for _, ring := range [][]string{{"self"}, {"a", "b", "a"}} {
		end := d.name(of("p", ring[0]))
		for _, name := range ring {
			look("/dnsaddr/" + name + ".example")
		}
		require.Contains(t, d.led, addr(t, "/dnsaddr/"+ring[0]+".example").String())
		end()
		require.Empty(t, d.led, ring)
	}
	for i := range 10 {
		next := fmt.Sprintf("/dnsaddr/n%d.example", i)
		to["/dnsaddr/zone.example"] = []ma.Multiaddr{addr(t, next)}
		look("/dnsaddr/zone.example")
		look(next)
		require.Len(t, d.led, 2)
	}
}
