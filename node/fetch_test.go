package node_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/directory"
	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/node/content"
	"github.com/skerry-sync/skerry/node/libp2pnet"
	"github.com/skerry-sync/skerry/node/limits"
	"github.com/skerry-sync/skerry/node/link"
)

// startWith is start with limits.
func startWith(t testing.TB, limits limits.Config) *node.Node {
	t.Helper()
	n, err := node.Open(
		t.Context(), node.Config{Dir: t.TempDir(), SyncInterval: 2 * time.Second, Limits: limits},
	)
	require.NoError(t, err)
	net, err := libp2pnet.New(
		libp2pnet.Config{Key: n.Key(), Listen: loopback(t), Log: slog.New(slog.DiscardHandler)},
	)
	require.NoError(t, err)
	require.NoError(t, n.GoOnline(net))
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	return n
}

func infosOf(t testing.TB, nodes ...*node.Node) (out []peer.AddrInfo) {
	for _, n := range nodes {
		out = append(out, infoOf(t, n)...)
	}
	return out
}

func requireContent(t testing.TB, n *node.Node, h blobs.Hash, want []byte) {
	t.Helper()
	got, err := n.Blobs().ReadAll(t.Context(), h, uint64(len(want)))
	require.NoError(t, err)
	require.True(t, bytes.Equal(want, got))
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T { require.NoError(t, err); return v }
}

// The ranges of one blob come from all providers that have it, and none of them twice.
func TestSeveralProvidersShareOneBlob(t *testing.T) {
	ctx := t.Context()
	data := testkit.Random(1, 48<<20)
	var providers []*node.Node
	var hash blobs.Hash
	for range 3 {
		// slow enough that no one of them does it alone
		p := startWith(t, limits.Config{Upload: 40 << 20})
		info, err := p.Blobs().ImportBytes(ctx, data)
		require.NoError(t, err)
		hash = info.Hash
		providers = append(providers, p)
	}
	b, _ := start(t, t.TempDir())
	c, err := b.Get(ctx, hash, content.Raw, infosOf(t, providers...), nil)
	require.NoError(t, err)
	require.Len(t, c.Fetched.Providers, 3, "all gave some")
	if !node.RaceDetector { // with it, providers are so slow that others take over what they owe
		require.Less(
			t, c.Fetched.Bytes, uint64(len(data)+8<<20), "little is fetched twice, at the very end",
		)
	}
	requireContent(t, b, hash, data)
}

// A provider that is much slower than another does not hold up the end: what it owes is taken over.
func TestSlowProviderLosesWork(t *testing.T) {
	ctx := t.Context()
	data := testkit.Random(2, testkit.Few(24, 6)<<20)
	// The slow one gives no more than a first 64 KiB.
	slow, fast := startWith(t, limits.Config{Upload: 1}), startWith(t, limits.Config{})
	var hash blobs.Hash
	for _, p := range []*node.Node{slow, fast} {
		info, err := p.Blobs().ImportBytes(ctx, data)
		require.NoError(t, err)
		hash = info.Hash
	}
	b, _ := start(t, t.TempDir())
	// Sooner than a provider that sends nothing would be given up.
	limited, cancel := context.WithTimeout(ctx, 25*time.Second)
	defer cancel()
	_, err := b.Get(limited, hash, content.Raw, infosOf(t, slow, fast), nil)
	require.NoError(t, err)
	requireContent(t, b, hash, data)
}

// What a provider owes that vanishes in the middle goes back, and comes from another.
func TestVanishedProvider(t *testing.T) {
	ctx := t.Context()
	data := testkit.Random(3, 32<<20)
	gone, stopGone := start(t, t.TempDir())
	stays := startWith(t, limits.Config{Upload: 60 << 20})
	info, err := gone.Blobs().ImportBytes(ctx, data)
	require.NoError(t, err)
	_, err = stays.Blobs().ImportBytes(ctx, data)
	require.NoError(t, err)
	b, _ := start(t, t.TempDir())
	var once sync.Once
	var stopped sync.WaitGroup
	_, err = b.Get(ctx, info.Hash, content.Raw, infosOf(t, gone, stays), func(p content.GetProgress) {
		if p.Fetched > 4<<20 {
			once.Do(func() { stopped.Go(stopGone) })
		}
	})
	stopped.Wait()
	require.NoError(t, err)
	requireContent(t, b, info.Hash, data)
}

