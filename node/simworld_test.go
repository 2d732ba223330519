package node

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/kv/pebble"
	"github.com/skerry-sync/skerry/node/limits"
	"github.com/skerry-sync/skerry/node/simnet"
	"github.com/skerry-sync/skerry/replica"
)

// simWorld is a few nodes with clocks that are off, on disks in memory, in a simulated network.
type simWorld struct {
	*simnet.Net
	t       *testing.T
	rng     *rand.Rand
	nodes   []*simNode
	outages int // losses of power
}

func newSimWorld(t *testing.T, seed uint64) *simWorld {
	w := &simWorld{Net: simnet.New(seed), t: t, rng: rand.New(rand.NewPCG(seed, 2))}
	w.Lose(w.rng.Float64() / 2)
	for range 2 + w.rng.IntN(3) {
		n := &simNode{
			dir: t.TempDir(), disk: vfs.NewCrashableMem(), author: replica.NewSecretKey(),
			keys: map[string]*history{},
		}
		n.skew.Store(w.rng.Int64N(int64(24*time.Minute)) - int64(12*time.Minute))
		w.open(n)
		w.nodes = append(w.nodes, n)
	}
	return w
}

func (w *simWorld) open(n *simNode) {
	var err error
	n.Node, err = Open(
		context.Background(), Config{Dir: n.dir, Store: pebble.Options{FS: n.disk}, Limits: n.bounds,
			Now: func() time.Time { return time.Now().Add(time.Duration(n.skew.Load())) }},
	)
	require.NoError(w.t, err)
	if n.opened != nil {
		n.opened(n.Node)
	}
	n.end = w.End(n.ID())
	require.NoError(w.t, n.GoOnline(n.end))
}

// found makes a replica at the first node, which the others join with a capability, each by way of
// one that was there before.
func (w *simWorld) found(c replica.Capability) replica.Replica {
	ctx := context.Background()
	r, err := w.nodes[0].replicas.Create(ctx, "r")
	require.NoError(w.t, err)
	for i, n := range w.nodes[1:] {
		joined := r
		if joined.Capability = c; c < replica.Write {
			joined.Secret = replica.SecretKey{}
		}
		_, err := n.replicas.Join(ctx, joined)
		require.NoError(w.t, err)
		w.introduce(n, r.ID, i+1)
	}
	return r
}

// introduce tells the node with a number of one with a smaller number that holds a replica.
func (w *simWorld) introduce(n *simNode, id replica.ID, number int) {
	to := w.nodes[w.rng.IntN(number)]
	require.NoError(
		w.t, n.Remember(context.Background(), []replica.ID{id}, []peer.AddrInfo{{ID: to.ID()}}),
	)
}

// trouble does something to the connections of n, or ends it, with or without the loss of power,
// and starts it again.
func (w *simWorld) trouble(n *simNode) {
	other := w.nodes[w.rng.IntN(len(w.nodes))]
	switch w.rng.IntN(4) {
	case 0:
		if other != n {
			w.Unlink(n.end, other.end)
		}
	case 1:
		w.Cut(other.ID(), n.ID(), w.rng.IntN(2) == 0)
	case 2:
		require.NoError(w.t, n.Close())
		n.synced()
		w.sleep(time.Minute)
		w.open(n)
	case 3:
		w.outages++
		require.NoError(w.t, n.losePower(w.rng))
		w.sleep(time.Minute)
		w.open(n)
	}
}

// sleep lets some time pass.
func (w *simWorld) sleep(most time.Duration) {
	time.Sleep(time.Duration(w.rng.Int64N(int64(most))))
}

// heal ends all trouble, and lets the nodes find together.
func (w *simWorld) heal() {
	for _, n := range w.nodes {
		n.synced() // nobody loses power any more
	}
	w.Heal()
	time.Sleep(time.Hour)
}

type simNode struct {
	*Node
	end    *simnet.End
	dir    string       // of keys and large content
	disk   *vfs.MemFS   // of the store
	skew   atomic.Int64 // nanoseconds by which its clock is ahead
	bounds limits.Config
	author replica.SecretKey // nobody else writes as this one
	keys   map[string]*history
	opened func(*Node) // if set, is called before the node goes online
}

// history is what was written to a key.
type history struct {
	versions [][32]byte // entry ids
	// the first version that may be the last one in the end; later ones may be lost with their
	// writer's power
	safe     int
	doubtful int // how many versions were there when the writer last lost power
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
