package badger

import (
	"context"
	"errors"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/kv/kvtest"
)

func TestConformance(t *testing.T) {
	t.Run("memory", func(t *testing.T) { kvtest.Run(t, func(t testing.TB) kv.Store { return open(t, "") }) })
	t.Run("disk", func(t *testing.T) { kvtest.Run(t, func(t testing.TB) kv.Store { return open(t, t.TempDir()) }) })
}

func open(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := Open(dir, Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func TestReopenKeepsData(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	big := make([]byte, kv.MaxValueSize)
	require.NoError(t, s.Update(context.Background(), func(tx kv.Txn) error {
		return errors.Join(tx.Set([]byte("a"), []byte("1")), tx.Set([]byte("big"), big))
	}))
	require.NoError(t, s.Close())
	s = open(t, dir)
	require.NoError(t, s.View(context.Background(), func(r kv.Reader) error {
		v, err := r.Get([]byte("big"))
		require.Equal(t, big, v)
		return err
	}))
}

func TestSecondOpenNamesTheLock(t *testing.T) {
	dir := t.TempDir()
	open(t, dir)
	_, err := Open(dir, Options{})
	var locked *kv.LockedError
	require.ErrorAs(t, err, &locked)
	require.Equal(t, dir, locked.Dir)
}

func TestFullDiskRefusesWritesAndKeepsData(t *testing.T) {
	free := uint64(math.MaxUint64)
	s, err := Open(t.TempDir(), Options{Reserve: 1 << 20, FreeBytes: func(string) (uint64, error) { return free, nil }})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	ctx := context.Background()
	put := func(tx kv.Txn) error { return tx.Set([]byte("k"), []byte("v")) }
	require.NoError(t, s.Update(ctx, put))

	free = 1000
	var full *kv.NoSpaceError
	require.ErrorAs(t, s.Update(ctx, put), &full)
	require.EqualValues(t, 1000, full.Free)
	require.ErrorAs(t, s.Batch(ctx, func(w kv.Writer) error { return w.Set([]byte("x"), nil) }), &full)
	require.NoError(t, s.View(ctx, func(r kv.Reader) error {
		v, err := r.Get([]byte("k"))
		require.Equal(t, "v", string(v))
		return err
	}))

	free = 512 << 10 // a quarter is left: content is refused, small records and deletions are not
	large := func(tx kv.Txn) error { return tx.Set([]byte("large"), make([]byte, contentSize)) }
	require.ErrorAs(t, s.Update(ctx, large), &full)
	require.ErrorAs(t, s.Batch(ctx, func(w kv.Writer) error { return w.Set([]byte("large"), make([]byte, contentSize)) }), &full)
	require.NoError(t, s.Update(ctx, put))
	require.NoError(t, s.Batch(ctx, func(w kv.Writer) error { return w.Delete([]byte("k")) }))

	free = math.MaxUint64 // it fills up in the middle of a batch
	err = s.Batch(ctx, func(w kv.Writer) error {
		for i := range 64 {
			if i == 16 {
				free = 0
			}
			if err := w.Set([]byte{'b', byte(i)}, make([]byte, kv.MaxValueSize)); err != nil {
				return err
			}
		}
		return nil
	})
	require.ErrorAs(t, err, &full)
}

func TestNewerFormatIsRefused(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	tx := s.db.NewTransaction(true)
	require.NoError(t, tx.Set(versionKey, []byte{formatVersion + 1}))
	require.NoError(t, tx.Commit())
	require.NoError(t, s.Close())
	_, err := Open(dir, Options{})
	var newer *kv.VersionError
	require.ErrorAs(t, err, &newer)
	require.Equal(t, formatVersion+1, newer.Have)
	require.ErrorContains(t, err, "use a newer skerry")
}

// What a program of before the first release has written is refused, and stays as it is.
func TestOlderFormatIsRefused(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	tx := s.db.NewTransaction(true)
	require.NoError(t, errors.Join(tx.Delete(versionKey), tx.Set(oldVersionKey, []byte{3}), tx.Commit()))
	require.NoError(t, s.Close())
	for range 2 {
		_, err := Open(dir, Options{})
		var old *kv.OldFormatError
		require.ErrorAs(t, err, &old)
		require.Equal(t, dir, old.Dir)
	}
}
