package node_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
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
	"github.com/skerry-sync/skerry/blobs/chunked"
	"github.com/skerry-sync/skerry/blobs/directory"
	"github.com/skerry-sync/skerry/blobs/files"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/node/libp2pnet"
	"github.com/skerry-sync/skerry/replica"
)

// startWith is start with limits.
func startWith(t testing.TB, limits node.Limits) *node.Node {
	t.Helper()
	n, err := node.Open(t.Context(), node.Config{Dir: t.TempDir(), SyncInterval: 2 * time.Second, Limits: limits})
	require.NoError(t, err)
	net, err := libp2pnet.New(libp2pnet.Config{Key: n.Key(), Listen: loopback(t), Log: slog.New(slog.DiscardHandler)})
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
	got, err := n.Blobs.ReadAll(t.Context(), h, uint64(len(want)))
	require.NoError(t, err)
	require.True(t, bytes.Equal(want, got))
}

// The ranges of one blob come from all providers that have it, and none of them twice.
func TestSeveralProvidersShareOneBlob(t *testing.T) {
	ctx := t.Context()
	data := random(1, 48<<20)
	var providers []*node.Node
	var hash blobs.Hash
	for range 3 {
		p := startWith(t, node.Limits{Upload: 40 << 20}) // slow enough that no one of them does it alone
		info, err := p.Blobs.ImportBytes(ctx, data)
		require.NoError(t, err)
		hash = info.Hash
		providers = append(providers, p)
	}
	b, _ := start(t, t.TempDir())
	c, err := b.Get(ctx, hash, node.Raw, infosOf(t, providers...), nil)
	require.NoError(t, err)
	require.Len(t, c.Fetched.Providers, 3, "all gave some")
	twice := uint64(8 << 20)
	if node.RaceDetector {
		twice *= 3
	}
	require.Less(t, c.Fetched.Bytes, uint64(len(data))+twice, "little is fetched twice, at the very end")
	requireContent(t, b, hash, data)
}

// A provider that is much slower than another does not hold up the end: what it owes is taken over.
func TestSlowProviderLosesWork(t *testing.T) {
	ctx := t.Context()
	data := random(2, 24<<20)
	slow, fast := startWith(t, node.Limits{Upload: 1}), startWith(t, node.Limits{}) // but for a first 64 KiB
	var hash blobs.Hash
	for _, p := range []*node.Node{slow, fast} {
		info, err := p.Blobs.ImportBytes(ctx, data)
		require.NoError(t, err)
		hash = info.Hash
	}
	b, _ := start(t, t.TempDir())
	// Sooner than a provider that sends nothing would be given up.
	limited, cancel := context.WithTimeout(ctx, 25*time.Second)
	defer cancel()
	_, err := b.Get(limited, hash, node.Raw, infosOf(t, slow, fast), nil)
	require.NoError(t, err)
	requireContent(t, b, hash, data)
}

