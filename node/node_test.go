package node_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/directory"
	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/kv/pebble"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/node/contacts"
	"github.com/skerry-sync/skerry/node/content"
	"github.com/skerry-sync/skerry/node/datadir"
	"github.com/skerry-sync/skerry/node/libp2pnet"
	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/ticket"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		if err := writeUntilKilled(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

func loopback(t testing.TB) []ma.Multiaddr {
	a, err := ma.NewMultiaddr("/ip4/127.0.0.1/tcp/0")
	require.NoError(t, err)
	return []ma.Multiaddr{a}
}

// start opens a node in dir and brings it online on the loopback interface; stop is called at the
// end of the test at the latest.
func start(t testing.TB, dir string) (n *node.Node, stop func()) {
	t.Helper()
	return startAt(t, dir, "/ip4/127.0.0.1/tcp/0")
}

func startAt(t testing.TB, dir, listen string) (n *node.Node, stop func()) {
	t.Helper()
	return startConfigured(t, node.Config{Dir: dir}, listen)
}

func startConfigured(t testing.TB, cfg node.Config, listen string) (n *node.Node, stop func()) {
	t.Helper()
	addr, err := ma.NewMultiaddr(listen)
	require.NoError(t, err)
	cfg.SyncInterval = 2 * time.Second
	if testing.Verbose() {
		cfg.Log = slog.New(
			slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}),
		).With("node", filepath.Base(cfg.Dir))
	}
	n, err = node.Open(t.Context(), cfg)
	require.NoError(t, err)
	net, err := libp2pnet.New(
		libp2pnet.Config{Key: n.Key(), Listen: []ma.Multiaddr{addr}, Log: slog.New(slog.DiscardHandler)},
	)
	require.NoError(t, err)
	require.NoError(t, n.GoOnline(net))
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	return n, func() { require.NoError(t, n.Close()) }
}

func infoOf(t testing.TB, n *node.Node) []peer.AddrInfo {
	return (&ticket.Blob{Addrs: n.Addrs()}).Peers()
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, 20*time.Second, 5*time.Millisecond, what)
}

func TestGetBlobAndDirectory(t *testing.T) {
	a, _ := start(t, t.TempDir())
	b, _ := start(t, t.TempDir())
	ctx := t.Context()
	for _, size := range []int{0, 1, 16 << 10, 16<<10 + 1, 3 << 20} {
		data := testkit.Random(1, size)
		info, err := a.Blobs().ImportBytes(ctx, data)
		require.NoError(t, err)
		c, err := b.Get(ctx, info.Hash, content.Raw, infoOf(t, a), nil)
		require.NoError(t, err)
		require.EqualValues(t, size, c.Fetched.Bytes)
		got, err := b.Blobs().ReadAll(ctx, info.Hash, 1<<30)
		require.NoError(t, err)
		require.True(t, bytes.Equal(data, got))
		c, err = b.Get(ctx, info.Hash, content.Raw, infoOf(t, a), nil)
		require.NoError(t, err)
		require.Zero(t, c.Fetched.Bytes, "nothing is fetched twice")
	}

	dir := filepath.Join(t.TempDir(), "in")
	var want uint64
	for i := range 3000 { // more than one request takes
		data := testkit.Random(byte(i), i%5000)
		name := filepath.Join(dir, fmt.Sprint(i%40), fmt.Sprint(i))
		require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o755))
		require.NoError(t, os.WriteFile(name, data, 0o644))
		want += uint64(len(data))
	}
	info, err := directory.Import(ctx, a.Blobs(), dir, directory.ImportOptions{})
	require.NoError(t, err)
	var last content.GetProgress
	for _, form := range []content.Form{content.Sequence, content.Unknown} {
		c, err := b.Get(ctx, info.Hash, form, infoOf(t, a), func(p content.GetProgress) { last = p })
		require.NoError(t, err)
		require.NotNil(t, c.Directory)
		require.Equal(t, want, c.Size)
		require.NoError(t, b.Export(ctx, &c, filepath.Join(t.TempDir(), "out"), nil))
	}
	require.LessOrEqual(t, last.Fetched, last.Total)
}

