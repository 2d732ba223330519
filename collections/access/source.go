package access

import (
	"context"
	"net/netip"

	"github.com/skerry-sync/skerry/internal/netaddr"
)

type sourceKey struct{}

// WithSource returns a context for a request that comes from an IP address, in text: the address of
// the caller, not of a proxy.
func WithSource(ctx context.Context, address string) context.Context {
	return context.WithValue(ctx, sourceKey{}, Source(address))
}

// Source names all that one party can easily send requests from: an IPv4 address, or the IPv6
// network of 56 bits that an address is in. It is "" for a loopback address, behind which a proxy
// may hide everybody, and for what is no address.
func Source(address string) string {
	a, err := netip.ParseAddr(address)
	if err != nil || a.Unmap().IsLoopback() {
		return ""
	}
	return netaddr.Network(a).String()
}

// Network names what a large customer of a provider has: of an address or a Source, the IPv4
// network of 16 bits or the IPv6 network of 32. It is "" for what is neither.
func Network(source string) string {
	prefix, err := netip.ParsePrefix(source)
	if a, bad := netip.ParseAddr(source); bad == nil {
		prefix, err = netip.PrefixFrom(a, a.BitLen()), nil
	}
	if err != nil {
		return ""
	}
	a, bits := prefix.Addr().Unmap(), 32
	if a.Is4() {
		bits = 16
	}
	wide, err := a.WithZone("").Prefix(bits)
	if err != nil {
		return ""
	}
	return wide.String()
}

// SourceOf returns the source of WithSource, or "" if there is none.
func SourceOf(ctx context.Context) string {
	s, _ := ctx.Value(sourceKey{}).(string)
	return s
}