// What a provider owes that vanishes in the middle goes back, and comes from another.
func TestVanishedProvider(t *testing.T) {
	ctx := t.Context()
	data := random(3, 32<<20)
	gone, stopGone := start(t, t.TempDir())
	stays := startWith(t, node.Limits{Upload: 60 << 20})
	info, err := gone.Blobs.ImportBytes(ctx, data)
	require.NoError(t, err)
	_, err = stays.Blobs.ImportBytes(ctx, data)
	require.NoError(t, err)
	b, _ := start(t, t.TempDir())
	var once sync.Once
	var stopped sync.WaitGroup
	_, err = b.Get(ctx, info.Hash, node.Raw, infosOf(t, gone, stays), func(p node.GetProgress) {
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
	data := random(4, 8<<20)
	origin, _ := start(t, t.TempDir())
	info, err := origin.Blobs.ImportBytes(ctx, data)
	require.NoError(t, err)
	var parts []*node.Node
	for i := range uint64(2) {
		p, _ := start(t, t.TempDir())
		_, err := p.FetchPart(ctx, info.Hash, blobs.Ranges{{Start: i * 4 << 20, End: (i + 1) * 4 << 20}}, nil, infoOf(t, origin), nil)
		require.NoError(t, err)
		st, err := p.Blobs.Stat(ctx, info.Hash)
		require.NoError(t, err)
		require.False(t, st.Complete)
		parts = append(parts, p)
	}
	b, _ := start(t, t.TempDir())
	_, err = b.Get(ctx, info.Hash, node.Raw, infosOf(t, parts...), nil)
	require.NoError(t, err)
	requireContent(t, b, info.Hash, data)

	// One alone is not: what is missing is said.
	c, _ := start(t, t.TempDir())
	_, err = c.Get(ctx, info.Hash, node.Raw, infosOf(t, parts[0]), nil)
	var missing *node.MissingError
	require.ErrorAs(t, err, &missing)
}

// Likewise of many small blobs: each has its proof from one, and the rest from the other.
func TestPartialProvidersOfSmallBlobs(t *testing.T) {
	ctx := t.Context()
	origin, _ := start(t, t.TempDir())
	half, _ := start(t, t.TempDir())
	var wants []node.Want
	var contents [][]byte
	for i := range 40 {
		data := random(byte(i), 300_000+i)
		info, err := origin.Blobs.ImportBytes(ctx, data)
		require.NoError(t, err)
		_, err = half.FetchPart(ctx, info.Hash, blobs.Ranges{{Start: 0, End: 100_000}}, nil, infoOf(t, origin), nil)
		require.NoError(t, err)
		wants, contents = append(wants, node.Want{Hash: info.Hash}), append(contents, data)
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
		require.NoError(t, os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), random(byte(i), 100_000+i), 0o644))
	}
	var hash blobs.Hash
	var providers []*node.Node
	for range 2 {
		p := startWith(t, node.Limits{Upload: 20 << 20})
		info, err := directory.Import(ctx, p.Blobs, dir, directory.ImportOptions{})
		require.NoError(t, err)
		hash = info.Hash
		providers = append(providers, p)
	}
	b, _ := start(t, t.TempDir())
	c, err := b.Get(ctx, hash, node.Sequence, infosOf(t, providers...), nil)
	require.NoError(t, err)
	require.Len(t, c.Fetched.Providers, 2)
	out := filepath.Join(t.TempDir(), "out")
	require.NoError(t, b.Export(ctx, &c, out, nil))
	for i := range 300 {
		got, err := os.ReadFile(filepath.Join(out, fmt.Sprint(i)))
		require.NoError(t, err)
		require.True(t, bytes.Equal(random(byte(i), 100_000+i), got))
	}
}

// A peer that has lied is remembered, also after a restart, and asked only when nobody else can help.
func TestLiarIsRemembered(t *testing.T) {
	ctx := t.Context()
	honest, _ := start(t, t.TempDir())
	info, err := honest.Blobs.ImportBytes(ctx, []byte("the true content"))
	require.NoError(t, err)
	liar := stranger(t)
	var asked atomic.Int32
	liar.Handle("/skerry/blobs/2", func(s node.Stream) {
		asked.Add(1)
		readBlobRequest(s)
		_, _ = s.Write(append([]byte{0, 16, 0}, "the wrong content"[:16]...))
		_ = s.Close()
	})
	liarInfo := *must(peer.AddrInfoFromP2pAddr(liar.Addrs()[0]))(t)
	dir := t.TempDir()
	b, stop := start(t, dir)
	_, err = b.Get(ctx, info.Hash, node.Raw, []peer.AddrInfo{liarInfo}, nil)
	var corrupt *blobs.CorruptError
	require.ErrorAs(t, err, &corrupt)
	before := asked.Load()
	require.Positive(t, before)
	stop()
	b, _ = start(t, dir)
	_, err = b.Get(ctx, info.Hash, node.Raw, append([]peer.AddrInfo{liarInfo}, infoOf(t, honest)...), nil)
	require.NoError(t, err)
	require.Equal(t, before, asked.Load(), "the liar is not asked again")
	_, err = b.Get(ctx, blobs.HashOf([]byte("other")), node.Raw, []peer.AddrInfo{liarInfo}, nil)
	require.Error(t, err)
	require.Greater(t, asked.Load(), before, "unless nobody else is there")
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T { require.NoError(t, err); return v }
}

