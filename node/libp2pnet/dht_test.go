package libp2pnet

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/pnet"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/node/link"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var silent = slog.New(slog.DiscardHandler)

func newKey(t *testing.T) (ed25519.PublicKey, ed25519.PrivateKey) {
	t.Helper()
	pub, key, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	return pub, key
}

func startWith(t *testing.T, cfg Config) *Network {
	t.Helper()
	if cfg.Key == nil {
		_, cfg.Key = newKey(t)
	}
	if cfg.Listen == nil {
		listen, err := ma.NewMultiaddr("/ip4/127.0.0.1/tcp/0")
		require.NoError(t, err)
		cfg.Listen = []ma.Multiaddr{listen}
	}
	cfg.Log = silent
	n, err := New(cfg)
	require.NoError(t, err)
	require.NoError(t, n.Start(func(peer.ID, bool) {}))
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	return n
}

func (n *Network) info(t *testing.T) peer.AddrInfo {
	t.Helper()
	all, err := peer.AddrInfosFromP2pAddrs(n.Addrs()...)
	require.NoError(t, err)
	return all[0]
}

// What one node announces another finds, though the two know only the same third one, one of those
// to begin with is down, and the first has moved since.
func TestTable(t *testing.T) {
	ctx := t.Context()
	none, err := peer.AddrInfoFromString(
		"/ip4/127.0.0.1/tcp/1/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN",
	)
	require.NoError(t, err)
	first := startWith(t, Config{DHT: Server})
	begin := []peer.AddrInfo{*none, first.info(t)}
	holder := startWith(t, Config{DHT: Server, Bootstrap: begin})
	looking := startWith(t, Config{DHT: Client, Bootstrap: begin})
	key := [32]byte{1, 2, 3}
	require.NoError(t, holder.Announce(ctx, key))
	var found []peer.AddrInfo
	require.Eventually(t, func() bool { // nobody says that an announcement has been taken
		found, err = looking.Find(ctx, key)
		require.NoError(t, err)
		return len(found) > 0
	}, 30*time.Second, 10*time.Millisecond)
	require.Equal(t, []peer.AddrInfo{holder.info(t)}, found)
	found, err = looking.Find(ctx, [32]byte{4})
	require.NoError(t, err)
	require.Empty(t, found)

	// Somebody remembers it at an address that it does not have any more.
	require.NoError(
		t, looking.Connect(ctx, peer.AddrInfo{ID: holder.ID(), Addrs: none.Addrs}),
		"the table knows where it is",
	)

	known, serves := looking.TableSize()
	require.False(t, serves)
	require.Positive(t, known)
	_, serves = holder.TableSize()
	require.True(t, serves)
	alone := startWith(t, Config{DHT: Server})
	require.ErrorIs(t, alone.Announce(ctx, key), link.ErrNoTable)
	_, err = startWith(t, Config{}).Find(ctx, key)
	require.ErrorIs(t, err, link.ErrNoTable)
}

// All that are to be known from the start are down: the node works, and meets them when they come.
func TestBootstrapDown(t *testing.T) {
	_, key := newKey(t)
	away, err := New(Config{Key: key, Listen: loopback(t), Log: silent})
	require.NoError(t, err)
	at := away.info(t)
	require.NoError(t, away.Close())
	n := startWith(t, Config{DHT: Server, Bootstrap: []peer.AddrInfo{at}})
	other := startWith(t, Config{})
	require.NoError(t, n.Connect(t.Context(), other.info(t)))
	_, err = n.Find(t.Context(), [32]byte{1})
	require.ErrorIs(t, err, link.ErrNoTable)
	startWith(t, Config{Key: key, Listen: at.Addrs, DHT: Server})
	require.Eventually(t, func() bool {
		known, _ := n.TableSize()
		return known == 1
	}, 30*time.Second, 10*time.Millisecond)
}

func loopback(t *testing.T) []ma.Multiaddr {
	a, err := ma.NewMultiaddr("/ip4/127.0.0.1/tcp/0")
	require.NoError(t, err)
	return []ma.Multiaddr{a}
}

// In a private network only those are met that have its key.
func TestPrivateNetwork(t *testing.T) {
	ours, theirs := make(pnet.PSK, 32), make(pnet.PSK, 32)
	ours[0], theirs[0] = 1, 2
	a, b := startWith(t, Config{NetworkKey: ours}), startWith(t, Config{NetworkKey: ours})
	require.NoError(t, a.Connect(t.Context(), b.info(t)))
	for _, key := range []pnet.PSK{theirs, nil} {
		other := startWith(t, Config{NetworkKey: key})
		require.Error(t, other.Connect(t.Context(), b.info(t)))
		require.Error(t, b.Connect(t.Context(), other.info(t)))
	}
}

