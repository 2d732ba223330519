package node

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/kv/pebble"
	"github.com/skerry-sync/skerry/replica"
)

// mallory is a peer that knows the replica's id, but holds no grant: it publishes forged, replayed and malformed entries, and talks rubbish on streams.
type mallory struct {
	*simEnd
	rng    *rand.Rand
	author replica.SecretKey
}

func newMallory(s *simNet, seed uint64) *mallory {
	m := &mallory{s.end("mallory"), rand.New(rand.NewPCG(seed, 3)), replica.NewSecretKey()}
	_ = m.Start(func(peer.ID, bool) {}) // never fails
	for _, protocol := range []string{syncProtocol, overviewProtocol, pushProtocol, blobProtocol} {
		m.Handle(protocol, func(s Stream) {
			_, _ = s.Write(m.rubbish())
			_ = s.Close()
		})
	}
	return m
}

func (m *mallory) rubbish() []byte {
	m.s.mu.Lock()
	defer m.s.mu.Unlock()
	b := make([]byte, m.rng.IntN(300))
	for i := range b {
		b[i] = byte(m.rng.IntN(4))
	}
	return b
}

// strike does something to a node that must do it no harm.
func (m *mallory) strike(ctx context.Context, n *simNode, id replica.ID, known []replica.Entry) {
	if m.Connect(ctx, peer.AddrInfo{ID: n.ID()}) != nil {
		return
	}
	e := replica.Entry{Replica: id, Key: []byte("forged"), Timestamp: uint64(time.Now().UnixMicro()), Size: 1}
	e.Sign(m.author) // nobody has granted it that
	if len(known) > 0 && m.rng.IntN(2) == 0 {
		e = known[m.rng.IntN(len(known))]
		if m.rng.IntN(2) == 0 {
			e.Timestamp++ // no longer what was signed
		}
	}
	raw, err := e.AppendBinary(nil)
	if err != nil {
		panic(err)
	}
	msg := appendItems(appendItems([]byte{gossipVersion}, nil), [][]byte{raw})
	if m.rng.IntN(4) == 0 {
		msg = append([]byte{gossipVersion}, m.rubbish()...)
	}
	m.pass(n.ID(), topicOf(id), msg)
	protocol := []string{syncProtocol, overviewProtocol, pushProtocol}[m.rng.IntN(3)]
	if s, err := m.Open(ctx, n.ID(), protocol); err == nil {
		_, _ = s.Write(m.rubbish())
		_ = s.Close()
	}
}

// TestSimulation lets a few nodes write, lose their connections, lose messages, restart, lose power, have clocks that are off, and be molested, and requires that in the
// end all hold the same: everything that was acknowledged, but for what a node had not synced when it lost power, and nothing else; and that they are quiet then. A seed
// chooses what happens and when; the order in which goroutines run at one moment is not part of it, so a failure may need its seed to be run some times.
func TestSimulation(t *testing.T) {
	for seed := *firstSeed; seed < *firstSeed+*seeds; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { simulate(t, seed) })
		})
	}
}

var (
	seeds     = flag.Uint64("sim.seeds", 8, "how many seeds TestSimulation runs")
	firstSeed = flag.Uint64("sim.first", 0, "the first of them")
)

type simNode struct {
	*Node
	end    *simEnd
	dir    string     // of keys and large content
	disk   *vfs.MemFS // of the store
	skew   time.Duration
	author replica.SecretKey // nobody else writes as this one
	keys   map[string]*history
}

// history is what was written to a key.
type history struct {
	versions [][32]byte // entry ids
	safe     int        // the first version that may be the last one in the end; later ones may be lost with their writer's power
	doubtful int        // how many versions were there when the writer last lost power
}

// losePower leaves a node with what its disk may hold after the loss of power.
func (n *simNode) losePower(rng *rand.Rand) error {
	cfg := vfs.CrashCloneCfg{}
	if rng.IntN(2) == 0 {
		cfg = vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(100), RNG: rng}
	}
	disk := n.disk.CrashClone(cfg)
	err := n.Close() // what this still writes goes to the disk that is no longer looked at
	n.disk = disk
	for _, h := range n.keys {
		h.doubtful = len(h.versions)
	}
	return err
}

// synced notes that everything that was written so far will survive.
func (n *simNode) synced() {
	for _, h := range n.keys {
		if len(h.versions) > h.doubtful {
			h.safe = len(h.versions) - 1
		}
	}
}

