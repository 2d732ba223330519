package seed

import (
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/identity"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/node/repair"
	"github.com/skerry-sync/skerry/replica"
)

// What a seed has refused is not fetched after its store has been repaired, before it has looked at
// it again.
func TestRepairedStoreKeepsTheQuota(t *testing.T) {
	const limit = 1 << 20
	reg := NewRegistry(Limits{Bytes: limit, Replicas: 2, Grace: time.Hour}, nil)
	cfg := node.Config{Dir: t.TempDir(), Host: reg}
	n, err := node.Open(t.Context(), cfg)
	require.NoError(t, err)
	x := &shop{
		Seed: New(n, reg, slog.New(slog.DiscardHandler), nil), who: identity.ID{1},
		author: replica.NewSecretKey(),
	}
	x.now = uint64(time.Now().Add(-time.Hour).UnixMicro())
	x.secret = x.register(t, x.who)
	require.Equal(
		t, 2, x.write(t, x.secret, replica.Change{Key: []byte("fits"), Hash: blobs.Hash{1}, Size: 1000},
			replica.Change{Key: []byte("does not"), Hash: blobs.Hash{2}, Size: 10 * limit}),
	)
	pending := func(n *node.Node) int {
		count, err := n.PendingContent(t.Context(), x.secret.Replica())
		require.NoError(t, err)
		return count
	}
	require.Equal(t, 1, pending(n))
	require.NoError(t, n.Close())
	_, err = repair.Store(
		t.Context(), node.Config{Dir: cfg.Dir, Host: NewRegistry(Limits{}, nil)}, nil,
	)
	require.NoError(t, err)
	n, err = node.Open(t.Context(), cfg)
	require.NoError(t, err)
	defer func() { require.NoError(t, n.Close()) }()
	require.Equal(t, 1, pending(n))
	x.Seed = New(n, reg, slog.New(slog.DiscardHandler), nil)
	state, _ := x.state(t, x.who, x.secret.Replica())
	require.Equal(t, Paused, state)
}