func TestAllowAndDeny(t *testing.T) {
	who := func(text string) Who {
		w, err := ParseWho(text)
		require.NoError(t, err)
		return w
	}
	a, b := startWith(t, Config{}), startWith(t, Config{})
	for name, x := range map[string]struct {
		cfg Config
		ok  bool // for a; b never
	}{
		"only a": {Config{Allow: []Who{{Peer: a.ID()}}}, true},
		"not b":  {Config{Deny: []Who{{Peer: b.ID()}}}, true},
		"a is meant": {Config{
			Allow: []Who{who("192.0.2.1")}, Bootstrap: []peer.AddrInfo{a.info(t)},
		}, true},
		"not from here":   {Config{Deny: []Who{who("127.0.0.0/8")}}, false},
		"others only":     {Config{Allow: []Who{who("192.0.2.0/24"), who("2001:db8::1")}}, false},
		"nothing private": {Config{PublicOnly: true, Deny: []Who{{Peer: a.ID()}, {Peer: b.ID()}}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			n := startWith(t, x.cfg)
			in := func(from *Network) bool {
				if from.Connect(t.Context(), n.info(t)) != nil {
					return false
				}
				// The one that dials may think that it is connected before the other has refused.
				there := false
				require.Eventually(t, func() bool {
					there = n.Connected(from.ID())
					return there || !from.Connected(n.ID())
				}, 30*time.Second, time.Millisecond)
				return there
			}
			require.Equal(t, x.ok, in(a))
			if name != "not b" && x.ok || !x.ok {
				require.False(t, in(b))
			}
			require.Equal(t, x.ok, n.Connect(t.Context(), a.info(t)) == nil)
			require.Error(t, n.Connect(t.Context(), b.info(t)))
		})
	}
	public := startWith(t, Config{PublicOnly: true})
	require.Error(t, public.Connect(t.Context(), a.info(t)))
	require.NoError(t, a.Connect(t.Context(), public.info(t)), "it may be called")
	for _, text := range []string{"", "x", "1.2.3", "192.0.2.0/33", "12D3KooW"} {
		_, err := ParseWho(text)
		require.Error(t, err, text)
	}
}

// Whatever is claimed, by however many, what is kept stays within bounds; and the claims of one do
// not displace those of all others.
func TestClaimsAreBounded(t *testing.T) {
	testkit.OneGoroutine(t)
	ctx := context.Background()
	now := time.Unix(1e9, 0)
	c := newClaims(startWith(t, Config{}).host, func() time.Time { return now })
	claim := func(key string, p peer.ID) {
		require.NoError(t, c.AddProvider(ctx, []byte(key), peer.AddrInfo{ID: p}))
	}
	of := func(key string) (out []peer.ID) {
		all, err := c.GetProviders(ctx, []byte(key))
		require.NoError(t, err)
		for _, p := range all {
			out = append(out, p.ID)
		}
		return out
	}
	claim("mine", "honest")
	for i := range 2 * maxEachPeer {
		claim(fmt.Sprint("flood", i), "one")
	}
	require.Equal(t, maxEachPeer+1, c.size())
	require.Equal(t, []peer.ID{"honest"}, of("mine"))
	for i := range 2 * maxEachKey {
		now = now.Add(time.Second)
		claim("wanted", peer.ID(fmt.Sprint("liar", i)))
	}
	require.Len(t, of("wanted"), maxEachKey)
	require.Contains(t, of("wanted"), peer.ID(fmt.Sprint("liar", 2*maxEachKey-1)), "the newest stay")
	for i := range 2 * maxKeys {
		claim(fmt.Sprint("many", i), peer.ID(fmt.Sprint("of", i/maxEachPeer)))
	}
	require.LessOrEqual(t, c.size(), maxKeys)
	claim("late", "honest")
	require.Equal(t, []peer.ID{"honest"}, of("late"))
	now = now.Add(claimLifetime + time.Second)
	require.Empty(t, of("late"))
	require.Empty(t, of("wanted"))
	count := 0
	for _, x := range c.count {
		count += x
	}
	total := 0
	for _, x := range c.keys {
		total += len(x)
	}
	require.Equal(t, total, count)
}
