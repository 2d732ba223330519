package node

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/replica"
)

// TestSimulationOfRevocations has nodes grant, delegate and revoke what they may write, write on
// after they were revoked, and write entries that pretend to be old, with all the trouble of
// TestSimulation. In the end all must hold the same statements and the same entries, none of them
// void.
func TestSimulationOfRevocations(t *testing.T) {
	for seed := *firstSeed; seed < *firstSeed+*seeds; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			bubble(t, func(t *testing.T) { simulateRevocations(t, seed) })
		})
	}
}

func simulateRevocations(t *testing.T, seed uint64) {
	ctx := context.Background()
	w := newSimWorld(t, seed)
	r := w.found(replica.Read)
	authors := make([]replica.AuthorID, len(w.nodes))
	for i, n := range w.nodes {
		var err error
		authors[i], err = n.replicas.NewAuthor(ctx)
		require.NoError(t, err)
	}
	for range 60 {
		i := w.rng.IntN(len(w.nodes))
		n, other := w.nodes[i], authors[w.rng.IntN(len(authors))]
		now := uint64(n.cfg.Now().UnixMicro())
		ago := uint64(w.rng.Int64N(int64(5 * time.Minute / time.Microsecond)))
		switch w.rng.IntN(8) {
		case 0, 1:
			w.trouble(n)
		case 2, 3:
			prefix := []string{"", "a", "ab"}[w.rng.IntN(3)]
			_, err := n.Grant(
				ctx, r.ID, other, replica.Permission{Prefix: []byte(prefix), Delegable: w.rng.IntN(2) == 0},
			)
			require.True(t, err == nil || errors.Is(err, replica.ErrCannotGrant), err)
		case 4:
			from := now - ago
			if w.rng.IntN(3) == 0 {
				from = 0
			}
			_, err := n.Revoke(ctx, r.ID, other, from)
			require.True(t, err == nil || errors.Is(err, replica.ErrCannotGrant) ||
				errors.Is(err, replica.ErrNotFound), err)
		default:
			key, err := n.replicas.AuthorKey(ctx, authors[i])
			require.NoError(t, err)
			value, err := n.blobs.ImportBytes(ctx, []byte{byte(w.rng.IntN(9))})
			require.NoError(t, err)
			e := replica.Entry{
				Replica: r.ID, Key: []byte([]string{"a", "abc", "b"}[w.rng.IntN(3)]), Timestamp: now,
				Hash: value.Hash, Size: value.Size,
			}
			if w.rng.IntN(2) == 0 {
				e.Timestamp -= ago
			}
			e.Sign(key)
			_, err = n.replicas.Insert(ctx, r.ID, []replica.Entry{e}, replica.Local)
			require.True(t, err == nil || errors.Is(err, replica.ErrNotGranted), err)
		}
		w.sleep(20 * time.Second)
	}
	w.heal()
	time.Sleep(time.Hour)
	want, err := w.nodes[0].replicas.SharedFingerprint(ctx, r.ID)
	require.NoError(t, err)
	for _, n := range w.nodes {
		got, err := n.replicas.SharedFingerprint(ctx, r.ID)
		require.NoError(t, err)
		require.Equal(t, want, got)
		rep, err := n.replicas.Check(ctx, r.ID, false, nil)
		require.NoError(t, err)
		require.Empty(t, rep.Faults)
		require.Zero(t, rep.Bad, "entries that are void")
	}
	for _, n := range w.nodes {
		require.NoError(t, n.Close())
	}
}