// The first bytes of each child come in one request, with their sizes proved.
func TestFetchHeadsOfChildren(t *testing.T) {
	ctx := t.Context()
	a, _ := start(t, t.TempDir())
	var seq blobs.Sequence
	var contents [][]byte
	for i := range 40 {
		data := random(byte(i), 10+i*40_000)
		info, err := a.Blobs.ImportBytes(ctx, data)
		require.NoError(t, err)
		seq, contents = append(seq, info.Hash), append(contents, data)
	}
	root, err := a.Blobs.ImportBytes(ctx, seq.Bytes())
	require.NoError(t, err)
	heads := blobs.Ranges{{Start: 0, End: 64 << 10}}
	b, _ := start(t, t.TempDir())
	for range 2 { // the second time, all is here
		got, err := b.FetchPart(ctx, root.Hash, nil, heads, infoOf(t, a), nil)
		require.NoError(t, err)
		require.Less(t, got.Bytes, uint64(40*(64+16)<<10+2000))
	}
	for i, h := range seq {
		st, err := b.Blobs.Stat(ctx, h)
		require.NoError(t, err)
		require.EqualValues(t, len(contents[i]), st.Size, "proved")
		r, err := b.Blobs.Reader(ctx, h)
		require.NoError(t, err)
		p := make([]byte, min(64<<10, len(contents[i])))
		_, err = io.ReadFull(r, p)
		require.NoError(t, err)
		require.True(t, bytes.Equal(contents[i][:len(p)], p))
		require.LessOrEqual(t, st.Present, uint64(80<<10))
	}
	// Some known before: only the others are fetched, by name.
	c, _ := start(t, t.TempDir())
	_, err = c.Fetch(ctx, []node.Want{{Hash: root.Hash}, {Hash: seq[39]}}, infoOf(t, a), nil)
	require.NoError(t, err)
	_, err = c.FetchPart(ctx, root.Hash, nil, heads, infoOf(t, a), nil)
	require.NoError(t, err)
	st, err := c.Blobs.Stat(ctx, seq[39])
	require.NoError(t, err)
	require.True(t, st.Complete)
	st, err = c.Blobs.Stat(ctx, seq[38])
	require.NoError(t, err)
	require.False(t, st.Complete)
}

// A read of a little, far inside a large blob that is elsewhere, fetches a little.
func TestRandomReadFetchesLittle(t *testing.T) {
	ctx := t.Context()
	a, _ := start(t, t.TempDir())
	data := random(5, 64<<20)
	info, err := a.Blobs.ImportBytes(ctx, data)
	require.NoError(t, err)
	b, _ := start(t, t.TempDir())
	s := b.NewSession(ctx, infoOf(t, a))
	off := int64(41<<20 + 12345)
	r, err := s.OpenAt(info.Hash, uint64(off), 64<<10)
	require.NoError(t, err)
	p := make([]byte, 64<<10)
	_, err = r.ReadAt(p, off)
	require.NoError(t, err)
	require.True(t, bytes.Equal(data[off:off+64<<10], p))
	got, err := s.Close()
	require.NoError(t, err)
	require.LessOrEqual(t, got.Bytes, uint64(100<<10))

	// Reading on, to the end, gives the content, and all of it is here then.
	s = b.NewSession(ctx, infoOf(t, a))
	r, err = s.Open(info.Hash)
	require.NoError(t, err)
	all, err := io.ReadAll(r)
	require.NoError(t, err)
	require.True(t, bytes.Equal(data, all))
	_, err = s.Close()
	require.NoError(t, err)
	has, err := b.Blobs.Has(ctx, info.Hash)
	require.NoError(t, err)
	require.True(t, has)
}

// A sequence of a million children, of which many are the same.
func TestMillionChildren(t *testing.T) {
	ctx := t.Context()
	a, _ := start(t, t.TempDir())
	im := a.Blobs.NewImporter(ctx)
	var seq blobs.Sequence
	for i := range 10_000 {
		h, err := im.Add(fmt.Appendf(nil, "child %d", i))
		require.NoError(t, err)
		seq = append(seq, h)
	}
	require.NoError(t, im.Flush())
	for len(seq) < 1_000_000 {
		seq = append(seq, seq[:10_000]...)
	}
	root, err := a.Blobs.ImportBytes(ctx, seq.Bytes())
	require.NoError(t, err)
	b, _ := start(t, t.TempDir())
	c, err := b.Get(ctx, root.Hash, node.Sequence, infoOf(t, a), nil)
	require.NoError(t, err)
	require.Len(t, c.Children, 1_000_000)
	for _, h := range seq[:10_000] {
		has, err := b.Blobs.Has(ctx, h)
		require.NoError(t, err)
		require.True(t, has)
	}
}