// Where TCP is blocked, QUIC does the same.
func TestOverQUIC(t *testing.T) {
	a, _ := startAt(t, t.TempDir(), "/ip4/127.0.0.1/udp/0/quic-v1")
	b, _ := startAt(t, t.TempDir(), "/ip4/127.0.0.1/udp/0/quic-v1")
	ctx := t.Context()
	info, err := a.Blobs().ImportBytes(ctx, testkit.Random(1, 5<<20))
	require.NoError(t, err)
	_, err = b.Get(ctx, info.Hash, content.Raw, infoOf(t, a), nil)
	require.NoError(t, err)
	require.Equal(t, "quic-v1", b.Peers()[0].Transport)
	r, err := a.ReplicaStore().Create(ctx, "r")
	require.NoError(t, err)
	tk, err := a.Ticket(ctx, r, replica.Read)
	require.NoError(t, err)
	_, err = b.Join(ctx, tk, "")
	require.NoError(t, err)
	set(t, a, r.ID, "k", "v")
	eventually(t, "live", func() bool { return has(b, r.ID, "k", "v") })
}

func TestGetErrors(t *testing.T) {
	a, stopA := start(t, t.TempDir())
	b, _ := start(t, t.TempDir())
	ctx := t.Context()
	_, err := b.Get(ctx, blobs.HashOf([]byte("nowhere")), content.Raw, infoOf(t, a), nil)
	var missing *content.MissingError
	require.ErrorAs(t, err, &missing)
	require.Empty(t, missing.Causes)
	gone := infoOf(t, a)
	stopA()
	_, err = b.Get(ctx, blobs.HashOf([]byte("nowhere")), content.Raw, gone, nil)
	var unreachable *link.UnreachableError
	require.ErrorAs(t, err, &unreachable)
	require.Equal(t, gone[0].ID, unreachable.Peer)
	_, err = b.Get(ctx, blobs.HashOf([]byte("nowhere")), content.Raw, infoOf(t, b), nil)
	require.ErrorContains(t, err, "this node itself")
}

// stranger is a peer whose protocols a test writes by hand.
func stranger(t testing.TB) *libp2pnet.Network {
	_, key, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	net, err := libp2pnet.New(
		libp2pnet.Config{Key: key, Listen: loopback(t), Log: slog.New(slog.DiscardHandler)},
	)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, net.Close()) })
	require.NoError(t, net.Start(func(peer.ID, bool) {}))
	return net
}

// readBlobRequest takes one request, which is shorter than the buffer.
func readBlobRequest(s link.Stream) { _, _ = s.Read(make([]byte, 4096)) }

