package netaddr

import (
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

// opened is a listener at which connections from given addresses wait.
type opened struct {
	net.Listener
	waiting []*from
}

func (o *opened) Accept() (net.Conn, error) {
	if len(o.waiting) == 0 {
		return nil, net.ErrClosed
	}
	c := o.waiting[0]
	o.waiting = o.waiting[1:]
	return c, nil
}

type from struct {
	net.Conn
	addr   string
	closed bool
}

func (f *from) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(f.addr), 1))
}

func (f *from) Close() error { f.closed = true; return nil }

// One network opens connections and says nothing on them: others still get theirs. A proxy on this
// machine or beside it is no network of that kind.
func TestOneNetworkLeavesConnectionsToOthers(t *testing.T) {
	var all []*from
	add := func(n int, addrs ...string) {
		for i := range n {
			all = append(all, &from{addr: addrs[i%len(addrs)]})
		}
	}
	add(10, "1.1.1.1", "::ffff:1.1.1.1")
	add(10, "2a00::1", "2a00:0:0:ff::1")
	add(2, "9.9.9.9", "2a00:0:0:100::1")
	add(6, "127.0.0.1", "10.0.0.1", "::1")
	l := Limit(&opened{waiting: all}, 16)
	got := map[string]int{}
	var kept []net.Conn
	for range 16 {
		c, err := l.Accept()
		require.NoError(t, err)
		kept = append(kept, c)
		got[Network(c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr()).String()]++
	}
	require.Equal(t, map[string]int{"1.1.1.1/32": 4, "2a00::/56": 4, "9.9.9.9/32": 1,
		"2a00:0:0:100::/56": 1, "127.0.0.1/32": 2, "10.0.0.1/32": 2, "::/56": 2}, got)
	closed := 0
	for _, c := range all {
		if c.closed {
			closed++
		}
	}
	require.Equal(t, 12, closed, "what is beyond a network's share is closed")

	for _, c := range kept {
		require.NoError(t, c.Close())
	}
}

// A connection that ends gives its place back, once.
func TestNetworkGetsItsPlacesBack(t *testing.T) {
	wait := func(n int) (all []*from) {
		for range n {
			all = append(all, &from{addr: "1.1.1.1"})
		}
		return all
	}
	l := &byNetwork{Listener: &opened{waiting: wait(5)}, most: 2, open: map[netip.Prefix]int{}}
	first, err := l.Accept()
	require.NoError(t, err)
	_, err = l.Accept()
	require.NoError(t, err)
	require.NoError(t, first.Close())
	require.NoError(t, first.Close())
	second, err := l.Accept()
	require.NoError(t, err)
	_, err = l.Accept()
	require.ErrorIs(t, err, net.ErrClosed, "the others were closed, and nobody else waits")
	require.NoError(t, second.Close())
	require.Len(t, l.open, 1)
}

// Behind a proxy, all connections come from it.
func TestLimitBehindProxies(t *testing.T) {
	var all []*from
	for range 16 {
		all = append(all, &from{addr: "1.1.1.1"})
	}
	l := LimitBehind(&opened{waiting: all}, 16, 1)
	for range 16 {
		_, err := l.Accept()
		require.NoError(t, err)
	}
}

// A small listener, too, has one for each network.
func TestSmallListenersTakeSomebody(t *testing.T) {
	c := &from{addr: "1.1.1.1"}
	got, err := Limit(&opened{waiting: []*from{c, {addr: "1.1.1.1"}}}, 2).Accept()
	require.NoError(t, err)
	require.NotNil(t, got)
	require.False(t, c.closed)
}
