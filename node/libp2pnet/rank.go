package libp2pnet

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/skerry-sync/skerry/node/link"
)

// A ticket has room for few addresses (ticket.MaxAddrs), and a machine with containers has many
// that reach nobody (go-libp2p #1025). So the addresses that others can most likely use come first.

// The ranks of addresses, from the first to the last.
const (
	rankRelay   = iota // works wherever the other is
	rankPublic         // likewise, unless a firewall is between
	rankDefault        // of the interface that leads to the internet: the local network
	rankPrivate        // of other interfaces
	rankBridge         // of containers and virtual machines
	rankLocal          // link-local, which need an interface's name besides
	rankLoopback
)

// ranks knows the interfaces of this machine.
type ranks struct {
	defaults []netip.Addr   // the addresses from which the internet is reached
	bridges  []netip.Prefix // the networks of bridges
	links    []netip.Prefix // the local networks of the other interfaces
}

// ranksKept is how long what was seen of the interfaces serves.
const ranksKept = 10 * time.Second

// knownRanks looks at the interfaces now and then.
type knownRanks struct {
	mu   sync.Mutex
	at   time.Time
	last ranks
}

func (k *knownRanks) now() *ranks {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.at.IsZero() || time.Since(k.at) > ranksKept {
		k.last, k.at = ranksNow(), time.Now()
	}
	last := k.last
	return &last
}

// ranksNow looks at the interfaces as they are now.
func ranksNow() (r ranks) {
	// These addresses are for documentation. Nothing is sent to them.
	for _, far := range []string{"192.0.2.1:9", "[2001:db8::1]:9"} {
		conn, err := net.Dial("udp", far)
		if err != nil {
			continue // no route
		}
		if at, ok := conn.LocalAddr().(*net.UDPAddr); ok {
			r.defaults = append(r.defaults, at.AddrPort().Addr().Unmap().WithZone(""))
		}
		_ = conn.Close() // it has sent nothing
	}
	all, err := net.Interfaces()
	if err != nil {
		return r // then none is known to be a bridge
	}
	for _, i := range all {
		addrs, err := i.Addrs()
		if err != nil {
			continue // it is gone
		}
		for _, a := range addrs {
			p, err := netip.ParsePrefix(a.String())
			switch {
			case err != nil || p.Addr().IsLoopback() || p.Addr().IsLinkLocalUnicast():
			case isBridge(i.Name):
				r.bridges = append(r.bridges, p.Masked())
			default:
				r.links = append(r.links, p.Masked())
			}
		}
	}
	return r
}

// isBridge tells by its name an interface that leads only to containers or virtual machines.
func isBridge(name string) bool {
	return slices.ContainsFunc(
		[]string{
			"docker", "br-", "veth", "virbr", "vmnet", "vboxnet", "cni", "flannel", "podman", "lxc", "lxd",
			"bridge",
		},
		func(prefix string) bool { return strings.HasPrefix(name, prefix) },
	)
}

func (r *ranks) of(a ma.Multiaddr) int {
	if _, err := a.ValueForProtocol(ma.P_CIRCUIT); err == nil {
		return rankRelay
	}
	ip, err := manet.ToIP(a)
	at, ok := netip.AddrFromSlice(ip)
	if err != nil || !ok {
		return rankPublic // a name
	}
	at = at.Unmap()
	switch {
	case at.IsLoopback():
		return rankLoopback
	case at.IsLinkLocalUnicast():
		return rankLocal
	case slices.Contains(r.defaults, at) && !manet.IsPublicAddr(a):
		return rankDefault
	case slices.ContainsFunc(r.bridges, func(p netip.Prefix) bool { return p.Contains(at) }):
		return rankBridge
	case manet.IsPublicAddr(a):
		return rankPublic
	}
	return rankPrivate
}

// order returns addresses in their order: those of bridges and below last, and before them those at
// relays and the direct ones in turn, so that neither takes all the room. Relays also take turns.
// Those of one rank, and of one relay, stay as they are.
func (r *ranks) order(all []ma.Multiaddr) []ma.Multiaddr {
	all = slices.Clone(all)
	slices.SortStableFunc(all, func(a, b ma.Multiaddr) int { return r.of(a) - r.of(b) })
	direct := slices.IndexFunc(all, func(m ma.Multiaddr) bool { return r.of(m) > rankRelay })
	if direct < 0 {
		direct = len(all)
	}
	last := slices.IndexFunc(all, func(m ma.Multiaddr) bool { return r.of(m) >= rankBridge })
	if last < 0 {
		last = len(all)
	}
	return append(link.InTurn(byRelay(all[:direct]), all[direct:last]), all[last:]...)
}

// byRelay returns relayed addresses with those of each relay in turn.
func byRelay(all []ma.Multiaddr) []ma.Multiaddr {
	var of [][]ma.Multiaddr
	at := map[string]int{}
	for _, m := range all {
		id := relayOf(m).String()
		i, again := at[id]
		if !again {
			i = len(of)
			at[id], of = i, append(of, nil)
		}
		of[i] = append(of[i], m)
	}
	return link.InTurn(of...)
}