// A peer that lies is dropped, what it gave before the lie is kept, and the next one is asked for
// the rest.
func TestLyingProvider(t *testing.T) {
	honest, _ := start(t, t.TempDir())
	ctx := t.Context()
	data := testkit.Random(1, 3<<20)
	info, err := honest.Blobs().ImportBytes(ctx, data)
	require.NoError(t, err)
	encode := func(r blobs.Ranges) []byte {
		var b bytes.Buffer
		require.NoError(t, honest.Blobs().Encode(ctx, &b, info.Hash, r))
		return b.Bytes()
	}
	lastStart := info.Size - blobs.GroupSize
	rest, err := blobs.Ranges{{Start: 0, End: lastStart}}.AppendBinary(nil)
	require.NoError(t, err)
	head := append(binary.AppendUvarint([]byte{0}, info.Size), rest...)
	proof := encode(blobs.Ranges{{Start: lastStart, End: info.Size}})
	body := encode(blobs.Ranges{{Start: 0, End: lastStart}})
	flipped := bytes.Clone(body)
	flipped[len(body)/2] ^= 1
	wrongSize := append(binary.AppendUvarint([]byte{0}, info.Size+1), rest...)
	for name, tc := range map[string]struct {
		says []byte
		kept uint64 // at least
	}{
		"wrong content":  {bytes.Join([][]byte{head, proof, flipped}, nil), 1 << 20},
		"wrong proof":    {bytes.Join([][]byte{head, flipped, body}, nil), 0},
		"wrong size":     {bytes.Join([][]byte{wrongSize, proof, body}, nil), 0},
		"short stream":   {bytes.Join([][]byte{head, proof, body[:len(body)/2]}, nil), 1 << 20},
		"nothing":        {nil, 0},
		"unknown status": {[]byte{77}, 0},
		"endless":        {append(bytes.Join([][]byte{head, proof}, nil), make([]byte, 4<<20)...), 0},
		"impossible ranges": {append(
			binary.AppendUvarint([]byte{0}, info.Size), 0xff, 0xff, 0xff, 0xff, 0x7f,
		), 0},
	} {
		t.Run(name, func(t *testing.T) {
			liar := stranger(t)
			liar.Handle("/skerry/blobs/2", func(s link.Stream) {
				readBlobRequest(s)
				_, _ = s.Write(tc.says)
				_ = s.Close()
			})
			liarInfo := (&ticket.Blob{Addrs: liar.Addrs()}).Peers()
			alone, _ := start(t, t.TempDir())
			_, err := alone.Get(ctx, info.Hash, content.Raw, liarInfo, nil)
			require.Error(t, err)
			present, err := alone.Blobs().Present(ctx, info.Hash)
			require.NoError(t, err)
			require.GreaterOrEqual(t, present.Count(), tc.kept)
			damage, err := alone.Blobs().Verify(ctx, info.Hash, nil)
			if len(present) > 0 {
				require.NoError(t, err)
			}
			require.Empty(t, damage, "nothing wrong is stored")

			c, err := alone.Get(ctx, info.Hash, content.Raw, append(liarInfo, infoOf(t, honest)...), nil)
			require.NoError(t, err, "the honest one is tried, too")
			require.LessOrEqual(
				t, c.Fetched.Bytes, info.Size-present.Count()+blobs.GroupSize, "nothing is fetched twice",
			)
			got, err := alone.Blobs().ReadAll(ctx, info.Hash, info.Size)
			require.NoError(t, err)
			require.True(t, bytes.Equal(data, got))
		})
	}
}

func set(t testing.TB, n *node.Node, id replica.ID, key, value string) {
	t.Helper()
	ctx := context.Background()
	info, err := n.Blobs().ImportBytes(ctx, []byte(value))
	require.NoError(t, err)
	author, err := n.ReplicaStore().DefaultAuthor(ctx)
	require.NoError(t, err)
	secret, err := n.ReplicaStore().AuthorKey(ctx, author)
	require.NoError(t, err)
	_, err = n.ReplicaStore().Write(
		ctx, id, secret, []replica.Change{{Key: []byte(key), Hash: info.Hash, Size: info.Size}},
	)
	require.NoError(t, err)
}

// has reports whether the node shows this value under the key, content and all.
func has(n *node.Node, id replica.ID, key, value string) bool {
	ctx := context.Background()
	e, err := n.ReplicaStore().LatestOf(ctx, id, []byte(key))
	if err != nil || e.Hash != blobs.HashOf([]byte(value)) {
		return false
	}
	ok, err := n.Blobs().Has(ctx, e.Hash)
	return ok && err == nil
}

func TestReplicaLiveAndAfterRestarts(t *testing.T) {
	dirA, dirB := t.TempDir(), t.TempDir()
	a, stopA := start(t, dirA)
	b, stopB := start(t, dirB)
	ctx := t.Context()
	r, err := a.ReplicaStore().Create(ctx, "notes")
	require.NoError(t, err)
	set(t, a, r.ID, "before", "joined")
	tk, err := a.Ticket(ctx, r, replica.Write)
	require.NoError(t, err)
	joined, err := b.Join(ctx, tk, "notes")
	require.NoError(t, err)
	require.Equal(t, r.ID, joined.Replica.ID)
	require.Len(t, joined.Synced, 1)
	eventually(t, "content of the first session", func() bool {
		return has(b, r.ID, "before", "joined")
	})

	set(t, a, r.ID, "from a", "one")
	set(t, b, r.ID, "from b", "two")
	eventually(t, "live, both ways", func() bool {
		return has(b, r.ID, "from a", "one") &&
			has(a, r.ID, "from b", "two")
	})

	stopB()
	set(t, a, r.ID, "while b slept", "three")
	b, stopB = start(t, dirB)
	eventually(t, "after b came back", func() bool { return has(b, r.ID, "while b slept", "three") })
	set(t, a, r.ID, "again live", "four")
	eventually(t, "live again", func() bool { return has(b, r.ID, "again live", "four") })

	// Both restart. a listens on another port now, and b on another, too: only a's new address, given
	// to b, brings them together here; with a fixed port or mDNS they find each other by themselves.
	stopA()
	stopB()
	a, _ = start(t, dirA)
	b, _ = start(t, dirB)
	tk, err = a.Ticket(ctx, r, replica.Read)
	require.NoError(t, err)
	_, err = b.Join(ctx, tk, "")
	require.NoError(t, err)
	set(t, b, r.ID, "after both restarted", "five")
	eventually(t, "after both restarted", func() bool {
		return has(a, r.ID, "after both restarted", "five")
	})
	fa, err := a.ReplicaStore().Fingerprint(ctx, r.ID)
	require.NoError(t, err)
	fb, err := b.ReplicaStore().Fingerprint(ctx, r.ID)
	require.NoError(t, err)
	require.Equal(t, fa, fb)
}

