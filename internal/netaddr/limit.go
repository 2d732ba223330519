package netaddr

import (
	"net"
	"net/netip"
	"sync"

	"golang.org/x/net/netutil"
)

// How many connections an HTTP listener has open at a time (docs/protocol/limits.md).
const (
	MaxLocalConns  = 512  // for programs of this machine and its user
	MaxScrapeConns = 64   // for what measures
	MaxPublicConns = 2048 // for anybody
)

// netShare is the share of a listener's connections that one network of the public internet may
// have.
const netShare = 4

// Limit returns a listener that has at most n connections open at a time. Others wait in the
// system's queue, and so cost the process no memory and no file. Servers end connections that are
// idle or slow.
//
// One network of the public internet has at most a quarter of them, or one, and what it opens
// beyond that is closed: one machine that opens connections and says nothing keeps nobody else out.
// Other addresses are those of a proxy, or of people whom the listener's owner knows.
func Limit(l net.Listener, n int) net.Listener {
	return LimitBehind(l, n, 0)
}

// LimitBehind is Limit for a listener behind so many proxies. With any, all connections come from
// the proxies, and no network has less than another.
func LimitBehind(l net.Listener, n, proxies int) net.Listener {
	if proxies == 0 {
		l = &byNetwork{Listener: l, most: max(n/netShare, 1), open: map[netip.Prefix]int{}}
	}
	return netutil.LimitListener(l, n)
}

// Network returns the network of an address that counts as one party: the IPv4 address, or the IPv6
// network of 56 bits. It is zero for an address that is not valid.
func Network(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := 32
	if a.Is6() {
		bits = 56
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// byNetwork closes what a network of the public internet opens beyond its share.
type byNetwork struct {
	net.Listener
	most int

	mu   sync.Mutex
	open map[netip.Prefix]int
}

// Accept implements net.Listener.
func (l *byNetwork) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		at, ok := c.RemoteAddr().(*net.TCPAddr)
		if !ok || !Public(at.AddrPort().Addr()) {
			return c, nil
		}
		from := Network(at.AddrPort().Addr())
		if l.enter(from) {
			return &networkConn{Conn: c, leave: sync.OnceFunc(func() { l.leave(from) })}, nil
		}
		_ = c.Close() // nothing was said on it
	}
}

func (l *byNetwork) enter(from netip.Prefix) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[from] >= l.most {
		return false
	}
	l.open[from]++
	return true
}

func (l *byNetwork) leave(from netip.Prefix) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[from]--; l.open[from] <= 0 {
		delete(l.open, from)
	}
}

// networkConn is a connection that counts for its network until it is closed.
type networkConn struct {
	net.Conn
	leave func()
}

// Close implements net.Conn.
func (c *networkConn) Close() error {
	defer c.leave()
	return c.Conn.Close()
}
