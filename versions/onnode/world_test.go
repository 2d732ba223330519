package onnode

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"slices"
	"testing"
	"time"

	ma "github.com/multiformats/go-multiaddr"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/node/libp2pnet"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/versions"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// machine is a device with its node, which can be ended and started again.
type machine struct {
	t   *testing.T
	dir string
	n   *node.Node
	id  replica.ID
	set *Set
	// ahead is by how much its clock is, from the next start on, which trust has the node trust.
	ahead time.Duration
	trust bool
}

// mergeLetters merges sets of letters, of which none may be there twice.
func mergeLetters(_, base, local, remote []byte) ([]byte, error) {
	out := []byte{}
	for _, c := range slices.Concat(local, remote) {
		both := bytes.IndexByte(local, c) >= 0 && bytes.IndexByte(remote, c) >= 0
		if (both || bytes.IndexByte(base, c) < 0) && bytes.IndexByte(out, c) < 0 {
			out = append(out, c)
		}
	}
	slices.Sort(out)
	return out, nil
}

func newMachine(t *testing.T, dir string) *machine {
	m := &machine{t: t, dir: dir}
	t.Cleanup(m.stop)
	return m
}

// start opens the node, with a network or without, and the versions of the replica, if it has one.
func (m *machine) start(online bool) *machine {
	cfg := node.Config{Dir: m.dir, SyncInterval: 2 * time.Second, TrustClock: m.trust}
	if ahead := m.ahead; ahead != 0 {
		cfg.Now = func() time.Time { return time.Now().Add(ahead) }
	}
	if testing.Verbose() {
		cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	var err error
	m.n, err = node.Open(m.t.Context(), cfg)
	require.NoError(m.t, err)
	if online {
		listen, err := ma.NewMultiaddr("/ip4/127.0.0.1/tcp/0")
		require.NoError(m.t, err)
		net, err := libp2pnet.New(libp2pnet.Config{
			Key: m.n.Key(), Listen: []ma.Multiaddr{listen}, Log: slog.New(slog.DiscardHandler),
		})
		require.NoError(m.t, err)
		require.NoError(m.t, m.n.GoOnline(net))
	}
	if m.id != (replica.ID{}) {
		m.open(Options{})
	}
	return m
}

func (m *machine) open(o Options) {
	o.Merge = mergeLetters
	var err error
	m.set, err = Open(m.t.Context(), m.n, m.id, o)
	require.NoError(m.t, err)
}

func (m *machine) stop() {
	if m.set != nil {
		m.set.Close()
		m.set = nil
	}
	if m.n != nil {
		require.NoError(m.t, m.n.Close())
		m.n = nil
	}
}

func (m *machine) restart(online bool) {
	m.stop()
	m.start(online)
}

// found makes a replica.
func (m *machine) found(encrypted bool) *machine {
	r, err := m.n.CreateReplica(m.t.Context(), "r", encrypted)
	require.NoError(m.t, err)
	m.id = r.ID
	m.open(Options{})
	return m
}

// join joins the replica of another machine, and opens its versions if it can read.
func (m *machine) join(o *machine, c replica.Capability) *machine {
	ctx := m.t.Context()
	r, err := o.n.Replicas().Get(ctx, o.id)
	require.NoError(m.t, err)
	tk, err := o.n.Ticket(ctx, r, c)
	require.NoError(m.t, err)
	_, err = m.n.Join(ctx, tk, "r")
	require.NoError(m.t, err)
	if m.id = o.id; c > replica.Sync {
		m.open(Options{})
	}
	return m
}

// meet has the machine sync with another one.
func (m *machine) meet(o *machine) {
	ctx := m.t.Context()
	r, err := o.n.Replicas().Get(ctx, o.id)
	require.NoError(m.t, err)
	tk, err := o.n.Ticket(ctx, r, replica.Sync)
	require.NoError(m.t, err)
	require.NoError(m.t, m.n.Remember(ctx, []replica.ID{m.id}, tk.Peers()))
	_, err = m.n.SyncNow(ctx, m.id, o.n.ID(), nil)
	require.NoError(m.t, err)
}

func (m *machine) read(key string) *versions.Item {
	item, err := m.set.Read(m.t.Context(), []byte(key), versions.Looked{})
	require.NoError(m.t, err)
	return item
}

func (m *machine) write(key, content string) {
	require.NoError(m.t, m.set.Set.Set(m.t.Context(), m.read(key), []byte(content)))
}

// text returns what an item shows when it has settled; "-" for nothing, "…" while it is not here.
func (m *machine) text(key string) string {
	ctx := context.Background()
	item, err := m.set.Settle(ctx, []byte(key), versions.Looked{Waited: true})
	if errors.Is(err, versions.ErrStale) {
		return "…"
	}
	require.NoError(m.t, err)
	b, err := item.Content(ctx, 1<<20)
	switch {
	case errors.Is(err, replica.ErrNotFound):
		return "-"
	case item.Pending > 0 || err != nil:
		return "…"
	}
	return string(b)
}

// eventually requires that all machines show the same soon.
func eventually(t *testing.T, key, want string, all ...*machine) {
	t.Helper()
	got := make([]string, len(all))
	ok := func() bool {
		same := true
		for i, m := range all {
			got[i] = m.text(key)
			same = same && got[i] == want
		}
		return same
	}
	require.Eventually(t, ok, 30*time.Second, 20*time.Millisecond, "%s: want %q", key, want)
}

// waitForContent waits until the content of all entries of a machine is here.
func waitForContent(t *testing.T, m *machine) {
	t.Helper()
	require.Eventually(t, func() bool {
		n, err := m.n.PendingContent(t.Context(), m.id)
		require.NoError(t, err)
		return n == 0
	}, 30*time.Second, 10*time.Millisecond)
}