// Three nodes in a line: what one end writes reaches the other end live, by way of the middle.
func TestPushIsPassedOn(t *testing.T) {
	var nodes []*node.Node
	for range 3 {
		n, _ := start(t, t.TempDir())
		nodes = append(nodes, n)
	}
	ctx := t.Context()
	r, err := nodes[0].ReplicaStore().Create(ctx, "line")
	require.NoError(t, err)
	set(t, nodes[0], r.ID, "start", "x")
	for i := range 2 {
		held, err := nodes[i].ReplicaStore().Get(ctx, r.ID)
		require.NoError(t, err)
		tk, err := nodes[i].Ticket(ctx, held, replica.Write)
		require.NoError(t, err)
		_, err = nodes[i+1].Join(ctx, tk, "")
		require.NoError(t, err)
	}
	set(t, nodes[0], r.ID, "down", "the line")
	eventually(t, "end of the line", func() bool { return has(nodes[2], r.ID, "down", "the line") })
	set(t, nodes[2], r.ID, "up", "the line")
	eventually(t, "start of the line", func() bool { return has(nodes[0], r.ID, "up", "the line") })
}

// A peer without the replica learns nothing, and a reader cannot write.
func TestOutsidersAndReaders(t *testing.T) {
	a, _ := start(t, t.TempDir())
	b, _ := start(t, t.TempDir())
	ctx := t.Context()
	r, err := a.ReplicaStore().Create(ctx, "mine")
	require.NoError(t, err)
	set(t, a, r.ID, "k", "v")
	other, err := b.ReplicaStore().Create(ctx, "theirs")
	require.NoError(t, err)
	tk := &ticket.Doc{Capability: replica.Read, Replica: other.ID, Addrs: a.Addrs()}
	_, err = b.Join(ctx, tk, "")
	require.ErrorIs(t, err, contacts.ErrNotShared)

	tk, err = a.Ticket(ctx, r, replica.Read)
	require.NoError(t, err)
	joined, err := b.Join(ctx, tk, "read-only")
	require.NoError(t, err)
	author := replica.NewSecretKey()
	_, err = b.ReplicaStore().Write(ctx, r.ID, author, []replica.Change{{Key: []byte("k")}})
	var denied *replica.NotAllowedError
	require.ErrorAs(t, err, &denied)
	_, err = b.Ticket(ctx, joined.Replica, replica.Write)
	require.ErrorAs(t, err, &denied)
}

