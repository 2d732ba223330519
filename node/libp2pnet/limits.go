package libp2pnet

import (
	"fmt"
	"net/netip"

	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	basicconnmgr "github.com/libp2p/go-libp2p/p2p/net/connmgr"
	circuitpb "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	relayv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	"github.com/libp2p/go-libp2p/p2p/protocol/holepunch"
	"github.com/libp2p/go-libp2p/p2p/protocol/identify"
	"github.com/libp2p/go-libp2p/x/rate"

	"github.com/skerry-sync/skerry/node/link"
)

// What a node bears. Everything is counted by libp2p's resource manager, which refuses what is
// beyond a limit; memory is bounded to an eighth of the machine's.
const (
	// DefaultMaxPeers is how many connections a node keeps; of more, those of least use are closed.
	DefaultMaxPeers = 512
	// streamsEach is how many streams all peers together may have open, for each that is connected.
	streamsEach = 16
	// streamsOfOne is how many streams one peer may have open for one protocol.
	streamsOfOne = 256
	// connsOfOne is how many connections one peer may open.
	connsOfOne = 8
	// perAddress is how many connections may come from one IPv4 address, or one IPv6 network of 56
	// bits: many devices may share a router.
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
	limitServices(&scaling)
	conns := rcmgr.LimitVal(maxPeers + maxPeers/4 + 64) // some come while others are being closed
	waiting := max(rcmgr.LimitVal(128), conns/4)
	streams := conns * streamsEach
	limits := rcmgr.PartialLimitConfig{
		// Connections that others begin take no place of those that this node begins.
		System: rcmgr.ResourceLimits{Conns: conns + waiting, ConnsInbound: conns,
			ConnsOutbound: conns, Streams: streams, StreamsInbound: streams, StreamsOutbound: streams},
		Transient: rcmgr.ResourceLimits{Conns: 2 * waiting, ConnsInbound: waiting,
			ConnsOutbound: waiting, Streams: waiting * 4, StreamsInbound: waiting * 4,
			StreamsOutbound: waiting * 4,
			FD:              2 * waiting},
		// For named peers when there is no more room above: see namedPlaces.
		AllowlistedSystem: rcmgr.ResourceLimits{Conns: conns, ConnsInbound: conns, ConnsOutbound: conns,
			Streams: streams, StreamsInbound: streams, StreamsOutbound: streams},
		AllowlistedTransient: rcmgr.ResourceLimits{Conns: waiting, ConnsInbound: waiting,
			ConnsOutbound: waiting, Streams: waiting * 4, StreamsInbound: waiting * 4,
			StreamsOutbound: waiting * 4, FD: waiting},
		// All peers may speak the same protocol at once; one of them alone may have as many streams as
		// OBJECTS asks for, and no more than a share.
		ProtocolDefault: rcmgr.ResourceLimits{
			Streams: streams, StreamsInbound: streams, StreamsOutbound: streams,
		},
		// As many addresses of a peer as are dialled at once, beside what it may open itself.
		PeerDefault: rcmgr.ResourceLimits{
			Conns: dialsToOne + connsOfOne, ConnsOutbound: dialsToOne, ConnsInbound: connsOfOne,
		},
		ProtocolPeerDefault: rcmgr.ResourceLimits{
			Streams: streamsOfOne, StreamsInbound: streamsOfOne, StreamsOutbound: streamsOfOne,
		},
	}.Build(scaling.AutoScale())
	free := []rate.PrefixLimit{{Prefix: loopback4}, {Prefix: loopback6}}
	pace := rate.Limit{RPS: newPerSecond, Burst: newAtOnce}
	manager, err := rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(limits),
		rcmgr.WithNetworkPrefixLimit(
			[]rcmgr.NetworkPrefixLimit{{Network: loopback4, ConnCount: int(conns)}},
			[]rcmgr.NetworkPrefixLimit{{Network: loopback6, ConnCount: int(conns)}},
		),
		rcmgr.WithLimitPerSubnet(
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 32, ConnCount: perAddress}},
			[]rcmgr.ConnLimitPerSubnet{
				{PrefixLength: 56, ConnCount: perAddress}, {PrefixLength: 48, ConnCount: 4 * perAddress},
			},
		),
		rcmgr.WithConnRateLimiters(
			&rate.Limiter{NetworkPrefixLimits: free, SubnetRateLimiter: rate.SubnetLimiter{
				IPv4SubnetLimits: []rate.SubnetLimit{{PrefixLength: 32, Limit: pace}},
				IPv6SubnetLimits: []rate.SubnetLimit{{PrefixLength: 56, Limit: pace}},
			}},
		))
	if err != nil {
		return nil, fmt.Errorf("resource manager: %w", err)
	}
	return manager, nil
}