// The download policy says what content comes; after a change, the node catches up.
func TestDownloadPolicy(t *testing.T) {
	ctx := t.Context()
	a, _ := start(t, t.TempDir())
	b, _ := start(t, t.TempDir())
	r, err := a.Replicas.Create(ctx, "r")
	require.NoError(t, err)
	set(t, a, r.ID, "photos/1", "a photo")
	set(t, a, r.ID, "notes/1", "a note")
	set(t, a, r.ID, "notes/2", "a note that is rather long, longer than the others")
	tk, err := a.Ticket(ctx, r, replica.Read)
	require.NoError(t, err)
	_, err = b.JoinWith(ctx, tk, "r", &node.Policy{Nothing: true})
	require.NoError(t, err)
	state := func(key string) node.ContentState {
		e, err := b.Replicas.LatestOf(ctx, r.ID, []byte(key))
		if err != nil {
			return node.ContentMissing
		}
		st, err := b.ContentState(ctx, e.Hash, e.Size)
		require.NoError(t, err)
		return st
	}
	pending := func() int {
		n, err := b.PendingContent(ctx, r.ID)
		require.NoError(t, err)
		return n
	}
	eventually(t, "entries come all the same", func() bool {
		_, err := b.Replicas.LatestOf(ctx, r.ID, []byte("notes/2"))
		return err == nil
	})
	require.Zero(t, pending())
	require.NoError(t, b.SetPolicy(ctx, r.ID, node.Policy{Prefixes: [][]byte{[]byte("photos/")}}))
	eventually(t, "the photo", func() bool { return state("photos/1") == node.ContentComplete })
	require.Equal(t, node.ContentMissing, state("notes/1"))
	set(t, a, r.ID, "photos/2", "another photo")
	eventually(t, "a later photo", func() bool { return state("photos/2") == node.ContentComplete })
	require.NoError(t, b.SetPolicy(ctx, r.ID, node.Policy{MaxSize: 10}))
	eventually(t, "the short note", func() bool { return state("notes/1") == node.ContentComplete })
	require.Equal(t, node.ContentMissing, state("notes/2"))
	require.NoError(t, b.SetPolicy(ctx, r.ID, node.Policy{}))
	eventually(t, "everything", func() bool { return state("notes/2") == node.ContentComplete && pending() == 0 })
	require.Error(t, b.SetPolicy(ctx, replica.ID{1}, node.Policy{}))
}

// Large content of an entry travels in chunks: an edit brings only what changed.
func TestChunkedContentInReplica(t *testing.T) {
	ctx := t.Context()
	a, _ := start(t, t.TempDir())
	b, _ := start(t, t.TempDir())
	r, err := a.Replicas.Create(ctx, "r")
	require.NoError(t, err)
	tk, err := a.Ticket(ctx, r, replica.Read)
	require.NoError(t, err)
	_, err = b.Join(ctx, tk, "r")
	require.NoError(t, err)
	data := random(6, 24<<20)
	name := filepath.Join(t.TempDir(), "large")
	put := func(content []byte) (blobs.Hash, uint64) {
		require.NoError(t, os.WriteFile(name, content, 0o600))
		h, size, err := a.ImportContent(ctx, name, nil)
		require.NoError(t, err)
		require.EqualValues(t, len(content), size)
		author, err := a.Replicas.DefaultAuthor(ctx)
		require.NoError(t, err)
		key, err := a.Replicas.AuthorKey(ctx, author)
		require.NoError(t, err)
		_, err = a.Replicas.Write(ctx, r.ID, key, []replica.Change{{Key: []byte("large"), Hash: h, Size: size}})
		require.NoError(t, err)
		return h, size
	}
	h, size := put(data)
	waiting, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	arrived := func(h blobs.Hash, size uint64, want []byte) {
		eventually(t, "the entry", func() bool {
			e, err := b.Replicas.LatestOf(ctx, r.ID, []byte("large"))
			return err == nil && e.Hash == h
		})
		require.NoError(t, b.WaitContent(waiting, h, size))
		content, err := b.OpenContent(ctx, h, size)
		require.NoError(t, err)
		got, err := io.ReadAll(content)
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, got))
	}
	arrived(h, size, data)
	before, err := b.Blobs.Totals(ctx)
	require.NoError(t, err)
	edited := append(append(bytes.Clone(data[:10<<20]), "a few bytes more"...), data[10<<20:]...)
	h, size = put(edited)
	arrived(h, size, edited)
	after, err := b.Blobs.Totals(ctx)
	require.NoError(t, err)
	require.Less(t, after.Bytes-before.Bytes, uint64(3*chunked.MaxChunk), "only the chunks around the edit")

	// Garbage collection keeps the chunks of what an entry points at, and drops those of the version before.
	got, err := b.Collect(ctx, false, nil)
	require.NoError(t, err)
	require.Positive(t, got.Removed)
	arrived(h, size, edited)
}