// A peer that holds the replica pushes entries that are forged, of another replica, or not granted:
// none is stored.
func TestForgedPush(t *testing.T) {
	a, _ := start(t, t.TempDir())
	b, _ := start(t, t.TempDir())
	ctx := t.Context()
	r, err := a.ReplicaStore().Create(ctx, "r")
	require.NoError(t, err)
	set(t, a, r.ID, "k", "v")
	tk, err := a.Ticket(ctx, r, replica.Read)
	require.NoError(t, err)
	_, err = b.Join(ctx, tk, "")
	require.NoError(t, err)

	good, err := a.ReplicaStore().LatestOf(ctx, r.ID, []byte("k"))
	require.NoError(t, err)
	outsider := replica.NewSecretKey()
	forged := good
	forged.Key = []byte("forged")
	ungranted := good
	ungranted.Key = []byte("ungranted")
	ungranted.Sign(outsider)
	before, err := a.ReplicaStore().Fingerprint(ctx, r.ID)
	require.NoError(t, err)
	for _, e := range []replica.Entry{forged, ungranted} {
		// refused: that may show as a reset stream here, or not
		_ = b.PushTo(ctx, a.ID(), r.ID, []replica.Entry{e})
	}
	// by the time this has made the round trip, the forged ones have been dealt with
	set(t, a, r.ID, "sentinel", "later")
	eventually(t, "sentinel", func() bool { return has(b, r.ID, "sentinel", "later") })
	for _, key := range []string{"forged", "ungranted"} {
		_, err := a.ReplicaStore().LatestOf(ctx, r.ID, []byte(key))
		require.ErrorIs(t, err, replica.ErrNotFound)
	}
	after, err := a.ReplicaStore().Fingerprint(ctx, r.ID)
	require.NoError(t, err)
	require.NotEqual(t, before, after, "only the sentinel changed it")
}

// A provider that disappears in the middle: what came is kept, and after a restart only the rest is
// fetched.
func TestInterruptedDownloadResumes(t *testing.T) {
	a, _ := start(t, t.TempDir())
	dir := t.TempDir()
	b, stopB := start(t, dir)
	data := testkit.Random(3, 64<<20)
	info, err := a.Blobs().ImportBytes(t.Context(), data)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	var seen atomic.Uint64
	_, err = b.Get(ctx, info.Hash, content.Raw, infoOf(t, a), func(p content.GetProgress) {
		if p.Fetched > 20<<20 && seen.Swap(p.Fetched) == 0 {
			cancel()
		}
	})
	require.ErrorIs(t, err, context.Canceled)
	stopB()
	b, _ = start(t, dir)
	st, err := b.Blobs().Stat(t.Context(), info.Hash)
	require.NoError(t, err)
	require.GreaterOrEqual(t, st.Present, uint64(20<<20))
	c, err := b.Get(t.Context(), info.Hash, content.Raw, infoOf(t, a), nil)
	require.NoError(t, err)
	require.Equal(t, info.Size-st.Present, c.Fetched.Bytes)
	got, err := b.Blobs().ReadAll(t.Context(), info.Hash, info.Size)
	require.NoError(t, err)
	require.True(t, bytes.Equal(data, got))
}

// Content that was wanted when a node stopped is fetched when it is back.
func TestWantedContentSurvivesRestart(t *testing.T) {
	dirA := t.TempDir()
	a, _ := start(t, dirA)
	dir := t.TempDir()
	b, stopB := start(t, dir)
	ctx := t.Context()
	r, err := a.ReplicaStore().Create(ctx, "r")
	require.NoError(t, err)
	set(t, a, r.ID, "k", "kept")
	hash := blobs.HashOf([]byte("kept"))
	require.NoError(t, a.Blobs().Delete(ctx, hash)) // a has the entry, but not the content, for now
	tk, err := a.Ticket(ctx, r, replica.Read)
	require.NoError(t, err)
	_, err = b.Join(ctx, tk, "")
	require.NoError(t, err)
	pending, err := b.PendingContent(ctx, r.ID)
	require.NoError(t, err)
	require.Equal(t, 1, pending)
	require.NoError(t, b.Leave(ctx, r.ID))
	pending, err = b.PendingContent(ctx, r.ID)
	require.NoError(t, err)
	require.Zero(t, pending, "what was wanted for a replica goes with it")
	_, err = b.Join(ctx, tk, "")
	require.NoError(t, err)
	pending, err = b.PendingContent(ctx, r.ID)
	require.NoError(t, err)
	require.Equal(t, 1, pending)
	stopB()
	_, err = a.Blobs().ImportBytes(ctx, []byte("kept"))
	require.NoError(t, err)
	b, _ = start(t, dir)
	waiting, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	require.NoError(t, b.WaitContent(waiting, hash, 4))
	eventually(t, "nothing pending", func() bool {
		pending, err := b.PendingContent(ctx, r.ID)
		return err == nil && pending == 0
	})
}

