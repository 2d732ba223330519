package collections

import (
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"

	"github.com/skerry-sync/skerry/internal/netaddr"
)

// Known returns what tells whether the Host of a request is a name of this server, so that what a
// caller has signed for another server counts for nothing here. Known are the address and port that
// the request came in at, also as localhost, and names: those without a port at all ports.
func Known(names ...string) func(r *http.Request) bool {
	return func(r *http.Request) bool {
		host := strings.ToLower(r.Host)
		plain := strings.TrimSuffix(hostname(host), ".")
		for _, n := range names {
			if n = strings.ToLower(n); n == host || n == plain || strings.Trim(n, "[]") == plain {
				return true
			}
		}
		return isLocal(r, plain)
	}
}

// hostname is a host without its port, and without the brackets of an IPv6 address.
func hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		return name
	}
	return strings.Trim(host, "[]")
}

// isLocal reports whether a request names the address and port that it came in at.
func isLocal(r *http.Request, host string) bool {
	at, _ := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	if at == nil {
		return false
	}
	_, port, err := net.SplitHostPort(r.Host)
	if err != nil {
		port = map[bool]string{false: "80", true: "443"}[r.TLS != nil]
	}
	if port != strconv.Itoa(at.Port) {
		return false
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return at.IP.IsLoopback() && netaddr.LoopbackHost(host)
	}
	own, ok := netip.AddrFromSlice(at.IP)
	return ok && a.Unmap() == own.Unmap()
}

// hosts returns the names of the server that a signature may be for, as browsers write them:
// without the port if that is the usual one.
func (x *exchange) hosts() (all []string) {
	usual := func(host string, tls bool) string {
		port := ":80"
		if tls {
			port = ":443"
		}
		return strings.TrimSuffix(strings.ToLower(host), port)
	}
	o := x.s.opts.Origin
	if o != nil {
		all = append(all, usual(o.Host, o.Scheme == "https"))
	}
	switch {
	case x.s.opts.KnownHost(x.r):
		all = append(all, usual(x.r.Host, x.r.TLS != nil))
	case o == nil && x.s.foreign.CompareAndSwap(false, true):
		x.s.opts.Log.Warn(
			"a signed request names a host that this server is not known by, and is refused; if it is "+
				"one, name it (--host, --origin)",
			"host", x.r.Host,
		)
	}
	return all
}
