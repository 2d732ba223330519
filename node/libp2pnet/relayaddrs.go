package libp2pnet

import (
	"slices"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// A node that others reach through relays says so with addresses that begin with the relay's. A
// relay says itself where it is, and could say hundreds: all of them would be the node's. So of
// each relay count the addresses that the configuration names, and few others.

// relaysOf returns by relay the addresses that the configuration names.
func relaysOf(relays []peer.AddrInfo) map[peer.ID][]ma.Multiaddr {
	all := map[peer.ID][]ma.Multiaddr{}
	for _, p := range relays {
		all[p.ID] = append(all[p.ID], p.Addrs...)
	}
	return all
}

// relayOf returns the relay in a relayed address, or "".
func relayOf(m ma.Multiaddr) peer.ID {
	via, _ := ma.SplitFunc(m, func(c ma.Component) bool { return c.Code() == ma.P_CIRCUIT })
	id, err := peer.IDFromP2PAddr(via)
	if err != nil {
		return ""
	}
	return id
}

// Addrs implements peerstore.AddrBook. Of a relay it returns those that the configuration names,
// and one other for each version of IP, with TCP and with QUIC, and for names.
func (b *book) Addrs(p peer.ID) []ma.Multiaddr {
	all := b.Peerstore.Addrs(p)
	named, isRelay := b.relays[p]
	if !isRelay {
		return all
	}
	slices.SortFunc(all, ma.Multiaddr.Compare)
	type form struct {
		named, six, quic bool
	}
	var first, few []ma.Multiaddr
	has := map[form]bool{}
	for _, m := range all {
		if slices.ContainsFunc(named, m.Equal) {
			first = append(first, m)
			continue
		}
		a, ok := addrOf(m)
		_, err := m.ValueForProtocol(ma.P_QUIC_V1)
		if f := (form{named: !ok, six: a.Is6(), quic: err == nil}); !isRelayed(m) && !has[f] {
			has[f], few = true, append(few, m)
		}
	}
	return append(first, few...)
}

// namedFirst moves those addresses to the front at which the configuration names relays.
func (n *Network) namedFirst(all []ma.Multiaddr) []ma.Multiaddr {
	named := relaysOf(n.cfg.Relays)
	rest := func(m ma.Multiaddr) int {
		via, _ := ma.SplitFunc(m, func(c ma.Component) bool { return c.Code() == ma.P_P2P })
		if isRelayed(m) && slices.ContainsFunc(named[relayOf(m)], via.Equal) {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(all, func(a, b ma.Multiaddr) int { return rest(a) - rest(b) })
	return all
}
