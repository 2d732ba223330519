package node_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/node/contacts"
	"github.com/skerry-sync/skerry/node/session"
	"github.com/skerry-sync/skerry/replica"
)

// A peer that asks for ever more replicas that are not here is not answered any more, even for one
// that is; others are. And what happens is counted.
func TestFloodOfLookups(t *testing.T) {
	a, _ := start(t, t.TempDir())
	b, _ := start(t, t.TempDir())
	c, _ := start(t, t.TempDir())
	ctx := t.Context()
	r, err := a.ReplicaStore().Create(ctx, "r")
	require.NoError(t, err)
	set(t, a, r.ID, "key", "value")
	sync := func(n *node.Node, r replica.Replica) error {
		_, err := n.ReplicaStore().Join(ctx, r)
		require.NoError(t, err)
		require.NoError(t, n.Remember(ctx, []replica.ID{r.ID}, infoOf(t, a)))
		got, err := n.SyncNow(ctx, r.ID, a.ID(), nil)
		require.NoError(t, err)
		return got[0].Err
	}
	const most = 256
	node.LimitMisses(a, most)
	asked := 0
	for ; asked < 4*most; asked++ { // it asks by itself, too, and may ask again as time goes on
		if err = sync(
			b, replica.Replica{ID: replica.NewSecretKey().Replica(), Capability: replica.Sync},
		); !errors.Is(err, contacts.ErrNotShared) {
			break
		}
	}
	require.Greater(t, asked, most/4)
	require.Error(t, err)
	require.NotErrorIs(t, err, contacts.ErrNotShared)
	require.Error(t, sync(b, r), "not even what is here")
	require.NoError(t, sync(c, r))
	eventually(t, "the content", func() bool { return has(c, r.ID, "key", "value") })

	var s node.Stats
	eventually(t, "it is counted when it has ended here, too", func() bool {
		s = a.Stats()
		return s.Asked.Ended[session.Done] > 0 && s.Asked.Ended[session.NotShared] >= uint64(asked) &&
			s.ContentSent > 0 && s.EntriesSent > 0
	})
	require.GreaterOrEqual(t, s.Misses, uint64(asked))
	require.Positive(t, s.Asked.Time)
	require.Positive(t, s.SyncSent)
	require.GreaterOrEqual(t, s.ContentSent, uint64(len("value")))
	require.Equal(t, 2, s.Peers["tcp"])
	require.Zero(t, s.WrongContent+s.WrongEntries)
	got := c.Stats()
	require.Positive(t, got.Began.Ended[session.Done])
	require.Positive(t, got.EntriesGot)
	require.GreaterOrEqual(t, got.ContentGot, uint64(len("value")))
	for name, n := range got.Queues {
		require.GreaterOrEqual(t, n, 0, name)
	}
	eventually(t, "nothing is wanted any more", func() bool {
		totals, err := c.Totals(ctx)
		return err == nil && totals == (node.Totals{Replicas: 1, Entries: 1, Blobs: 1, BlobBytes: 5})
	})
}
