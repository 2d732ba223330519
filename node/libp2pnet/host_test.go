package libp2pnet

import (
	"crypto/ed25519"
	"log/slog"
	"net"
	"strconv"
	"testing"

	ma "github.com/multiformats/go-multiaddr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

// A host that cannot listen leaves nothing running, and nothing that keeps its ports: it can be
// made again, with all that a host may have.
func TestHostsThatCannotListen(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	at := strconv.Itoa(taken.Addr().(*net.TCPAddr).Port)
	_, key, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	start := func(set func(*Config)) (*Network, error) {
		cfg := Config{Key: key, Log: slog.New(slog.DiscardHandler),
			Listen: []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/tcp/" + at)}}
		set(&cfg)
		return New(cfg)
	}
	kinds := map[string]func(*Config){
		"plain":   func(*Config) {},
		"relay":   func(c *Config) { c.Relay = true },
		"metrics": func(c *Config) { c.Metrics = prometheus.NewRegistry() },
		"private": func(c *Config) { c.NetworkKey = make([]byte, 32) },
	}
	for name, set := range kinds {
		_, err := start(set)
		require.ErrorContains(t, err, "listen", name)
	}
	require.NoError(t, taken.Close())
	for name, set := range kinds {
		n, err := start(set)
		require.NoError(t, err, name)
		require.NoError(t, n.Close(), name)
		require.NoError(t, n.host.Close(), "closed twice")
	}
}
