package node

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/replica"
)

// TestSimulationOfEpochs has nodes that share an encrypted replica write, grant, revoke and begin
// epochs, several of them with the replica key, with all the trouble of TestSimulation. In the end
// all agree about the present epoch, whoever has the replica key can read everything, and nobody
// who was revoked at last has the present read key.
func TestSimulationOfEpochs(t *testing.T) {
	for seed := *firstSeed; seed < *firstSeed+*seeds; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			bubble(t, func(t *testing.T) { simulateEpochs(t, seed) })
		})
	}
}

func simulateEpochs(t *testing.T, seed uint64) {
	ctx := context.Background()
	w := newSimWorld(t, seed)
	r, err := w.nodes[0].replicas.CreateEncrypted(ctx, "r")
	require.NoError(t, err)
	first, err := w.nodes[0].replicas.ReadKey(ctx, r.ID)
	require.NoError(t, err)
	owners := map[int]bool{0: true}
	authors := make([]replica.AuthorID, len(w.nodes))
	for i, n := range w.nodes {
		if authors[i], err = n.replicas.NewAuthor(ctx); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			continue
		}
		joined := r
		if owners[i] = i == 1 && len(w.nodes) > 2; !owners[i] {
			joined.Capability, joined.Secret = replica.Read, replica.SecretKey{}
		}
		_, err := n.replicas.Join(ctx, joined, first)
		require.NoError(t, err)
		w.introduce(n, r.ID, i)
	}
	allowed := func(err error, also ...error) {
		var no *replica.NotAllowedError
		if err == nil || errors.As(err, &no) || errors.Is(err, replica.ErrCannotGrant) ||
			errors.Is(err, replica.ErrNoReadKey) || errors.Is(err, replica.ErrNotFound) {
			return
		}
		for _, x := range also {
			if errors.Is(err, x) {
				return
			}
		}
		require.NoError(t, err)
	}
	for range 50 {
		i := w.rng.IntN(len(w.nodes))
		n, other := w.nodes[i], w.rng.IntN(len(authors))
		switch w.rng.IntN(9) {
		case 0, 1:
			w.trouble(n)
		case 2:
			_, err := n.Grant(
				ctx, r.ID, authors[other],
				replica.Permission{Prefix: []byte([]string{"", "a/", "a/b/"}[w.rng.IntN(3)])},
			)
			allowed(err)
		case 3:
			if !owners[other] {
				_, err := n.Revoke(ctx, r.ID, authors[other], uint64(n.cfg.Now().UnixMicro()))
				allowed(err)
			}
		case 4:
			_, err := n.Rotate(ctx, r.ID)
			allowed(err)
		default:
			p, err := n.replicas.Plain(ctx, r.ID)
			if errors.Is(err, replica.ErrNoReadKey) {
				continue
			}
			require.NoError(t, err)
			key, err := n.replicas.AuthorKey(ctx, authors[i])
			require.NoError(t, err)
			_, err = n.replicas.WritePlain(ctx, p, key, []replica.Change{{
				Key:  []byte([]string{"a/1", "a/b/2", "c"}[w.rng.IntN(3)]),
				Hash: blobs.HashOf([]byte{byte(w.rng.IntN(9))}), Size: 1,
			}})
			allowed(err)
		}
		w.sleep(20 * time.Second)
	}
	w.heal()
	// Somebody is revoked at last, or not.
	gone := 1 + w.rng.IntN(len(w.nodes)-1)
	if !owners[gone] {
		n := w.nodes[0]
		_, err := n.Grant(ctx, r.ID, authors[gone], replica.Permission{})
		require.NoError(t, err)
		time.Sleep(time.Hour)
		_, err = n.Revoke(ctx, r.ID, authors[gone], uint64(n.cfg.Now().UnixMicro()))
		require.NoError(t, err)
	}
	time.Sleep(2 * time.Hour)
	want, err := w.nodes[0].replicas.SharedFingerprint(ctx, r.ID)
	require.NoError(t, err)
	present, err := w.nodes[0].replicas.ReadKey(ctx, r.ID)
	require.NoError(t, err)
	for i, n := range w.nodes {
		got, err := n.replicas.SharedFingerprint(ctx, r.ID)
		require.NoError(t, err)
		require.Equal(t, want, got)
		rep, err := n.replicas.Check(ctx, r.ID, false, nil)
		require.NoError(t, err)
		require.Empty(t, rep.Faults)
		require.Zero(t, rep.Bad)
		key, err := n.replicas.ReadKey(ctx, r.ID)
		if owners[i] {
			require.NoError(t, err)
			require.Equal(t, [32]byte(present.Key), [32]byte(key.Key), "all seal with the same key")
			p, err := n.replicas.Plain(ctx, r.ID)
			require.NoError(t, err)
			for _, err := range p.Latest(ctx, replica.Query{}) {
				require.NoError(t, err)
			}
			require.Zero(t, p.Unreadable(), "who has the replica key reads everything")
			continue
		}
		if err == nil {
			require.Equal(t, [32]byte(present.Key), [32]byte(key.Key))
		}
		if i == gone {
			require.ErrorIs(t, err, replica.ErrNoReadKey, "who was revoked does not have the present key")
		}
	}
	for _, n := range w.nodes {
		require.NoError(t, n.Close())
	}
}
