package node

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/node/bundle"
	"github.com/skerry-sync/skerry/node/clock"
	"github.com/skerry-sync/skerry/node/content/wire"
	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/node/names"
	"github.com/skerry-sync/skerry/node/session"
	"github.com/skerry-sync/skerry/node/simnet"
	"github.com/skerry-sync/skerry/replica"
)

// mallory is a peer that knows the replica's id, but holds no grant: it publishes forged, replayed
// and malformed entries, and talks rubbish on streams.
type mallory struct {
	*simnet.End
	mu     sync.Mutex // guards rng
	rng    *rand.Rand
	author replica.SecretKey
}

func newMallory(s *simnet.Net, seed uint64) *mallory {
	m := &mallory{
		End: s.End("mallory"), rng: rand.New(rand.NewPCG(seed, 3)), author: replica.NewSecretKey(),
	}
	_ = m.Start(func(peer.ID, bool) {}) // never fails
	for _, protocol := range []string{
		session.Protocol, session.OverviewProtocol, session.PushProtocol, session.HeldProtocol,
		wire.Protocol,
	} {
		m.Handle(protocol, func(s link.Stream) {
			_, _ = s.Write(m.rubbish())
			_ = s.Close()
		})
	}
	return m
}

func (m *mallory) rubbish() []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
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
	e := replica.Entry{
		Replica: id, Key: []byte("forged"), Timestamp: uint64(time.Now().UnixMicro()), Size: 1,
	}
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
	msg := session.SealGossip(id, bundle.Append(bundle.Append(nil, nil), [][]byte{raw}))
	switch m.rng.IntN(8) {
	case 0:
		msg = append([]byte{session.GossipVersion}, m.rubbish()...)
	case 1:
		msg = session.SealGossip(id, m.rubbish())
	}
	m.Pass(n.ID(), names.Topic(id), msg)
	protocol := []string{
		session.Protocol, session.OverviewProtocol, session.PushProtocol, session.HeldProtocol,
	}[m.rng.IntN(4)]
	if s, err := m.Open(ctx, n.ID(), protocol); err == nil {
		_, _ = s.Write(m.rubbish())
		_ = s.Close()
	}
}

// TestSimulation lets a few nodes write, lose their connections, lose messages, restart, lose
// power, have clocks that are off, and be molested, and requires that in the end all hold the same:
// everything that was acknowledged, but for what a node had not synced when it lost power, and
// nothing else; and that they are quiet then. A seed chooses what happens and when; the order in
// which goroutines run at one moment is not part of it, so a failure may need its seed to be run
// some times.
func TestSimulation(t *testing.T) {
	for seed := *firstSeed; seed < *firstSeed+*seeds; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			bubble(t, func(t *testing.T) { simulate(t, seed) })
		})
	}
}

var (
	seeds     = flag.Uint64("sim.seeds", defaultSeeds(), "how many seeds TestSimulation runs")
	firstSeed = flag.Uint64("sim.first", defaultFirst(), "the first of them")
)

// defaultFirst is, with the race detector, a seed whose nodes have less to do than those of others.
func defaultFirst() uint64 { return uint64(testkit.Few(0, 1)) }

// defaultSeeds is one with the race detector: bubbles run on one processor then, and take minutes.
func defaultSeeds() uint64 { return uint64(testkit.Few(8, 1)) }

func simulate(t *testing.T, seed uint64) {
	ctx := context.Background()
	w := newSimWorld(t, seed)
	rng, nodes := w.rng, w.nodes
	r := w.found(replica.Write)
	acknowledged := map[[32]byte]bool{}
	bad := newMallory(w.Net, seed)
	var written []replica.Entry
	for range 30 {
		i := rng.IntN(len(nodes))
		n := nodes[i]
		switch rng.IntN(12) {
		case 3:
			bad.strike(ctx, n, r.ID, written)
		case 0, 1, 2, 4:
			w.trouble(n)
		case 5:
			require.NoError(t, n.replicas.Sync(ctx))
			n.synced()
		default:
			var changes []replica.Change
			for range 1 + rng.IntN(20) {
				value, err := n.blobs.ImportBytes(ctx, []byte{byte(rng.IntN(9))})
				require.NoError(t, err)
				changes = append(
					changes,
					replica.Change{
						Key: fmt.Appendf(nil, "%d/%d", i, rng.IntN(200)), Hash: value.Hash, Size: value.Size,
					},
				)
			}
			entries, err := n.replicas.Write(ctx, r.ID, n.author, changes)
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
		w.sleep(20 * time.Second)
	}
	require.NoError(t, bad.Close())
	w.heal()
	w.ForgetOpened()
	time.Sleep(time.Hour)
	opened := w.Opened()
	pairs := len(nodes) * (len(nodes) - 1) / 2
	total := 0
	for protocol, n := range opened {
		// content that was lost with the power, and that nobody else has, is asked for now and then
		if protocol != wire.Protocol && protocol != clock.Protocol {
			total += n
		}
	}
	require.LessOrEqual(t, opened[wire.Protocol], 20*pairs)
	// Each asks others for the time every ten minutes: see clock.Clocks.
	require.LessOrEqual(t, opened[clock.Protocol], 2*7*pairs)
	require.LessOrEqual(t, total, 10*pairs, "streams in an hour in which nothing happens: %v", opened)
	var want map[[32]byte]bool
	for _, n := range nodes {
		have := map[[32]byte]bool{}
		for e, err := range n.replicas.Entries(ctx, r.ID, replica.Query{Tombstones: true}) {
			require.NoError(t, err)
			require.True(t, acknowledged[e.ID()], "an entry that nobody wrote")
			have[e.ID()] = true
		}
		for _, writer := range nodes {
			for key, h := range writer.keys {
				require.True(t, h.safe < 0 || slices.ContainsFunc(h.versions[h.safe:], func(id [32]byte) bool {
					return have[id]
				}), "what was safe of %q is lost", key)
			}
		}
		if want == nil {
			want = have
		}
		require.Equal(t, len(want), len(have))
		require.Equal(t, want, have)
		for _, other := range nodes {
			lost, _, err := n.Lost(ctx, r.ID, other.ID())
			require.NoError(t, err)
			require.True(t, lost == 0 ||
				w.outages > 0, "%d entries are said to be lost, and no node has lost power", lost)
		}
		rep, err := n.replicas.Check(ctx, r.ID, false, nil)
		require.NoError(t, err)
		require.Empty(t, rep.Faults)
	}
	for _, n := range nodes {
		require.NoError(t, n.Close())
	}
}
