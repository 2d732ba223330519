package badger

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/kv/kvtest"
)

func TestConformance(t *testing.T) {
	t.Run("memory", func(t *testing.T) {
		kvtest.Run(t, func(t testing.TB) kv.Store { return open(t, "") })
	})
	t.Run("disk", func(t *testing.T) { kvtest.Run(t, openTemporary) })
	kvtest.RunDisk(t, func(dir string, reserve uint64, free kvtest.FreeBytes) (kv.Store, error) {
		s, err := Open(dir, Options{Reserve: reserve, FreeBytes: free})
		if err != nil {
			return nil, err // and no interface that holds nothing
		}
		return s, nil
	})
}

func open(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := Open(dir, Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
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

func TestMalformedFormatIsRefused(t *testing.T) {
	for _, version := range [][]byte{{}, {0}, {0x80}} {
		dir := t.TempDir()
		s := open(t, dir)
		tx := s.db.NewTransaction(true)
		require.NoError(t, tx.Set(versionKey, version))
		require.NoError(t, tx.Commit())
		require.NoError(t, s.Close())
		_, err := Open(dir, Options{})
		require.ErrorContains(t, err, "its format version is malformed")
	}
}

// What a program of before the first release has written is refused, and stays as it is.
func TestOlderFormatIsRefused(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	tx := s.db.NewTransaction(true)
	require.NoError(t, tx.Delete(versionKey))
	require.NoError(t, tx.Set(oldVersionKey, []byte{3}))
	require.NoError(t, tx.Commit())
	require.NoError(t, s.Close())
	for range 2 {
		_, err := Open(dir, Options{})
		var old *kv.OldFormatError
		require.ErrorAs(t, err, &old)
		require.Equal(t, dir, old.Dir)
	}
}