func TestSecondProcessIsRefused(t *testing.T) {
	dir := t.TempDir()
	n, stop := start(t, dir)
	require.NoError(t, n.SetAPI("/somewhere/api.sock"))
	_, err := node.Open(t.Context(), node.Config{Dir: dir})
	var inUse *datadir.InUseError
	require.ErrorAs(t, err, &inUse)
	require.WithinDuration(t, time.Now(), inUse.Owner.Since, time.Minute)
	require.Equal(t, datadir.Owner{
		PID: os.Getpid(), NodeID: n.ID().String(), API: "/somewhere/api.sock", Since: inUse.Owner.Since,
	}, inUse.Owner)
	require.ErrorContains(t, err, n.ID().String())
	id := n.ID()
	stop()
	n, err = node.Open(t.Context(), node.Config{Dir: dir})
	require.NoError(t, err)
	require.Equal(t, id, n.ID(), "the key persists")
	require.NoError(t, n.Close())
}

func TestUnusableDirectories(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err := node.Open(t.Context(), node.Config{Dir: file})
	require.ErrorContains(t, err, file)
	full := pebble.Options{FreeBytes: func(string) (uint64, error) { return 0, nil }}
	_, err = node.Open(t.Context(), node.Config{Dir: t.TempDir(), Store: full})
	require.ErrorContains(t, err, "disk full")
}

// A disk that fills up in the middle of a download ends it with that message, and nothing is lost.
func TestDiskFullDuringDownload(t *testing.T) {
	a, _ := start(t, t.TempDir())
	ctx := t.Context()
	info, err := a.Blobs().ImportBytes(ctx, testkit.Random(1, 16<<20))
	require.NoError(t, err)
	var full atomic.Bool
	b, err := node.Open(
		ctx,
		node.Config{Dir: t.TempDir(), Store: pebble.Options{FreeBytes: func(string) (uint64, error) {
			if full.Load() {
				return 0, nil
			}
			return 1 << 40, nil
		}}},
	)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	net, err := libp2pnet.New(
		libp2pnet.Config{Key: b.Key(), Listen: loopback(t), Log: slog.New(slog.DiscardHandler)},
	)
	require.NoError(t, err)
	require.NoError(t, b.GoOnline(net))
	_, err = b.Get(ctx, info.Hash, content.Raw, infoOf(t, a), func(p content.GetProgress) {
		full.Store(p.Fetched > 4<<20)
	})
	require.ErrorContains(t, err, "disk full")
	full.Store(false)
	_, err = b.Get(ctx, info.Hash, content.Raw, infoOf(t, a), nil)
	require.NoError(t, err)
	damage, err := b.Blobs().Verify(ctx, info.Hash, nil)
	require.NoError(t, err)
	require.Empty(t, damage)
}

func TestHostileRequests(t *testing.T) {
	a, _ := start(t, t.TempDir())
	evil := stranger(t)
	require.NoError(t, evil.Connect(t.Context(), infoOf(t, a)[0]))
	for _, proto := range []string{"/skerry/blobs/2", "/skerry/sync/1", "/skerry/push/1"} {
		for _, says := range [][]byte{
			nil, {0}, {99, 1}, {1, 0}, {1, 0xff, 0xff, 0xff, 0x7f},
			append([]byte{1, 1}, make([]byte, 40)...), bytes.Repeat([]byte{0xff}, 100_000),
		} {
			s, err := evil.Open(t.Context(), a.ID(), proto)
			require.NoError(t, err)
			_, _ = s.Write(says)
			_ = s.CloseWrite()
			require.NoError(t, s.SetReadDeadline(time.Now().Add(10*time.Second)))
			b, err := io.ReadAll(s)
			var timeout interface{ Timeout() bool }
			require.NotErrorAs(t, err, &timeout, "%s is answered or reset at once", proto)
			require.Less(t, len(b), 100)
			_ = s.Close()
		}
	}
	// It still serves.
	info, err := a.Blobs().ImportBytes(t.Context(), []byte("hello"))
	require.NoError(t, err)
	b, _ := start(t, t.TempDir())
	_, err = b.Get(t.Context(), info.Hash, content.Raw, infoOf(t, a), nil)
	require.NoError(t, err)
}
