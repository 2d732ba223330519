package node

import (
	"context"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/kv/pebble"
	"github.com/skerry-sync/skerry/replica"
)

// What an earlier version wanted, by hash, is wanted still.
func TestMigrateWanted(t *testing.T) {
	ctx := context.Background()
	n, err := Open(ctx, Config{Dir: t.TempDir(), Store: pebble.Options{FS: vfs.NewCrashableMem()}})
	require.NoError(t, err)
	defer func() { require.NoError(t, n.Close()) }()
	const count = dropAtOnce + 10
	one, other := replica.ID{1}, replica.ID{2}
	require.NoError(t, n.kv.Update(ctx, func(tx kv.Txn) error {
		for i := range count {
			e := replica.Entry{Replica: one, Hash: blobs.Hash{byte(i), byte(i >> 8)}, Size: uint64(i), Key: []byte{byte(i), byte(i >> 8)}}
			if i%2 == 1 {
				e.Replica = other
			}
			if err := setWanted(tx, &e); err != nil {
				return err
			}
			key := wantedKey(&e)
			v, err := tx.Get(key)
			if err != nil {
				return err
			}
			k := key[len(keyWanted):]
			old := append(append(append([]byte(keyOldWanted), k[32:64]...), k[:32]...), k[64:]...)
			if err := tx.Delete(key); err != nil {
				return err
			}
			if err := tx.Set(old, v); err != nil {
				return err
			}
		}
		return nil
	}))
	pending, err := n.PendingContent(ctx, one)
	require.NoError(t, err)
	require.Zero(t, pending)
	require.NoError(t, n.migrateWanted(ctx))
	for _, id := range []replica.ID{one, other} {
		pending, err = n.PendingContent(ctx, id)
		require.NoError(t, err)
		require.Equal(t, count/2, pending)
		require.NoError(t, n.eachWanted(ctx, id, func(w wantedContent) {
			require.Equal(t, id, w.replica)
			require.Equal(t, w.hash[:2], w.entry)
			require.EqualValues(t, int(w.hash[0])|int(w.hash[1])<<8, w.size)
		}))
	}
	require.NoError(t, n.kv.View(ctx, func(r kv.Reader) error {
		for range r.Scan(kv.Prefix([]byte(keyOldWanted)), kv.ScanOptions{}) {
			t.Error("an old record is left")
		}
		return nil
	}))
}
