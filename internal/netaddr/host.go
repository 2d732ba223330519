package netaddr

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// LoopbackHost reports whether the Host of an HTTP request names this machine: a loopback address,
// localhost, or a name below localhost; each with or without a port.
func LoopbackHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if a, err := netip.ParseAddr(host); err == nil {
		return a.Unmap().IsLoopback()
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// Local returns a handler for a listener at an address. If that is a loopback address, requests
// whose Host names another machine are answered with 421: a web page cannot point a name of its own
// at 127.0.0.1 and read what is served here (DNS rebinding). hosts are further names to answer to,
// without a port, such as those that a proxy on this machine passes on. At any other address Local
// returns h itself: a listener that others can reach does not know all its names.
func Local(at net.Addr, h http.Handler, hosts ...string) http.Handler {
	tcp, ok := at.(*net.TCPAddr)
	if !ok || !tcp.IP.IsLoopback() {
		return h
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !LoopbackHost(r.Host) && !listed(hosts, r.Host) {
			http.Error(w, "unknown Host: this address answers to localhost", http.StatusMisdirectedRequest)
			return
		}
		h.ServeHTTP(w, r)
	})
}

func listed(hosts []string, host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	for _, x := range hosts {
		if strings.EqualFold(strings.Trim(x, "[]"), strings.Trim(host, "[]")) {
			return true
		}
	}
	return false
}
