package store_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/store/storetest"
)

func TestMemory(t *testing.T) {
	storetest.Run(t, false, func(*testing.T, string) store.Store { return store.NewMemory() })
}

func TestDirectory(t *testing.T) {
	dir := t.TempDir()
	storetest.Run(t, true, func(t *testing.T, name string) store.Store {
		s, err := store.OpenDirectory(filepath.Join(dir, name))
		require.NoError(t, err)
		return s
	})
}

// What was left by a write that was cut off is no object, and a write that fails leaves what was
// there.
func TestDirectoryHalfWritten(t *testing.T) {
	dir := t.TempDir()
	s, err := store.OpenDirectory(dir)
	require.NoError(t, err)
	ctx := t.Context()
	require.NoError(t, s.Put(ctx, "a/b", &store.Object{Body: []byte("1")}, store.Whatever))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a", "~123"), []byte("half"), 0o600))
	all, err := s.List(ctx, "", "", 10)
	require.NoError(t, err)
	require.Equal(t, []string{"a/b"}, all)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "c"), nil, 0o600)) // in the way of a directory
	require.Error(t, s.Put(ctx, "c/d", &store.Object{Body: []byte("2")}, store.Whatever))
	all, err = s.List(ctx, "", "", 10)
	require.NoError(t, err)
	require.Equal(t, []string{"a/b"}, all)
}

func TestMemo(t *testing.T) {
	o := &store.Object{}
	calls := 0
	for range 3 {
		require.Equal(t, 1, o.Memo(func() any { calls++; return calls }))
	}
}

func TestFuncs(t *testing.T) {
	ctx := store.WithRequest(t.Context(), &store.Request{Collection: "notes", Identity: "alice"})
	f := &store.Funcs{}
	_, err := f.Get(ctx, "k")
	require.ErrorIs(t, err, store.ErrNotFound)
	require.NoError(t, f.Put(ctx, "k", &store.Object{}, store.Whatever))
	all, err := f.List(ctx, "", "", 1)
	require.NoError(t, err)
	require.Empty(t, all)
	require.NoError(t, f.Delete(ctx, "k"))
	require.NoError(t, f.Close())
	f.OnDelete = func(ctx context.Context, key string) error {
		require.Equal(t, "alice", store.RequestOf(ctx).Identity)
		require.Equal(t, "k", key)
		return store.ErrChanged
	}
	require.ErrorIs(t, f.Delete(ctx, "k"), store.ErrChanged)
	require.Nil(t, store.RequestOf(t.Context()))
}
