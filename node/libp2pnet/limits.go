package libp2pnet

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	basicconnmgr "github.com/libp2p/go-libp2p/p2p/net/connmgr"
	"github.com/libp2p/go-libp2p/x/rate"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// What a node bears. Everything is counted by libp2p's resource manager, which refuses what is beyond a limit; memory is bounded to an eighth of the machine's.
const (
	// DefaultMaxPeers is how many connections a node keeps; of more, those of least use are closed.
	DefaultMaxPeers = 512
	// streamsEach is how many streams all peers together may have open, for each that is connected.
	streamsEach = 16
	// streamsOfOne is how many streams one peer may have open for one protocol.
	streamsOfOne = 256
	// perAddress is how many connections may come from one IPv4 address, or one IPv6 network of 56 bits: many devices may share a router.
	perAddress = 64
	// newPerSecond and newAtOnce bound how fast they may come.
	newPerSecond = 2
	newAtOnce    = 2 * perAddress
)

var (
	loopback4 = netip.MustParsePrefix("127.0.0.0/8")
	loopback6 = netip.MustParsePrefix("::1/128")
)

func resourceManager(maxPeers int) (network.ResourceManager, error) {
	scaling := rcmgr.DefaultLimits
	libp2p.SetDefaultServiceLimits(&scaling)
	conns := rcmgr.LimitVal(maxPeers + maxPeers/4 + 64) // some come while others are being closed
	waiting := max(rcmgr.LimitVal(128), conns/4)
	streams := conns * streamsEach
	limits := rcmgr.PartialLimitConfig{
		System: rcmgr.ResourceLimits{Conns: conns, ConnsInbound: conns, ConnsOutbound: conns, Streams: streams, StreamsInbound: streams, StreamsOutbound: streams},
		Transient: rcmgr.ResourceLimits{Conns: waiting, ConnsInbound: waiting, ConnsOutbound: waiting, Streams: waiting * 4, StreamsInbound: waiting * 4, StreamsOutbound: waiting * 4,
			FD: waiting},
		// All peers may speak the same protocol at once; one of them alone may have as many streams as OBJECTS asks for, and no more than a share.
		ProtocolDefault:     rcmgr.ResourceLimits{Streams: streams, StreamsInbound: streams, StreamsOutbound: streams},
		ProtocolPeerDefault: rcmgr.ResourceLimits{Streams: streamsOfOne, StreamsInbound: streamsOfOne, StreamsOutbound: streamsOfOne},
	}.Build(scaling.AutoScale())
	free := []rate.PrefixLimit{{Prefix: loopback4}, {Prefix: loopback6}}
	pace := rate.Limit{RPS: newPerSecond, Burst: newAtOnce}
	manager, err := rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(limits),
		rcmgr.WithNetworkPrefixLimit([]rcmgr.NetworkPrefixLimit{{Network: loopback4, ConnCount: int(conns)}}, []rcmgr.NetworkPrefixLimit{{Network: loopback6, ConnCount: int(conns)}}),
		rcmgr.WithLimitPerSubnet([]rcmgr.ConnLimitPerSubnet{{PrefixLength: 32, ConnCount: perAddress}}, []rcmgr.ConnLimitPerSubnet{{PrefixLength: 56, ConnCount: perAddress}, {PrefixLength: 48, ConnCount: 4 * perAddress}}),
		rcmgr.WithConnRateLimiters(&rate.Limiter{NetworkPrefixLimits: free, SubnetRateLimiter: rate.SubnetLimiter{
			IPv4SubnetLimits: []rate.SubnetLimit{{PrefixLength: 32, Limit: pace}},
			IPv6SubnetLimits: []rate.SubnetLimit{{PrefixLength: 56, Limit: pace}},
		}}))
	if err != nil {
		return nil, fmt.Errorf("resource manager: %w", err)
	}
	return manager, nil
}

// shareTag marks connections to peers that share something with this node, which outweighs what the hash table and gossip think of them.
const (
	shareTag   = "shares"
	shareValue = 1000
	knownValue = 2000 // of those that are no newcomers
)

