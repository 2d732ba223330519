package libp2pnet

import (
	"context"
	"net/netip"
	"slices"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// A peer can be named by a host name. Where that leads is known when it is dialled: the resolver
// tells, and what it said last counts as named. What anybody else says of where the peer is does
// not: the table can name any address beside the peer's id.

// maxLed is how many addresses of a host name count.
const maxLed = 32

// led is where a host name led to last.
type led struct {
	at    []netip.AddrPort
	hosts []string // other names, to which a /dnsaddr led
}

// hostOf returns the host name at the beginning of an address, with its kind and port; "" for none.
func hostOf(m ma.Multiaddr) string {
	if len(m) == 0 {
		return ""
	}
	switch m[0].Code() {
	case ma.P_DNSADDR:
		return m[0].String()
	case ma.P_DNS, ma.P_DNS4, ma.P_DNS6:
		name := m[0].String()
		if len(m) > 1 { // the port; TCP and UDP share one, as in a place
			name += "/" + m[1].Value()
		}
		return name
	}
	return ""
}

// leads notes where a host name leads, if some peer is named by it.
func (d *dials) leads(m ma.Multiaddr, to []ma.Multiaddr) {
	host := hostOf(m)
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.follows(host) {
		return
	}
	var now led
	for _, a := range to[:min(len(to), maxLed)] {
		if at, err := placeOf("", a); err == nil {
			now.at = append(now.at, at.at)
		} else if name := hostOf(a); name != "" {
			now.hosts = append(now.hosts, name)
		}
	}
	d.led[host] = now
}

// follows reports whether it matters where a host name leads. The caller holds the lock.
func (d *dials) follows(host string) bool {
	if d.config.names(host) || d.named.names(host) {
		return true
	}
	for _, l := range d.led {
		if slices.Contains(l.hosts, host) {
			return true
		}
	}
	return false
}

// names reports whether any peer is named by a host name.
func (n *names) names(host string) bool {
	for _, hosts := range n.hosts {
		if hosts[host] > 0 {
			return true
		}
	}
	return false
}

// forgetLed forgets where names lead by which nobody is named any more. The caller holds the lock.
func (d *dials) forgetLed() {
	for again := true; again; {
		again = false
		for host := range d.led {
			if !d.follows(host) {
				delete(d.led, host)
				again = true // what it led to
			}
		}
	}
}

// isNamed reports whether a peer is named at an address. The caller holds the lock.
func (d *dials) isNamed(at place) bool {
	for _, n := range []*names{&d.config, &d.named} {
		if n.at[at] > 0 {
			return true
		}
		for host := range n.hosts[at.p] {
			l := d.led[host]
			if slices.Contains(l.at, at.at) || slices.ContainsFunc(l.hosts, func(next string) bool {
				return slices.Contains(d.led[next].at, at.at)
			}) {
				return true
			}
		}
	}
	return false
}

// resolver tells dials where host names lead.
type resolver struct {
	network.MultiaddrDNSResolver
	d *dials
}

// ResolveDNSAddr implements network.MultiaddrDNSResolver.
func (r resolver) ResolveDNSAddr(
	ctx context.Context, p peer.ID, m ma.Multiaddr, depth, most int,
) ([]ma.Multiaddr, error) {
	to, err := r.MultiaddrDNSResolver.ResolveDNSAddr(ctx, p, m, depth, most)
	if err == nil {
		r.d.leads(m, to)
	}
	return to, err
}

// ResolveDNSComponent implements network.MultiaddrDNSResolver.
func (r resolver) ResolveDNSComponent(
	ctx context.Context, m ma.Multiaddr, most int,
) ([]ma.Multiaddr, error) {
	to, err := r.MultiaddrDNSResolver.ResolveDNSComponent(ctx, m, most)
	if err == nil {
		r.d.leads(m, to)
	}
	return to, err
}