// Providers that each have only a part are enough, if together they have all.
func TestPartialProvidersTogether(t *testing.T) {
	ctx := t.Context()
	data := testkit.Random(4, 8<<20)
	origin, _ := start(t, t.TempDir())
	info, err := origin.Blobs().ImportBytes(ctx, data)
	require.NoError(t, err)
	var parts []*node.Node
	for i := range uint64(2) {
		p, _ := start(t, t.TempDir())
		_, err := p.FetchPart(
			ctx, info.Hash, blobs.Ranges{{Start: i * 4 << 20, End: (i + 1) * 4 << 20}}, nil,
			infoOf(t, origin), nil,
		)
		require.NoError(t, err)
		st, err := p.Blobs().Stat(ctx, info.Hash)
		require.NoError(t, err)
		require.False(t, st.Complete)
		parts = append(parts, p)
	}
	b, _ := start(t, t.TempDir())
	_, err = b.Get(ctx, info.Hash, content.Raw, infosOf(t, parts...), nil)
	require.NoError(t, err)
	requireContent(t, b, info.Hash, data)

	// One alone is not: what is missing is said.
	c, _ := start(t, t.TempDir())
	_, err = c.Get(ctx, info.Hash, content.Raw, infosOf(t, parts[0]), nil)
	var missing *content.MissingError
	require.ErrorAs(t, err, &missing)
}

// Likewise of many small blobs: each has its proof from one, and the rest from the other.
func TestPartialProvidersOfSmallBlobs(t *testing.T) {
	ctx := t.Context()
	origin, _ := start(t, t.TempDir())
	half, _ := start(t, t.TempDir())
	var wants []content.Want
	var contents [][]byte
	for i := range 40 {
		data := testkit.Random(byte(i), 300_000+i)
		info, err := origin.Blobs().ImportBytes(ctx, data)
		require.NoError(t, err)
		_, err = half.FetchPart(
			ctx, info.Hash, blobs.Ranges{{Start: 0, End: 100_000}}, nil, infoOf(t, origin), nil,
		)
		require.NoError(t, err)
		wants, contents = append(wants, content.Want{Hash: info.Hash}), append(contents, data)
	}
	b, _ := start(t, t.TempDir())
	_, err := b.Fetch(ctx, wants, infosOf(t, half, origin), nil)
	require.NoError(t, err)
	for i, w := range wants {
		requireContent(t, b, w.Hash, contents[i])
	}
}

// The children of a directory come from several providers.
func TestSeveralProvidersShareADirectory(t *testing.T) {
	ctx := t.Context()
	dir := filepath.Join(t.TempDir(), "in")
	require.NoError(t, os.MkdirAll(dir, 0o755))
	for i := range 300 {
		require.NoError(
			t, os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), testkit.Random(byte(i), 100_000+i), 0o644),
		)
	}
	var hash blobs.Hash
	var providers []*node.Node
	for range 2 {
		p := startWith(t, limits.Config{Upload: 20 << 20})
		info, err := directory.Import(ctx, p.Blobs(), dir, directory.ImportOptions{})
		require.NoError(t, err)
		hash = info.Hash
		providers = append(providers, p)
	}
	b, _ := start(t, t.TempDir())
	c, err := b.Get(ctx, hash, content.Sequence, infosOf(t, providers...), nil)
	require.NoError(t, err)
	require.Len(t, c.Fetched.Providers, 2)
	out := filepath.Join(t.TempDir(), "out")
	require.NoError(t, b.Export(ctx, &c, out, nil))
	for i := range 300 {
		got, err := os.ReadFile(filepath.Join(out, fmt.Sprint(i)))
		require.NoError(t, err)
		require.True(t, bytes.Equal(testkit.Random(byte(i), 100_000+i), got))
	}
}

// A peer that has lied is remembered, also after a restart, and asked only when nobody else can
// help.
func TestLiarIsRemembered(t *testing.T) {
	ctx := t.Context()
	honest, _ := start(t, t.TempDir())
	info, err := honest.Blobs().ImportBytes(ctx, []byte("the true content"))
	require.NoError(t, err)
	liar := stranger(t)
	var asked atomic.Int32
	liar.Handle("/skerry/blobs/2", func(s link.Stream) {
		asked.Add(1)
		readBlobRequest(s)
		_, _ = s.Write(append([]byte{0, 16, 0}, "the wrong content"[:16]...))
		_ = s.Close()
	})
	liarInfo := *must(peer.AddrInfoFromP2pAddr(liar.Addrs()[0]))(t)
	dir := t.TempDir()
	b, stop := start(t, dir)
	_, err = b.Get(ctx, info.Hash, content.Raw, []peer.AddrInfo{liarInfo}, nil)
	var corrupt *blobs.CorruptError
	require.ErrorAs(t, err, &corrupt)
	before := asked.Load()
	require.Positive(t, before)
	stop()
	b, _ = start(t, dir)
	_, err = b.Get(
		ctx, info.Hash, content.Raw, append([]peer.AddrInfo{liarInfo}, infoOf(t, honest)...), nil,
	)
	require.NoError(t, err)
	require.Equal(t, before, asked.Load(), "the liar is not asked again")
	_, err = b.Get(ctx, blobs.HashOf([]byte("other")), content.Raw, []peer.AddrInfo{liarInfo}, nil)
	require.Error(t, err)
	require.Greater(t, asked.Load(), before, "unless nobody else is there")
}
