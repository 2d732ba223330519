// Package netaddr judges IP addresses that strangers name: whether an address is one of the public
// internet, and which IPv4 address is meant by an IPv6 address that embeds one.
//
// What belongs here: the special-purpose registries of IANA (RFC 6890) as a predicate, and the host
// names that a loopback listener answers to, and where redirects may lead. What never belongs here:
// dialling, and multiaddrs.
package netaddr

import (
	"net/netip"
	"slices"
)

func prefixes(texts ...string) (all []netip.Prefix) {
	for _, text := range texts {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}

var (
	// special4 holds the IPv4 networks that are not part of the public internet.
	special4 = prefixes(
		"0.0.0.0/8",       // this network; 0.0.0.0 dials this machine
		"10.0.0.0/8",      // private use
		"100.64.0.0/10",   // behind a carrier's NAT
		"127.0.0.0/8",     // loopback
		"169.254.0.0/16",  // link-local, and the metadata services of clouds
		"172.16.0.0/12",   // private use
		"192.0.0.0/24",    // protocol assignments
		"192.0.2.0/24",    // documentation
		"192.88.99.0/24",  // relays of 6to4, deprecated
		"192.168.0.0/16",  // private use
		"198.18.0.0/15",   // benchmarking
		"198.51.100.0/24", // documentation
		"203.0.113.0/24",  // documentation
		"224.0.0.0/4",     // multicast
		"240.0.0.0/4",     // reserved, and limited broadcast
	)
	// global6 holds all global unicast addresses that have been given out.
	global6 = netip.MustParsePrefix("2000::/3")
	// special6 holds the networks within global6 that are not part of the public internet.
	special6 = prefixes(
		"2001::/23",     // protocol assignments: Teredo, benchmarking, ORCHID
		"2001:db8::/32", // documentation
		"2002::/16",     // 6to4: a tunnel to the IPv4 address inside
		"3fff::/20",     // documentation
	)
	// nat64 is the well-known prefix: a translator sends to the IPv4 address in the last 32 bits.
	nat64 = netip.MustParsePrefix("64:ff9b::/96")
	// lastBits holds the prefixes whose addresses carry an IPv4 address in their last 32 bits.
	lastBits = append(prefixes(
		"::/96",             // IPv4-compatible, deprecated; :: and ::1 are none
		"::ffff:0:0:0/96",   // IPv4-translated (RFC 7915)
		"64:ff9b:1::/48",    // local NAT64 (RFC 8215), with a suffix of 96 bits
		"::ffff:0.0.0.0/96", // IPv4-mapped
	), nat64)
	sixToFour = netip.MustParsePrefix("2002::/16")
	teredo    = netip.MustParsePrefix("2001::/32")
)

func in(all []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(all, func(p netip.Prefix) bool { return p.Contains(a) })
}

// Embedded returns the IPv4 address that an IPv6 address stands for: IPv4-mapped, IPv4-compatible,
// IPv4-translated, NAT64 with a well-known prefix, 6to4, Teredo and ISATAP. ok is false for IPv4
// addresses, and for IPv6 addresses that carry none.
func Embedded(a netip.Addr) (v4 netip.Addr, ok bool) {
	if !a.Is6() {
		return netip.Addr{}, false
	}
	a = a.WithZone("")
	b := a.As16()
	last := netip.AddrFrom4([4]byte(b[12:]))
	switch {
	case a.Is4In6():
		return last, true
	case a.IsUnspecified() || a.IsLoopback():
		return netip.Addr{}, false
	case in(lastBits, a):
		return last, true
	case sixToFour.Contains(a):
		return netip.AddrFrom4([4]byte(b[2:6])), true
	case teredo.Contains(a):
		return netip.AddrFrom4([4]byte{^b[12], ^b[13], ^b[14], ^b[15]}), true
	case b[8]&^2 == 0 && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe: // ISATAP (RFC 5214)
		return last, true
	}
	return netip.Addr{}, false
}

// Public reports whether an address is one of the public internet, so that a node that only dials
// public addresses may dial it. An IPv4-mapped or NAT64 address is as public as the IPv4 address
// inside; no other form that embeds an IPv4 address is public, nor is one with a zone.
func Public(a netip.Addr) bool {
	switch {
	case !a.IsValid() || a.Zone() != "":
		return false
	case a.Is4():
		return !in(special4, a)
	case a.Is4In6():
		return Public(a.Unmap())
	}
	v4, embeds := Embedded(a)
	if nat64.Contains(a) {
		return Public(v4)
	}
	return !embeds && global6.Contains(a) && !in(special6, a)
}