// Damaged content is found, dropped and fetched again.
func TestRepair(t *testing.T) {
	ctx := t.Context()
	a, _ := start(t, t.TempDir())
	dir := t.TempDir()
	b, _ := start(t, dir)
	data := random(7, 3<<20)
	info, err := a.Blobs.ImportBytes(ctx, data)
	require.NoError(t, err)
	_, err = b.Get(ctx, info.Hash, node.Raw, infoOf(t, a), nil)
	require.NoError(t, err)
	own, err := filepath.Glob(filepath.Join(dir, "content", "own", "*", "*"))
	require.NoError(t, err)
	require.Len(t, own, 1)
	f, err := os.OpenFile(own[0], os.O_RDWR, 0)
	require.NoError(t, err)
	_, err = f.WriteAt(make([]byte, 100), 1<<20)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	damage, err := b.Blobs.Verify(ctx, info.Hash, nil)
	require.NoError(t, err)
	require.Len(t, damage, 1)
	require.NoError(t, b.Repair(ctx, info.Hash, damage))
	damage, err = b.Blobs.Verify(ctx, info.Hash, nil)
	require.NoError(t, err)
	require.Empty(t, damage)
	requireContent(t, b, info.Hash, data)
	providers := b.Providers(ctx, info.Hash)
	require.Equal(t, []node.ProviderInfo{{ID: a.ID(), Size: info.Size, Present: info.Size}}, providers)
}

// Limits of bandwidth are kept, of a whole node and of one peer, in both directions; a limit of storage refuses more, and says so.
func TestLimits(t *testing.T) {
	ctx := t.Context()
	data := random(8, 3<<20)
	for name, limits := range map[string][2]node.Limits{
		"upload":        {{Upload: 2 << 20}, {}},
		"peer upload":   {{PeerUpload: 2 << 20}, {}},
		"download":      {{}, {Download: 2 << 20}},
		"peer download": {{}, {PeerDownload: 2 << 20}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b := startWith(t, limits[0]), startWith(t, limits[1])
			info, err := a.Blobs.ImportBytes(t.Context(), data)
			require.NoError(t, err)
			began := time.Now()
			_, err = b.Get(t.Context(), info.Hash, node.Raw, infoOf(t, a), nil)
			require.NoError(t, err)
			require.Greater(t, time.Since(began), time.Second, "3 MiB at 2 MiB a second, of which a tenth may come at once")
		})
	}
	a, _ := start(t, t.TempDir())
	info, err := a.Blobs.ImportBytes(ctx, data)
	require.NoError(t, err)
	b := startWith(t, node.Limits{Storage: 1 << 20})
	_, err = b.Get(ctx, info.Hash, node.Raw, infoOf(t, a), nil)
	var full *files.LimitError
	require.ErrorAs(t, err, &full)
	_, err = b.Blobs.ImportBytes(ctx, data)
	require.ErrorAs(t, err, &full)
	require.ErrorContains(t, err, "storage limit")
	require.NoError(t, b.Blobs.Delete(ctx, info.Hash))
	_, err = b.Blobs.ImportBytes(ctx, random(9, 700_000))
	require.NoError(t, err, "there is room again")
}

// What one peer makes a node fetch without being asked is limited; what a person asks for is not.
func TestPeerStorageLimit(t *testing.T) {
	ctx := t.Context()
	a, _ := start(t, t.TempDir())
	b := startWith(t, node.Limits{PeerStorage: 70_000})
	r, err := a.Replicas.Create(ctx, "r")
	require.NoError(t, err)
	tk, err := a.Ticket(ctx, r, replica.Read)
	require.NoError(t, err)
	_, err = b.Join(ctx, tk, "r")
	require.NoError(t, err)
	set(t, a, r.ID, "1", string(random(1, 60_000)))
	eventually(t, "the first", func() bool { return has(b, r.ID, "1", string(random(1, 60_000))) })
	more := string(random(2, 20_000))
	set(t, a, r.ID, "2", more)
	eventually(t, "its entry", func() bool {
		_, err := b.Replicas.LatestOf(ctx, r.ID, []byte("2"))
		return err == nil
	})
	require.Never(t, func() bool { return has(b, r.ID, "2", more) }, 500*time.Millisecond, 50*time.Millisecond)
	set(t, a, r.ID, "3", "what still fits")
	eventually(t, "the third", func() bool { return has(b, r.ID, "3", "what still fits") })
	_, err = b.Get(ctx, blobs.HashOf([]byte(more)), node.Raw, infoOf(t, a), nil)
	require.NoError(t, err)
}

