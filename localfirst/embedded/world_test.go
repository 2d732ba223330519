package embedded

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/skerry-sync/skerry/localfirst"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/node/libp2pnet"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/versions/onnode"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// How long a test waits for what comes by itself, and how often it looks.
const (
	waitTime = 30 * time.Second
	tick     = 5 * time.Millisecond
)

// person is an identity for tests.
type person string

func (p person) KeyID(context.Context) (string, error) { return string(p), nil }

func (p person) Derive(_ context.Context, purpose string) (out [32]byte, err error) {
	b, err := hkdf.Key(sha256.New, []byte(p), nil, purpose, len(out))
	copy(out[:], b)
	return out, err
}

// device is a node with an engine, and an app with one collection of strings.
type device struct {
	t     testing.TB
	dir   string
	who   person
	store localfirst.Store
	// storeOf opens the store, if it is not one in memory.
	storeOf func(*node.Node) localfirst.Store
	app     *localfirst.MemoryValueBackend[string]
	cfg     localfirst.CollectionConfig[string]
	n       *node.Node
	engine  *localfirst.Engine
	ns      *localfirst.Namespace
	notes   *localfirst.Collection[string]

	mu     sync.Mutex
	events []localfirst.Event
}

func equal(a, b string) bool { return a == b }

func newDevice(t testing.TB, who person) *device {
	d := &device{
		t: t, dir: t.TempDir(), who: who, store: localfirst.NewMemoryStore(),
		app: localfirst.NewMemoryValueBackend(equal),
	}
	d.cfg = localfirst.CollectionConfig[string]{
		Codec: localfirst.StringCodec(), Merge: joinWords,
	}
	t.Cleanup(d.stop)
	return d
}

// joinWords merges texts that go on from the base; without one, the longer of two that begin alike.
func joinWords(_ string, base *string, local, remote string) (string, bool, error) {
	if base == nil {
		short, long := local, remote
		if len(short) > len(long) {
			short, long = long, short
		}
		return long, strings.HasPrefix(long, short), nil
	}
	b := *base
	if len(local) < len(b) || len(remote) < len(b) || local[:len(b)] != b || remote[:len(b)] != b {
		return "", false, nil
	}
	return local + remote[len(b):], true, nil
}

func (d *device) start() *device {
	ctx := d.t.Context()
	cfg := node.Config{Dir: d.dir, SyncInterval: 2 * time.Second}
	log := slog.New(slog.DiscardHandler)
	if testing.Verbose() {
		log = slog.New(slog.NewTextHandler(os.Stderr, nil))
		cfg.Log = log
	}
	var err error
	d.n, err = node.Open(ctx, cfg)
	require.NoError(d.t, err)
	listen, err := ma.NewMultiaddr("/ip4/127.0.0.1/tcp/0")
	require.NoError(d.t, err)
	net, err := libp2pnet.New(libp2pnet.Config{
		Key: d.n.Key(), Listen: []ma.Multiaddr{listen}, Log: slog.New(slog.DiscardHandler),
	})
	require.NoError(d.t, err)
	require.NoError(d.t, d.n.GoOnline(net))
	if d.storeOf != nil {
		d.store = d.storeOf(d.n)
	}
	d.engine, err = localfirst.Open(ctx, localfirst.Config{
		Client: Client(d.n, onnode.NewSets(d.n)), Identity: d.who, Store: d.store,
		PollInterval: time.Second, Log: log,
		Event: func(e localfirst.Event) {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.events = append(d.events, e)
		},
	})
	require.NoError(d.t, err)
	d.ns, err = d.engine.DefaultNamespace(ctx)
	require.NoError(d.t, err)
	d.cfg.Backend = d.app
	d.notes, err = localfirst.OpenCollection(d.ns, "notes", d.cfg)
	require.NoError(d.t, err)
	return d
}

func (d *device) stop() {
	if d.engine != nil {
		require.NoError(d.t, d.engine.Close())
		d.engine = nil
	}
	if d.n != nil {
		require.NoError(d.t, d.n.Close())
		d.n = nil
	}
}

// meet makes two devices known to each other.
func (d *device) meet(o *device) {
	ctx := d.t.Context()
	r, err := o.n.Replicas().Get(ctx, o.ns.ID())
	require.NoError(d.t, err)
	tk, err := o.n.Ticket(ctx, r, replica.Sync)
	require.NoError(d.t, err)
	require.NoError(d.t, d.n.Remember(ctx, []replica.ID{o.ns.ID()}, tk.Peers()))
	_, err = d.n.SyncNow(ctx, o.ns.ID(), o.n.ID(), nil)
	require.NoError(d.t, err)
}

func (d *device) sync() {
	d.t.Helper()
	require.NoError(d.t, d.engine.SyncNow(d.t.Context()))
}

func (d *device) set(key, value string) {
	require.NoError(d.t, d.app.Set(d.t.Context(), key, value))
}

// get returns what the app has; "-" for nothing.
func (d *device) get(key string) string {
	v, err := d.app.Get(d.t.Context(), key)
	if err != nil {
		return "-"
	}
	return v
}

// same requires that the apps of two devices soon have the same, after passes.
func same(t *testing.T, key string, a, b *device) {
	t.Helper()
	end := time.Now().Add(waitTime)
	for time.Now().Before(end) {
		a.sync()
		b.sync()
		if a.get(key) == b.get(key) {
			return
		}
		time.Sleep(tick)
	}
	require.Equal(t, a.get(key), b.get(key))
}

func peersOf(d *device) []peer.AddrInfo {
	return []peer.AddrInfo{{ID: d.n.ID(), Addrs: d.n.AllAddrs()}}
}
