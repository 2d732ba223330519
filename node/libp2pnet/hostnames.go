package libp2pnet

import (
	"context"
	"maps"
	"net/netip"
	"slices"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// A peer can be named by a host name. Where that leads is known when it is dialled: the resolver
// tells, and what it said last counts as named. Addresses from anybody else do not count: the hash
// table can claim any.

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
	if !d.followed()[host] {
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
	d.forgetLed() // what it led to before
}

// followed returns the host names of which it matters where they lead, as isNamed looks: those by
// which peers are named, and those to which these lead. The caller holds the lock.
func (d *dials) followed() map[string]bool {
	all := map[string]bool{}
	for _, n := range []*names{&d.config, &d.named} {
		for _, hosts := range n.hosts {
			for host := range hosts {
				all[host] = true
				for _, next := range d.led[host].hosts {
					all[next] = true
				}
			}
		}
	}
	return all
}

// forgetLed forgets where names lead that are not followed any more. The caller holds the lock.
func (d *dials) forgetLed() {
	all := d.followed()
	maps.DeleteFunc(d.led, func(host string, _ led) bool { return !all[host] })
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
