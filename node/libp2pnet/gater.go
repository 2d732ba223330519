package libp2pnet

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/skerry-sync/skerry/internal/netaddr"
)

// Who names a node by its id, or all at an IP address or in a network such as 192.0.2.0/24.
type Who struct {
	Peer peer.ID
	Net  netip.Prefix
}

// mappedBits is the length of ::ffff:0:0/96, before the IPv4 address of an IPv4-mapped one.
const mappedBits = 96

// ParseWho reads one from text. An IPv4-mapped address or network, such as ::ffff:192.0.2.0/120,
// means the IPv4 one, which is how connections show it.
func ParseWho(text string) (Who, error) {
	bad := func(err error) (Who, error) {
		return Who{}, fmt.Errorf(
			"%q is not a node id, an address or a network such as 192.0.2.0/24: %w", text, err,
		)
	}
	if strings.Contains(text, "/") {
		n, err := netip.ParsePrefix(text)
		if err != nil {
			return bad(err)
		}
		if n.Addr().Is4In6() {
			if n.Bits() < mappedBits {
				return bad(fmt.Errorf("an IPv4-mapped network needs a prefix of at least %d bits", mappedBits))
			}
			n = netip.PrefixFrom(n.Addr().Unmap(), n.Bits()-mappedBits)
		}
		return Who{Net: n.Masked()}, nil
	}
	if a, err := netip.ParseAddr(text); err == nil {
		if a.Zone() != "" {
			return bad(fmt.Errorf("name the address without the zone %q", a.Zone()))
		}
		a = a.Unmap()
		return Who{Net: netip.PrefixFrom(a, a.BitLen())}, nil
	}
	id, err := peer.Decode(text)
	if err != nil { // which tells of encodings
		return Who{}, fmt.Errorf(
			"%q is not a node id, an address or a network such as 192.0.2.0/24", text,
		)
	}
	return Who{Peer: id}, nil
}

// gater refuses connections. With an allow list, only those on it are let in or dialled; those on
// the deny list never are.
//
// A peer behind a relay is judged by its id alone: the address of such a connection is the relay's,
// and that of the peer is unknown. So an allow list of addresses does not let it in, and a deny
// list of addresses does not see it. To the relay itself, which is a peer at that address, both
// lists apply: through a relay that is denied nobody comes.
type gater struct {
	allow, deny []Who
	publicOnly  bool             // only addresses of the public internet are dialled,
	named       map[peer.ID]bool // except those of peers that the configuration names
	twins       *twins
}

var _ connmgr.ConnectionGater = (*gater)(nil)

func newGater(cfg Config) *gater {
	g := &gater{
		allow: cfg.Allow, deny: cfg.Deny, publicOnly: cfg.PublicOnly, named: map[peer.ID]bool{},
		twins: &twins{},
	}
	for _, p := range slices.Concat(cfg.Relays, cfg.Bootstrap) {
		g.named[p.ID] = true
	}
	return g
}

// addrOf returns the IP address that a multiaddr begins with, neither IPv4-mapped nor with a zone.
// ok is false for names.
func addrOf(m ma.Multiaddr) (netip.Addr, bool) {
	if zoned(m) {
		m = m[1:]
	}
	if len(m) == 0 || m[0].Code() != ma.P_IP4 && m[0].Code() != ma.P_IP6 {
		return netip.Addr{}, false
	}
	a, ok := netip.AddrFromSlice(m[0].RawValue())
	return a.Unmap(), ok
}

// zoned reports whether a multiaddr begins with an IPv6 zone, which only addresses of a local
// network have.
func zoned(m ma.Multiaddr) bool { return len(m) > 0 && m[0].Code() == ma.P_IP6ZONE }

// isPublic reports whether a multiaddr is one of the public internet. A name counts as one unless
// it is reserved for local use; what it resolves to is judged again before it is dialled.
func isPublic(m ma.Multiaddr) bool {
	if a, ok := addrOf(m); ok {
		return !zoned(m) && netaddr.Public(a)
	}
	return manet.IsPublicAddr(m)
}

// peerAddr returns the address at which the peer of a connection is; unknown through a relay.
func peerAddr(m ma.Multiaddr) (netip.Addr, bool) {
	if m == nil || isRelayed(m) {
		return netip.Addr{}, false
	}
	return addrOf(m)
}

// allowed is for peers that are not denied.
func (g *gater) allowed(p peer.ID, m ma.Multiaddr) bool {
	if len(g.allow) == 0 || g.named[p] {
		return true
	}
	at, known := peerAddr(m)
	return slices.ContainsFunc(g.allow, func(w Who) bool {
		return w.Peer != "" && w.Peer == p ||
			known && w.Net.Contains(at)
	})
}

// denied also looks at the IPv4 address that an IPv6 address stands for: a translator or tunnel on
// the way would lead to a network that is denied.
func (g *gater) denied(p peer.ID, m ma.Multiaddr) bool {
	at, known := peerAddr(m)
	inner, embeds := netaddr.Embedded(at)
	return slices.ContainsFunc(g.deny, func(w Who) bool {
		return w.Peer != "" && w.Peer == p || known && w.Net.Contains(at) || embeds &&
			w.Net.Contains(inner)
	})
}

// InterceptPeerDial implements connmgr.ConnectionGater.
func (g *gater) InterceptPeerDial(p peer.ID) bool { return !g.denied(p, nil) }

// InterceptAddrDial implements connmgr.ConnectionGater. Names have been resolved before.
func (g *gater) InterceptAddrDial(p peer.ID, m ma.Multiaddr) bool {
	if g.publicOnly && !g.named[p] && !isRelayed(m) { // the relay is dialled, and judged, by itself
		if _, ok := addrOf(m); !ok || !isPublic(m) {
			return false
		}
	}
	return !g.denied(p, m) && g.allowed(p, m)
}

// InterceptAccept implements connmgr.ConnectionGater.
func (g *gater) InterceptAccept(c network.ConnMultiaddrs) bool {
	return !g.denied("", c.RemoteMultiaddr())
}

// InterceptSecured implements connmgr.ConnectionGater.
func (g *gater) InterceptSecured(
	dir network.Direction, p peer.ID, c network.ConnMultiaddrs,
) bool {
	if dir == network.DirInbound {
		g.twins.noteInbound(p)
	}
	return !g.denied(p, c.RemoteMultiaddr()) && g.allowed(p, c.RemoteMultiaddr())
}

// InterceptUpgraded implements connmgr.ConnectionGater.
func (g *gater) InterceptUpgraded(network.Conn) (bool, control.DisconnectReason) { return true, 0 }