// Keep implements node.Network.
func (n *Network) Keep(p peer.ID, known bool) {
	value := shareValue
	if known {
		value = knownValue
	}
	n.host.ConnManager().TagPeer(p, shareTag, value)
}

func connManager(maxPeers int) (connmgr.ConnManager, error) {
	m, err := basicconnmgr.NewConnManager(maxPeers-maxPeers/10, maxPeers)
	if err != nil {
		return nil, fmt.Errorf("connection manager: %w", err)
	}
	return m, nil
}

// Who says who is meant: a node by its id, or all at an IP address or in a network such as 192.0.2.0/24.
type Who struct {
	Peer peer.ID
	Net  netip.Prefix
}

// ParseWho reads one from text.
func ParseWho(text string) (Who, error) {
	if strings.Contains(text, "/") {
		n, err := netip.ParsePrefix(text)
		if err != nil {
			return Who{}, fmt.Errorf("%q is neither a node id nor an address nor a network such as 192.0.2.0/24: %w", text, err)
		}
		return Who{Net: n.Masked()}, nil
	}
	if a, err := netip.ParseAddr(text); err == nil {
		return Who{Net: netip.PrefixFrom(a, a.BitLen())}, nil
	}
	id, err := peer.Decode(text)
	if err != nil {
		return Who{}, fmt.Errorf("%q is neither a node id nor an address nor a network such as 192.0.2.0/24: %w", text, err)
	}
	return Who{Peer: id}, nil
}

// gater refuses connections. With an allow list, only who is on it is let in or dialled; who is on the deny list never is.
type gater struct {
	allow, deny []Who
	publicOnly  bool             // no private address is dialled,
	named       map[peer.ID]bool // except of those that the configuration names
}

var _ connmgr.ConnectionGater = (*gater)(nil)

func newGater(cfg Config) *gater {
	g := &gater{allow: cfg.Allow, deny: cfg.Deny, publicOnly: cfg.PublicOnly, named: map[peer.ID]bool{}}
	for _, p := range slices.Concat(cfg.Relays, cfg.Bootstrap) {
		g.named[p.ID] = true
	}
	return g
}

func addrOf(m ma.Multiaddr) (netip.Addr, bool) {
	ip, err := manet.ToIP(m)
	if err != nil {
		return netip.Addr{}, false
	}
	a, ok := netip.AddrFromSlice(ip)
	return a.Unmap(), ok
}

// allowed is for who is not denied.
func (g *gater) allowed(p peer.ID, m ma.Multiaddr) bool {
	return len(g.allow) == 0 || g.named[p] || on(g.allow, p, m)
}

func on(list []Who, p peer.ID, m ma.Multiaddr) bool {
	at, known := netip.Addr{}, false
	if m != nil {
		at, known = addrOf(m)
	}
	for _, w := range list {
		if w.Peer != "" && w.Peer == p || known && w.Net.IsValid() && w.Net.Contains(at) {
			return true
		}
	}
	return false
}

// InterceptPeerDial implements connmgr.ConnectionGater.
func (g *gater) InterceptPeerDial(p peer.ID) bool { return !on(g.deny, p, nil) }

// InterceptAddrDial implements connmgr.ConnectionGater.
func (g *gater) InterceptAddrDial(p peer.ID, m ma.Multiaddr) bool {
	if g.publicOnly && !g.named[p] && (manet.IsPrivateAddr(m) || manet.IsIPLoopback(m) || manet.IsIP6LinkLocal(m)) {
		return false
	}
	return !on(g.deny, p, m) && g.allowed(p, m)
}

// InterceptAccept implements connmgr.ConnectionGater.
func (g *gater) InterceptAccept(c network.ConnMultiaddrs) bool {
	return !on(g.deny, "", c.RemoteMultiaddr())
}

// InterceptSecured implements connmgr.ConnectionGater.
func (g *gater) InterceptSecured(_ network.Direction, p peer.ID, c network.ConnMultiaddrs) bool {
	return !on(g.deny, p, c.RemoteMultiaddr()) && g.allowed(p, c.RemoteMultiaddr())
}

// InterceptUpgraded implements connmgr.ConnectionGater.
func (g *gater) InterceptUpgraded(network.Conn) (bool, control.DisconnectReason) { return true, 0 }
