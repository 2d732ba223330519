package node_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	bdg "github.com/dgraph-io/badger/v4"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/kv/pebble"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/replica"
)

// age turns a data directory into one of an earlier version, whose store is a Badger database.
func age(t *testing.T, dir string) {
	t.Helper()
	ctx := context.Background()
	store, err := pebble.Open(filepath.Join(dir, "kv"), pebble.Options{})
	require.NoError(t, err)
	require.NoError(t, os.Remove(filepath.Join(dir, "store")))
	db, err := bdg.Open(bdg.DefaultOptions(filepath.Join(dir, "store")).WithLogger(nil))
	require.NoError(t, err)
	require.NoError(t, store.View(ctx, func(r kv.Reader) error {
		w := db.NewWriteBatch()
		defer w.Cancel()
		require.NoError(t, w.Set([]byte{0, 'v'}, []byte{3}))
		for p, err := range r.Scan(kv.Range{}, kv.ScanOptions{}) {
			require.NoError(t, err)
			require.NoError(t, w.Set(append([]byte{}, p.Key...), append([]byte{}, p.Value...)))
		}
		return w.Flush()
	}))
	require.NoError(t, db.Close())
	require.NoError(t, store.Close())
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "kv")))
}

func TestStoreOfEarlierVersionMoves(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	n, err := node.Open(ctx, node.Config{Dir: dir})
	require.NoError(t, err)
	r, err := n.Replicas.Create(ctx, "notes")
	require.NoError(t, err)
	set(t, n, r.ID, "k", "value")
	require.NoError(t, n.Close())
	info, err := os.Stat(filepath.Join(dir, "store"))
	require.NoError(t, err)
	require.True(t, info.Mode().IsRegular(), "a program of an earlier version must not make a store of its own beside this one")

	check := func() {
		t.Helper()
		n, err := node.Open(ctx, node.Config{Dir: dir})
		require.NoError(t, err)
		keys := 0
		for e, err := range n.Replicas.Entries(ctx, r.ID, replica.Query{}) {
			require.NoError(t, err)
			require.Equal(t, "k", string(e.Key))
			keys++
		}
		require.Equal(t, 1, keys)
		require.NoError(t, n.Close())
		info, err := os.Stat(filepath.Join(dir, "store"))
		require.NoError(t, err)
		require.True(t, info.Mode().IsRegular())
		require.NoDirExists(t, filepath.Join(dir, "kv.new"))
	}
	t.Run("moved", func(t *testing.T) {
		age(t, dir)
		check()
	})
	t.Run("killed while copying", func(t *testing.T) {
		age(t, dir)
		part, err := pebble.Open(filepath.Join(dir, "kv.new"), pebble.Options{})
		require.NoError(t, err)
		require.NoError(t, part.Update(ctx, func(tx kv.Txn) error { return tx.Set([]byte("half"), nil) }))
		require.NoError(t, part.Close())
		check()
	})
	t.Run("killed before the old store was removed", func(t *testing.T) {
		require.NoError(t, os.Remove(filepath.Join(dir, "store")))
		require.NoError(t, os.Mkdir(filepath.Join(dir, "store"), 0o700))
		check()
	})
	t.Run("killed before the note was written", func(t *testing.T) {
		require.NoError(t, os.Remove(filepath.Join(dir, "store")))
		check()
	})
}
