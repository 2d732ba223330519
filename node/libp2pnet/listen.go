package libp2pnet

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	ma "github.com/multiformats/go-multiaddr"
)

const portFile = "port"

// DefaultListen returns the addresses to listen at unless others are asked for: all interfaces, TCP
// and QUIC, IPv4 and IPv6, on one port that is chosen once and kept in the data directory, so that
// tickets stay good over restarts. If somebody else has the port now, the system chooses others for
// this time.
func DefaultListen(dir string) ([]ma.Multiaddr, error) {
	name := filepath.Join(dir, portFile)
	b, err := os.ReadFile(name)
	port := 0
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if port, err = freePort(0); err != nil {
			return nil, fmt.Errorf("choose a port: %w", err)
		}
		if err := os.WriteFile(name, fmt.Appendln(nil, port), 0o600); err != nil {
			return nil, fmt.Errorf("keep the port: %w", err)
		}
	case err != nil:
		return nil, err
	default:
		if port, err = strconv.Atoi(strings.TrimSpace(string(b))); err != nil || port < 1 ||
			port > 65535 {
			return nil, fmt.Errorf("%s: not a port: %q", name, b)
		}
		if _, err := freePort(port); err != nil {
			port = 0
		}
	}
	var out []ma.Multiaddr
	for _, format := range []string{
		"/ip4/0.0.0.0/tcp/%d", "/ip6/::/tcp/%d", "/ip4/0.0.0.0/udp/%d/quic-v1", "/ip6/::/udp/%d/quic-v1",
	} {
		a, err := ma.NewMultiaddr(fmt.Sprintf(format, port))
		if err != nil {
			return nil, err
		}
		out = append(out, a)
	}
	return out, nil
}

// freePort returns port, or any if it is 0, if nobody listens there for TCP or UDP.
func freePort(port int) (int, error) {
	t, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
	if err != nil {
		return 0, err
	}
	port = t.Addr().(*net.TCPAddr).Port
	u, err := net.ListenPacket("udp", fmt.Sprintf(":%d", port))
	if err != nil {
		return 0, errors.Join(err, t.Close())
	}
	return port, errors.Join(t.Close(), u.Close())
}
