package metrics

import (
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/node/libp2pnet"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/seed"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.DiscardHandler)

// measured starts a seed and a device that has met it, and returns what the seed's metrics are.
func measured(t *testing.T) (names map[string]bool, text string) {
	ctx := t.Context()
	registry := NewRegistry()
	reg := seed.NewRegistry(seed.DefaultLimits, nil)
	n, err := node.Open(ctx, node.Config{Dir: t.TempDir(), Host: reg})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	s := seed.New(n, reg, quiet, nil)
	s.Serve(ctx)
	listen, err := ma.NewMultiaddr("/ip4/127.0.0.1/tcp/0")
	require.NoError(t, err)
	network, err := libp2pnet.New(
		libp2pnet.Config{
			Key: n.Key(), Listen: []ma.Multiaddr{listen}, Log: quiet, DHT: libp2pnet.Server,
			Metrics: registry,
		},
	)
	require.NoError(t, err)
	require.NoError(t, n.GoOnline(network))
	registry.MustRegister(NewSeed(s))

	device, err := node.Open(ctx, node.Config{Dir: t.TempDir()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, device.Close()) })
	at, err := peer.AddrInfosFromP2pAddrs(n.Addrs()...)
	require.NoError(t, err)
	network, err = libp2pnet.New(
		libp2pnet.Config{Key: device.Key(), Listen: []ma.Multiaddr{listen}, Log: quiet},
	)
	require.NoError(t, err)
	require.NoError(t, device.GoOnline(network))
	_, err = (seed.Client{Node: device, At: at[0]}).Register(ctx, &seed.Request{Replica: "x"})
	require.Error(t, err)
	r, err := n.CreateReplica(ctx, "r", false)
	require.NoError(t, err)
	author := replica.NewSecretKey()
	_, err = n.Grant(ctx, r.ID, author.Author(), replica.Permission{})
	require.NoError(t, err)
	away := replica.Entry{ // whose content is nowhere
		Replica: r.ID, Author: author.Author(), Timestamp: uint64(time.Now().UnixMicro()),
		Key: []byte("k"), Hash: [32]byte{1}, Size: 1,
	}
	away.Sign(author)
	_, err = n.TakeEntries(ctx, r.ID, []replica.Entry{away}, replica.Origin{})
	require.NoError(t, err)

	l, err := Listen(ctx, registry, n, "0", quiet)
	require.NoError(t, err)
	defer func() { require.NoError(t, l.Close()) }()
	for names = map[string]bool{}; !names["skerry_replicas"]; { // which are counted in the background
		res, err := http.Get(l.URL)
		require.NoError(t, err)
		b, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.Equal(t, http.StatusOK, res.StatusCode)
		text = string(b)
		for line := range strings.Lines(text) {
			if name, ok := strings.CutPrefix(line, "# TYPE "); ok {
				names[strings.Fields(name)[0]] = true
			}
		}
	}
	foreign, err := http.NewRequestWithContext(ctx, http.MethodGet, l.URL, nil)
	require.NoError(t, err)
	foreign.Host = "evil.example"
	res, err := http.DefaultClient.Do(foreign)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.Equal(
		t, http.StatusMisdirectedRequest, res.StatusCode, "a page of another name reads nothing",
	)
	http.DefaultClient.CloseIdleConnections()
	return names, text
}

// Every metric that the dashboard shows is one that a seed has, and every one of ours is shown; so
// that renaming one does not leave a panel empty for good.
func TestDashboardShowsWhatThereIs(t *testing.T) {
	names, text := measured(t)
	for _, line := range []string{
		"skerry_replicas 1", "skerry_entries 1", "skerry_wanted_content 1",
		`skerry_peers{transport="tcp"} 1`,
		`skerry_seed_requests_total{code="INVALID_REQUEST",op="register"} 1`,
		`skerry_seed_registrations{state="kept"} 0`, `skerry_blobs{state="complete"} 0`, `skerry_verification_failures_total{what="content"} 0`,
	} {
		require.True(t, strings.Contains(text, "\n"+line+"\n"), line)
	}
	require.True(t, slices.ContainsFunc(slices.Collect(maps.Keys(names)), func(s string) bool {
		return strings.HasPrefix(s, "libp2p_")
	}), "and those of the network")

	b, err := os.ReadFile("../deploy/grafana.json")
	require.NoError(t, err)
	var dashboard struct {
		Panels []struct {
			ID      int
			Type    string
			Title   string
			GridPos struct{ H, W, X, Y int }
			Targets []struct{ Expr string }
		}
	}
	require.NoError(t, json.Unmarshal(b, &dashboard))
	shown, ids := map[string]bool{}, map[int]bool{}
	metric := regexp.MustCompile(`\b(skerry|go|process)_[a-z_]+`)
	for _, p := range dashboard.Panels {
		require.False(t, ids[p.ID], "panel ids are unique")
		ids[p.ID] = true
		require.NotEmpty(t, p.Title)
		require.LessOrEqual(t, p.GridPos.X+p.GridPos.W, 24)
		require.True(t, p.Type == "row" || len(p.Targets) > 0, p.Title)
		for _, x := range p.Targets {
			found := metric.FindAllString(x.Expr, -1)
			require.NotEmpty(t, found, x.Expr)
			for _, name := range found {
				require.True(t, names[name], "%s: there is no metric %s", p.Title, name)
				shown[name] = true
			}
		}
	}
	for name := range names {
		if strings.HasPrefix(name, "skerry_") {
			require.True(t, shown[name], "the dashboard does not show %s", name)
		}
	}
}

func TestListenErrors(t *testing.T) {
	n, err := node.Open(t.Context(), node.Config{Dir: t.TempDir()})
	require.NoError(t, err)
	defer func() { require.NoError(t, n.Close()) }()
	for _, addr := range []string{"a:b:c", "127.0.0.1:99999", "192.0.2.1:0"} {
		_, err := Listen(t.Context(), NewRegistry(), n, addr, quiet)
		require.ErrorContains(t, err, "metrics", addr)
	}
}
