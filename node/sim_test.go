package node

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

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

// TestSimulation lets a few nodes write, lose their connections, lose messages, restart, have clocks that are off, and be molested, and requires that in the end
// all hold the same: everything that was acknowledged, and nothing else; and that they are quiet then. A seed chooses what happens and when; the order in which
// goroutines run at one moment is not part of it, so a failure may need its seed to be run some times.
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
	end  *simEnd
	dir  string
	skew time.Duration
}

func simulate(t *testing.T, seed uint64) {
	ctx := context.Background()
	s := newSimNet(seed)
	rng := rand.New(rand.NewPCG(seed, 2))
	s.loss = rng.Float64() / 2
	open := func(n *simNode) {
		var err error
		n.Node, err = Open(ctx, Config{Dir: n.dir, Now: func() time.Time { return time.Now().Add(n.skew) }})
		require.NoError(t, err)
		n.end = s.end(n.ID())
		require.NoError(t, n.GoOnline(n.end))
	}
	nodes := make([]*simNode, 2+rng.IntN(3))
	for i := range nodes {
		nodes[i] = &simNode{dir: t.TempDir(), skew: time.Duration(rng.Int64N(int64(24*time.Minute))) - 12*time.Minute}
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
	latest := map[string][32]byte{} // of each key, which only one author writes
	authors := make([]replica.SecretKey, len(nodes))
	for i := range authors {
		authors[i] = replica.NewSecretKey()
	}
	bad := newMallory(s, seed)
	var written []replica.Entry
	for range 30 {
		i := rng.IntN(len(nodes))
		n := nodes[i]
		switch rng.IntN(9) {
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
			time.Sleep(time.Duration(rng.Int64N(int64(time.Minute))))
			open(n)
		default:
			var changes []replica.Change
			for range 1 + rng.IntN(20) {
				value, err := n.Blobs.ImportBytes(ctx, []byte{byte(rng.IntN(9))})
				require.NoError(t, err)
				changes = append(changes, replica.Change{Key: fmt.Appendf(nil, "%d/%d", i, rng.IntN(200)), Hash: value.Hash, Size: value.Size})
			}
			entries, err := n.Replicas.Write(ctx, r.ID, authors[i], changes)
			require.NoError(t, err)
			for j := range entries {
				acknowledged[entries[j].ID()] = true
				latest[string(entries[j].Key)] = entries[j].ID()
			}
			written = append(written, entries...)
		}
		time.Sleep(time.Duration(rng.Int64N(int64(20 * time.Second))))
	}
	require.NoError(t, bad.Close())
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
	for _, n := range s.opens {
		total += n
	}
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
		for key, id := range latest {
			require.True(t, have[id], "the last version of %q is lost", key)
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