// Under a limit of what one peer makes a node fetch, claims are decided as they are without one, and content that nobody has takes no room from
// what is there.
func TestPeerStorageLimitAndClaims(t *testing.T) {
	for _, what := range []string{"wrong sizes", "nothing there"} {
		t.Run(what, func(t *testing.T) {
			ctx := t.Context()
			a, _ := start(t, t.TempDir())
			b := startWith(t, node.Limits{PeerStorage: 1_000_000})
			r, err := a.Replicas.Create(ctx, "r")
			require.NoError(t, err)
			value := string(random(1, 700))
			var changes []replica.Change
			if what == "wrong sizes" {
				for i := range 600 {
					changes = append(changes, replica.Change{Key: fmt.Append(nil, "wrong", i), Hash: blobs.HashOf([]byte(value)), Size: uint64(i + 1)})
				}
			} else {
				changes = append(changes, replica.Change{Key: []byte("nowhere"), Hash: blobs.Hash{0, 0, 0, 1}, Size: 1_000_000})
			}
			author, err := a.Replicas.DefaultAuthor(ctx)
			require.NoError(t, err)
			secret, err := a.Replicas.AuthorKey(ctx, author)
			require.NoError(t, err)
			_, err = a.Replicas.Write(ctx, r.ID, secret, changes)
			require.NoError(t, err)
			set(t, a, r.ID, "k", value)
			tk, err := a.Ticket(ctx, r, replica.Read)
			require.NoError(t, err)
			_, err = b.Join(ctx, tk, "r")
			require.NoError(t, err)
			require.Eventually(t, func() bool { return has(b, r.ID, "k", value) }, 15*time.Second, 20*time.Millisecond)
			if what == "wrong sizes" {
				eventually(t, "all wrong claims", func() bool {
					wrong := 0
					require.NoError(t, b.RefutedClaims(ctx, r.ID, func(node.RefutedClaim) error { wrong++; return nil }))
					return wrong == len(changes)
				})
			}
		})
	}
}

// Two downloads of one blob at once both end well, and so does one during which the blob is deleted, or collected.
func TestConcurrentDownloadsAndDeletion(t *testing.T) {
	ctx := t.Context()
	a := startWith(t, node.Limits{Upload: 100 << 20})
	data := random(10, 24<<20)
	info, err := a.Blobs.ImportBytes(ctx, data)
	require.NoError(t, err)
	b, _ := start(t, t.TempDir())
	var both sync.WaitGroup
	for range 2 {
		both.Go(func() {
			_, err := b.Get(ctx, info.Hash, node.Raw, infoOf(t, a), nil)
			if err != nil {
				t.Error(err)
			}
		})
	}
	both.Wait()
	requireContent(t, b, info.Hash, data)

	// Collection keeps what is being fetched, though nothing else keeps it.
	require.NoError(t, b.Blobs.Delete(ctx, info.Hash))
	var once sync.Once
	_, err = b.Get(ctx, info.Hash, node.Raw, infoOf(t, a), func(p node.GetProgress) {
		if p.Fetched > 4<<20 {
			once.Do(func() {
				both.Go(func() {
					if _, err := b.Collect(ctx, false, nil); err != nil {
						t.Error(err)
					}
				})
			})
		}
	})
	both.Wait()
	require.NoError(t, err)
	requireContent(t, b, info.Hash, data)

	// Deletion by somebody else ends the download with an error that says so, and the next one starts anew.
	require.NoError(t, b.Blobs.Delete(ctx, info.Hash))
	once = sync.Once{}
	_, err = b.Get(ctx, info.Hash, node.Raw, infoOf(t, a), func(p node.GetProgress) {
		if p.Fetched > 4<<20 {
			once.Do(func() { both.Go(func() { _ = b.Blobs.Delete(ctx, info.Hash) }) })
		}
	})
	both.Wait()
	require.ErrorIs(t, err, blobs.ErrDeleted)
	_, err = b.Get(ctx, info.Hash, node.Raw, infoOf(t, a), nil)
	require.NoError(t, err)
	requireContent(t, b, info.Hash, data)
}

