//go:build unix

package disk

import (
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestListenUnixRemovesOnlyStaleSockets(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	for what, make := range map[string]func(){
		"a file":      func() { put(t, path, "precious") },
		"a directory": func() { require.NoError(t, os.Mkdir(path, 0o700)) },
		"a link":      func() { require.NoError(t, os.Symlink("elsewhere", path)) },
		"a pipe":      func() { require.NoError(t, syscall.Mkfifo(path, 0o600)) },
	} {
		make()
		before, err := os.Lstat(path)
		require.NoError(t, err)
		_, err = ListenUnix(path)
		require.ErrorIs(t, err, fs.ErrExist, what)
		after, err := os.Lstat(path)
		require.NoError(t, err, what)
		require.True(t, os.SameFile(before, after), what)
		require.NoError(t, os.Remove(path))
	}

	l, err := ListenUnix(path)
	require.NoError(t, err)
	st, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o600), st.Mode().Perm())
	_, err = ListenUnix(path)
	require.ErrorIs(t, err, ErrSocketInUse)
	require.NoError(t, l.Close())
	require.NoFileExists(t, path)

	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	require.NoError(t, err)
	stale.SetUnlinkOnClose(false)
	require.NoError(t, stale.Close())
	l, err = ListenUnix(path)
	require.NoError(t, err, "a socket that a dead process left")

	require.NoError(t, os.Remove(path))
	put(t, path, "theirs")
	require.NoError(t, l.Close())
	require.Equal(t, "theirs", content(t, path), "closing removes the own socket alone")
}
