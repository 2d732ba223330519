package datadir

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/kv/pebble"
)

// A directory with the Badger database of before the first release is refused, and nothing begins
// beside it.
func TestDirectoryOfBeforeTheFirstRelease(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, oldStoreDir), 0o700))
	d, err := Open(dir, "")
	require.NoError(t, err)
	defer func() { require.NoError(t, d.Close()) }()
	_, err = d.OpenStore(pebble.Options{})
	var old *kv.OldFormatError
	require.ErrorAs(t, err, &old)
	require.ErrorContains(t, err, "export")
	require.NoDirExists(t, filepath.Join(dir, storeDir))
}

// Whoever finds a directory in use is told by whom; the next one that opens it has the same key.
func TestOneProcessHasADirectory(t *testing.T) {
	dir := t.TempDir()
	_, err := ReadOwner(dir)
	require.ErrorIs(t, err, fs.ErrNotExist)
	d, err := Open(dir, "skerry share")
	require.NoError(t, err)
	key, err := d.Key()
	require.NoError(t, err)
	require.NoError(t, d.SetNode("me"))
	require.NoError(t, d.SetAPI("socket"))
	_, err = Open(dir, "another")
	var inUse *InUseError
	require.ErrorAs(t, err, &inUse)
	require.Equal(t, "skerry share", inUse.Owner.Command)
	require.Equal(t, "me", inUse.Owner.NodeID)
	require.Equal(t, "socket", inUse.Owner.API)
	require.Equal(t, os.Getpid(), inUse.Owner.PID)
	require.NoError(t, d.Close())

	d, err = Open(dir, "another")
	require.NoError(t, err)
	same, err := d.Key()
	require.NoError(t, err)
	require.Equal(t, key, same)
	require.NoError(t, d.Close())
	_, err = ReadOwner(dir)
	require.ErrorIs(t, err, fs.ErrNotExist)
}