// A reader that reads nothing makes nobody's memory grow: the provider waits.
func TestSlowReaderIsWaitedFor(t *testing.T) {
	ctx := t.Context()
	a, _ := start(t, t.TempDir())
	info, err := a.Blobs.ImportBytes(ctx, random(1, 64<<20))
	require.NoError(t, err)
	b := startWith(t, node.Limits{Download: 1 << 20})
	ctx, cancel := context.WithTimeout(ctx, 1500*time.Millisecond)
	defer cancel()
	_, err = b.Get(ctx, info.Hash, node.Raw, infoOf(t, a), nil)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	st, err := b.Blobs.Stat(t.Context(), info.Hash)
	require.NoError(t, err)
	require.Less(t, st.Present, uint64(8<<20))
}

// Lies about the children of a sequence: the liar is dropped, nothing wrong is stored, and the honest provider behind it is used.
func TestLyingAboutChildren(t *testing.T) {
	ctx := t.Context()
	honest, _ := start(t, t.TempDir())
	var seq blobs.Sequence
	for i := range 3 {
		info, err := honest.Blobs.ImportBytes(ctx, random(byte(i), 1000+i))
		require.NoError(t, err)
		seq = append(seq, info.Hash)
	}
	root, err := honest.Blobs.ImportBytes(ctx, seq.Bytes())
	require.NoError(t, err)
	odd, err := honest.Blobs.ImportBytes(ctx, random(9, 50)) // not a whole number of hashes
	require.NoError(t, err)

	// The answer of a blob of one group: here it is, its size, no further ranges, its content.
	blob := func(content []byte) []byte {
		return append(append(binary.AppendUvarint([]byte{0}, uint64(len(content))), 0), content...)
	}
	list := blob(seq.Bytes())
	for name, tc := range map[string]struct {
		hash blobs.Hash
		says []byte
	}{
		"more children than there are":   {root.Hash, append(list, 4)},
		"far too many":                   {root.Hash, append(list, 0xff, 0xff, 0xff, 0xff, 0x7f)},
		"a child that is not the hash's": {root.Hash, append(append(list, 3), blob(random(7, 1000))...)},
		"a child over the limit":         {root.Hash, append(append(list, 3), 0, 0x80, 0x80, 0x40, 0)},
		"a child with ranges unasked":    {root.Hash, append(append(list, 3), 0, 0xe8, 7, 1, 0x80, 0x80, 0x80, 8, 5)},
		"children that break off":        {root.Hash, append(append(list, 3), blob(random(0, 1000))...)},
		"no children at all":             {root.Hash, append(list, 0)},
		"children of what has none":      {odd.Hash, append(blob(random(9, 50)), 1)},
		"children of what is not here":   {root.Hash, []byte{1, 2}},
		"an unknown status":              {root.Hash, append(append(list, 3), 9)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			liar := stranger(t)
			liar.Handle("/skerry/blobs/2", func(s node.Stream) {
				readBlobRequest(s)
				_, _ = s.Write(tc.says)
				_ = s.CloseWrite()
				_, _ = io.Copy(io.Discard, s)
				_ = s.Close()
			})
			liarInfo := *must(peer.AddrInfoFromP2pAddr(liar.Addrs()[0]))(t)
			b, _ := start(t, t.TempDir())
			_, err := b.Get(t.Context(), tc.hash, node.Sequence, []peer.AddrInfo{liarInfo}, nil)
			require.Error(t, err)
			for info, err := range b.Blobs.List(t.Context()) {
				require.NoError(t, err)
				damage, err := b.Blobs.Verify(t.Context(), info.Hash, nil)
				require.NoError(t, err)
				require.Empty(t, damage, "nothing wrong is stored")
			}
			if tc.hash != root.Hash {
				return // it is no sequence, whoever is asked
			}
			c, err := b.Get(t.Context(), tc.hash, node.Sequence, append([]peer.AddrInfo{liarInfo}, infoOf(t, honest)...), nil)
			require.NoError(t, err)
			require.Len(t, c.Children, 3)
		})
	}
}