func simulate(t *testing.T, seed uint64) {
	ctx := context.Background()
	s := newSimNet(seed)
	rng := rand.New(rand.NewPCG(seed, 2))
	s.loss = rng.Float64() / 2
	open := func(n *simNode) {
		var err error
		n.Node, err = Open(ctx, Config{Dir: n.dir, Store: pebble.Options{FS: n.disk}, Now: func() time.Time { return time.Now().Add(n.skew) }})
		require.NoError(t, err)
		n.end = s.end(n.ID())
		require.NoError(t, n.GoOnline(n.end))
	}
	nodes := make([]*simNode, 2+rng.IntN(3))
	for i := range nodes {
		nodes[i] = &simNode{dir: t.TempDir(), disk: vfs.NewCrashableMem(), author: replica.NewSecretKey(), keys: map[string]*history{}, skew: time.Duration(rng.Int64N(int64(24*time.Minute))) - 12*time.Minute}
		open(nodes[i])
	}
	r, err := nodes[0].Replicas.Create(ctx, "r")
	require.NoError(t, err)
	for i, n := range nodes[1:] {
		_, err := n.Replicas.Join(ctx, r)
		require.NoError(t, err)
		to := nodes[rng.IntN(i+1)]
		require.NoError(t, n.Remember(ctx, []replica.ID{r.ID}, []peer.AddrInfo{{ID: to.ID()}}))
	}
	acknowledged := map[[32]byte]bool{}
	bad := newMallory(s, seed)
	var written []replica.Entry
	for range 30 {
		i := rng.IntN(len(nodes))
		n := nodes[i]
		switch rng.IntN(12) {
		case 3:
			bad.strike(ctx, n, r.ID, written)
		case 0:
			a, b := nodes[rng.IntN(len(nodes))], n
			if a != b {
				s.unlink(a.end, b.end)
			}
		case 1:
			a := nodes[rng.IntN(len(nodes))]
			s.mu.Lock()
			s.cut[pairOf(a.ID(), n.ID())] = rng.IntN(2) == 0
			s.mu.Unlock()
		case 2:
			require.NoError(t, n.Close())
			n.synced()
			time.Sleep(time.Duration(rng.Int64N(int64(time.Minute))))
			open(n)
		case 4:
			require.NoError(t, n.losePower(rng))
			time.Sleep(time.Duration(rng.Int64N(int64(time.Minute))))
			open(n)
		case 5:
			require.NoError(t, n.Replicas.Sync(ctx))
			n.synced()
		default:
			var changes []replica.Change
			for range 1 + rng.IntN(20) {
				value, err := n.Blobs.ImportBytes(ctx, []byte{byte(rng.IntN(9))})
				require.NoError(t, err)
				changes = append(changes, replica.Change{Key: fmt.Appendf(nil, "%d/%d", i, rng.IntN(200)), Hash: value.Hash, Size: value.Size})
			}
			entries, err := n.Replicas.Write(ctx, r.ID, n.author, changes)
			require.NoError(t, err)
			for j := range entries {
				acknowledged[entries[j].ID()] = true
				h := n.keys[string(entries[j].Key)]
				if h == nil {
					h = &history{safe: -1}
					n.keys[string(entries[j].Key)] = h
				}
				h.versions = append(h.versions, entries[j].ID())
			}
			written = append(written, entries...)
		}
		time.Sleep(time.Duration(rng.Int64N(int64(20 * time.Second))))
	}
	require.NoError(t, bad.Close())
	for _, n := range nodes {
		n.synced() // nobody loses power any more
	}
	s.mu.Lock()
	clear(s.cut)
	s.mu.Unlock()
	time.Sleep(time.Hour)
	s.mu.Lock()
	clear(s.opens)
	s.mu.Unlock()
	time.Sleep(time.Hour)
	s.mu.Lock()
	pairs := len(nodes) * (len(nodes) - 1) / 2
	total := 0
	for protocol, n := range s.opens {
		if protocol != blobProtocol { // content that was lost with the power, and that nobody else has, is asked for now and then
			total += n
		}
	}
	require.LessOrEqual(t, s.opens[blobProtocol], 20*pairs)
	require.LessOrEqual(t, total, 10*pairs, "streams in an hour in which nothing happens: %v", s.opens)
	s.mu.Unlock()
	var want map[[32]byte]bool
	for _, n := range nodes {
		have := map[[32]byte]bool{}
		for e, err := range n.Replicas.Entries(ctx, r.ID, replica.Query{Tombstones: true}) {
			require.NoError(t, err)
			require.True(t, acknowledged[e.ID()], "an entry that nobody wrote")
			have[e.ID()] = true
		}
		for _, w := range nodes {
			for key, h := range w.keys {
				require.True(t, h.safe < 0 || slices.ContainsFunc(h.versions[h.safe:], func(id [32]byte) bool { return have[id] }), "what was safe of %q is lost", key)
			}
		}
		if want == nil {
			want = have
		}
		require.Equal(t, len(want), len(have))
		require.Equal(t, want, have)
		rep, err := n.Replicas.Check(ctx, r.ID, false, nil)
		require.NoError(t, err)
		require.Empty(t, rep.Faults)
	}
	for _, n := range nodes {
		require.NoError(t, n.Close())
	}
}
