package node

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/replica"
)

// wrong returns by how much a clock may be wrong: a bad battery, a typing error, a time zone.
func wrong(rng *rand.Rand) time.Duration {
	const day = 24 * time.Hour
	off := []time.Duration{
		11 * time.Minute, time.Hour, 13 * time.Hour, 2 * day, 9 * day, 400 * day, 10_000 * day,
	}[rng.IntN(7)]
	if rng.IntN(2) == 0 {
		off = -off
	}
	return off
}

// era is when the nodes live: later than where simulated time begins, so that a clock can go back
// by years.
const era = 30 * 365 * 24 * time.Hour

// Clocks that jump between two starts of a node, by minutes or by years, and are right in the end,
// lose nothing and keep no nodes apart. (Times that a running node waits for do not depend on the
// clock: they have a monotonic reading, which Config.Now here would move, too.)
func TestClocksThatMove(t *testing.T) {
	for seed := *firstSeed; seed < *firstSeed+max(1, *seeds/2); seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			bubble(t, func(t *testing.T) { moveClocks(t, seed) })
		})
	}
}

func moveClocks(t *testing.T, seed uint64) {
	ctx := context.Background()
	w := newSimWorld(t, seed)
	rng := w.rng
	set := func(n *simNode, off time.Duration) {
		require.NoError(t, n.Close())
		n.synced()
		n.skew.Store(int64(era + off))
		w.open(n)
	}
	for _, n := range w.nodes {
		set(n, time.Duration(rng.Int64N(int64(10*time.Minute))))
	}
	written := map[[32]byte]bool{}
	r := w.found(replica.Write)
	value := func(n *simNode) (c replica.Change) {
		b, err := n.blobs.ImportBytes(ctx, []byte{byte(rng.IntN(9))})
		require.NoError(t, err)
		return replica.Change{
			Key: fmt.Appendf(nil, "%d", len(written)), Hash: b.Hash, Size: b.Size}
	}
	for range 30 {
		n := w.nodes[rng.IntN(len(w.nodes))]
		switch rng.IntN(8) {
		case 0, 1, 2:
			set(n, wrong(rng))
		case 3:
			set(n, 0)
		case 4:
			w.trouble(n)
		default:
			if n.skew.Load() > int64(era+9*time.Minute) {
				break // others refuse that until its time, which is another matter
			}
			all, err := n.replicas.Write(ctx, r.ID, n.author, []replica.Change{value(n)})
			require.NoError(t, err)
			require.NoError(t, n.replicas.Sync(ctx))
			written[all[0].ID()] = true
		}
		w.sleep(time.Minute)
	}
	for _, n := range w.nodes {
		set(n, time.Duration(rng.Int64N(int64(10*time.Minute)))-5*time.Minute)
	}
	w.heal()
	for i, n := range w.nodes {
		have := map[[32]byte]bool{}
		for e, err := range n.replicas.Entries(ctx, r.ID, replica.Query{}) {
			require.NoError(t, err)
			have[e.ID()] = true
		}
		require.Equal(t, len(written), len(have), "node %d", i)
		require.Equal(t, written, have)
		rep, err := n.replicas.Check(ctx, r.ID, false, nil)
		require.NoError(t, err)
		require.Empty(t, rep.Faults)
	}
	for _, n := range w.nodes {
		require.NoError(t, n.Close())
	}
}