// limitServices bounds the streams of libp2p's own protocols: those of each service, those of one
// peer with it, and their memory. Limits grow with the machine. The figures are go-libp2p's.
func limitServices(scaling *rcmgr.ScalingLimitConfig) {
	limit := func(streams, each, memory int) rcmgr.BaseLimit {
		return rcmgr.BaseLimit{StreamsInbound: each, StreamsOutbound: each, Streams: streams,
			Memory: int64(memory)}
	}
	for _, s := range []struct {
		name              string
		protocols         []protocol.ID
		all, grow         rcmgr.BaseLimit
		protocol, growing rcmgr.BaseLimit
		peer, onePeer     rcmgr.BaseLimit // of the service, and of each of its protocols
	}{
		{
			name: identify.ServiceName, protocols: []protocol.ID{identify.ID, identify.IDPush},
			all: limit(128, 64, 4<<20), grow: limit(128, 64, 4<<20),
			protocol: limit(128, 64, 4<<20), growing: limit(128, 64, 4<<20),
			peer: limit(32, 16, 1<<20), onePeer: limit(32, 16, 32*(256<<20+16<<10)),
		},
		{
			name: holepunch.ServiceName, protocols: []protocol.ID{holepunch.Protocol},
			all: limit(64, 32, 4<<20), grow: limit(16, 8, 4<<20),
			protocol: limit(64, 32, 4<<20), growing: limit(16, 8, 4<<20),
			peer: limit(2, 2, 1<<20), onePeer: limit(2, 2, 1<<20),
		},
		{
			name:      relayv2.ServiceName,
			protocols: []protocol.ID{circuitpb.ProtoIDv2Hop, circuitpb.ProtoIDv2Stop},
			all:       limit(256, 256, 16<<20), grow: limit(256, 256, 16<<20),
			protocol: limit(640, 640, 16<<20), growing: limit(640, 640, 16<<20),
			peer: limit(64, 64, 1<<20), onePeer: limit(128, 128, 32<<20),
		},
	} {
		scaling.AddServiceLimit(s.name, s.all, growth(s.grow))
		scaling.AddServicePeerLimit(s.name, s.peer, rcmgr.BaseLimitIncrease{})
		for _, id := range s.protocols {
			scaling.AddProtocolLimit(id, s.protocol, growth(s.growing))
			scaling.AddProtocolPeerLimit(id, s.onePeer, rcmgr.BaseLimitIncrease{})
		}
	}
}

// growth is what a limit grows by with each GiB of memory.
func growth(l rcmgr.BaseLimit) rcmgr.BaseLimitIncrease {
	return rcmgr.BaseLimitIncrease{StreamsInbound: l.StreamsInbound,
		StreamsOutbound: l.StreamsOutbound, Streams: l.Streams, Memory: l.Memory}
}

// shareTag marks connections to peers that share something with this node, which outweighs what the
// hash table and gossip think of them.
const (
	shareTag     = "shares"
	shareValue   = 1000
	historyValue = 2000
	namedValue   = 3000
)

// Keep implements link.Network.
func (n *Network) Keep(p peer.ID, trust link.Trust) {
	value := shareValue
	switch trust {
	case link.TrustHistory:
		value = historyValue
	case link.TrustNamed:
		value = namedValue
	}
	n.host.ConnManager().TagPeer(p, shareTag, value)
	if trust != link.TrustNamed {
		return
	}
	n.voices.know(p)
	for _, c := range n.host.Network().ConnsToPeer(p) {
		if err := n.named.add(p, c.RemoteMultiaddr()); err != nil {
			n.cfg.Log.Warn("keeping a place for a named peer", "peer", p, "error", err)
		}
	}
}

func connManager(maxPeers int) (connmgr.ConnManager, error) {
	m, err := basicconnmgr.NewConnManager(maxPeers-maxPeers/10, maxPeers)
	if err != nil {
		return nil, fmt.Errorf("connection manager: %w", err)
	}
	return m, nil
}
