package netaddr

import (
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

// The rows are those of the IANA special-purpose registries for IPv4 and IPv6 (RFC 6890), first and
// last address of each block, and the forms in which an IPv6 address carries an IPv4 address.
func TestPublic(t *testing.T) {
	for _, tt := range []struct {
		name   string
		public bool
		addrs  []string
	}{
		{"public IPv4", true, []string{
			"1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "128.0.0.1",
			"169.253.255.255", "172.15.255.255", "172.32.0.0", "192.167.255.255", "198.17.255.255",
			"198.20.0.0", "223.255.255.255",
		}},
		{"this network", false, []string{"0.0.0.0", "0.255.255.255"}},
		{"private use", false, []string{"10.0.0.0", "10.255.255.255", "172.16.0.0", "172.31.255.255",
			"192.168.0.0", "192.168.255.255"}},
		{"a carrier's NAT", false, []string{"100.64.0.0", "100.127.255.255"}},
		{"loopback", false, []string{"127.0.0.1", "127.255.255.255", "::1"}},
		{"link-local", false, []string{
			"169.254.0.0", "169.254.169.254", "fe80::1", "febf::1", "fe80::1%eth0",
		}},
		{"protocol assignments", false, []string{"192.0.0.0", "192.0.0.170", "192.0.0.255", "2001:1::1",
			"2001:10::1", "2001:20::1", "2001:1ff:ffff::1"}},
		{"documentation", false, []string{
			"192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "3fff::1", "3fff:fff:ffff::1",
		}},
		{"relays of 6to4", false, []string{"192.88.99.1"}},
		{"benchmarking", false, []string{"198.18.0.0", "198.19.255.255", "2001:2::1"}},
		{"multicast", false, []string{"224.0.0.1", "239.255.255.255", "ff02::1", "ff0e::1"}},
		{"reserved and broadcast", false, []string{"240.0.0.0", "255.255.255.254", "255.255.255.255"}},
		{"public IPv6", true, []string{"2001:200::1", "2001:4860:4860::8888", "2003::1", "2a00::1",
			"2606:4700::1111", "3ffe::1"}},
		{"unspecified IPv6", false, []string{"::"}},
		{"unique local", false, []string{"fc00::1", "fdff::1"}},
		{"site-local, discard, segment routing, unassigned", false, []string{
			"fec0::1", "100::1", "5f00::1", "4000::1", "8000::1",
		}},
		{"IPv4-mapped private", false, []string{"::ffff:10.0.0.1", "::ffff:127.0.0.1", "::ffff:0.0.0.0",
			"::ffff:169.254.169.254"}},
		{"IPv4-mapped public", true, []string{"::ffff:1.1.1.1"}},
		{"IPv4-compatible", false, []string{"::10.0.0.1", "::127.0.0.1", "::1.1.1.1"}},
		{"IPv4-translated", false, []string{"::ffff:0:10.0.0.1", "::ffff:0:1.1.1.1"}},
		{"NAT64 private", false, []string{"64:ff9b::10.0.0.1", "64:ff9b::127.0.0.1", "64:ff9b::0.0.0.0"}},
		{"NAT64 public", true, []string{"64:ff9b::1.1.1.1"}},
		{"local NAT64", false, []string{
			"64:ff9b:1::10.0.0.1", "64:ff9b:1::1.1.1.1", "64:ff9b:1:ffff::1",
		}},
		{"6to4", false, []string{"2002:a00:1::1", "2002:7f00:1::1", "2002:101:101::1"}},
		{"Teredo", false, []string{"2001::1", "2001:0:101:101::f5ff:fffe"}},
		{"ISATAP", false, []string{"2a00::5efe:10.0.0.1", "2a00::200:5efe:1.1.1.1"}},
	} {
		for _, text := range tt.addrs {
			require.Equal(t, tt.public, Public(netip.MustParseAddr(text)), "%s: %s", tt.name, text)
		}
	}
	require.False(t, Public(netip.Addr{}))
}

func TestEmbedded(t *testing.T) {
	for text, want := range map[string]string{
		"::ffff:10.0.0.1": "10.0.0.1", "::10.0.0.1": "10.0.0.1", "::ffff:0:10.0.0.1": "10.0.0.1",
		"64:ff9b::10.0.0.1": "10.0.0.1", "64:ff9b:1::10.0.0.1": "10.0.0.1", "2002:a00:1::7": "10.0.0.1",
		"2001:0:101:101::f5ff:fffe": "10.0.0.1", "2a00::5efe:10.0.0.1": "10.0.0.1",
		"::ffff:10.0.0.1%eth0": "10.0.0.1",
		"10.0.0.1":             "", "::": "", "::1": "", "2a00::1": "", "fe80::1": "",
	} {
		got, ok := Embedded(netip.MustParseAddr(text))
		require.Equal(t, want != "", ok, text)
		if ok {
			require.Equal(t, want, got.String(), text)
		}
	}
}

func TestLoopbackHost(t *testing.T) {
	for _, host := range []string{
		"localhost", "LOCALHOST:80", "localhost.", "a.localhost:1", "127.0.0.1", "127.9.9.9:80", "[::1]",
		"[::1]:80", "::1", "[::ffff:127.0.0.1]:80",
	} {
		require.True(t, LoopbackHost(host), host)
	}
	for _, host := range []string{
		"", "evil.example", "localhost.evil.example", "evil-localhost", "10.0.0.1:80", "[::2]:80",
		"0.0.0.0", "127.0.0.1.evil.example", "2130706433", "0x7f.1",
	} {
		require.False(t, LoopbackHost(host), host)
	}
}

// A page of another name that is made to point at a loopback listener reads nothing.
func TestLocalRefusesForeignHosts(t *testing.T) {
	served := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusOK)
	})
	ask := func(h http.Handler, host string) int {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Host = host
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code
	}
	for _, ip := range []string{"127.0.0.1", "::1", "::ffff:127.0.0.2"} {
		h := Local(&net.TCPAddr{IP: net.ParseIP(ip), Port: 80}, served, "sync.example", "[2a00::1]")
		require.Equal(t, 200, ask(h, "localhost:80"))
		require.Equal(t, 200, ask(h, "Sync.Example:443"), "a proxy passes this name on")
		require.Equal(t, 200, ask(h, "[2a00::1]"))
		for _, host := range []string{
			"evil.example", "evil.example:80", "", "sync.example.evil.example",
		} {
			require.Equal(t, 421, ask(h, host), host)
		}
	}
	open := Local(&net.TCPAddr{IP: net.IPv4zero, Port: 80}, served)
	require.Equal(
		t, 200, ask(open, "sync.example"), "a listener that others reach has names it does not know",
	)
}
