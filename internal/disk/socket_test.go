//go:build unix

package disk

import (
	"context"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

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

// distrust has every process be of another user as long as foreign is set.
func distrust(t *testing.T) (foreign *atomic.Bool) {
	t.Helper()
	before := trusted
	foreign = new(atomic.Bool)
	trusted = func(uid int) bool {
		if uid != os.Geteuid() {
			t.Errorf("user %d was asked about, but this process is of user %d", uid, os.Geteuid())
		}
		return !foreign.Load()
	}
	t.Cleanup(func() { trusted = before })
	return foreign
}

// Where others may make files, they may take the name of a socket that is gone. Nothing is sent
// there.
func TestDialUnixRefusesOtherUsers(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	l, err := ListenUnix(path)
	require.NoError(t, err)
	defer func() { require.NoError(t, l.Close()) }()
	came := make(chan net.Conn, 3)
	go func() {
		defer close(came)
		for {
			c, err := l.(*unixListener).UnixListener.Accept()
			if err != nil {
				return
			}
			came <- c
		}
	}()
	dial := func(as string) error {
		c, err := DialUnix(t.Context(), path, as)
		if err != nil {
			return err
		}
		return c.Close()
	}
	foreign := distrust(t)
	require.NoError(t, dial(""))
	foreign.Store(true)
	err = dial("")
	require.ErrorIs(t, err, ErrForeignSocket)
	require.ErrorContains(t, err, path)
	require.ErrorIs(t, dial(filepath.Join(dir, "missing")), ErrForeignSocket)
	require.NoError(t, dial(dir), "who owns the data directory may answer for it")
	for range 3 {
		c := <-came
		n, _ := c.Read(make([]byte, 1)) // it ends without a byte
		require.Zero(t, n)
		require.NoError(t, c.Close())
	}
}

// A connection of another user, made before the socket had its mode, is closed without an answer,
// and keeps nobody else from being answered.
func TestListenUnixClosesConnectionsOfOthers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	distrusted := distrust(t)
	distrusted.Store(true)
	l, err := ListenUnix(path)
	require.NoError(t, err)
	defer func() { require.NoError(t, l.Close()) }()
	foreign, err := net.Dial("unix", path)
	require.NoError(t, err)
	type accepted struct {
		c   net.Conn
		err error
	}
	next := make(chan accepted, 1)
	go func() {
		c, err := l.Accept()
		next <- accepted{c, err}
	}()
	require.NoError(t, foreign.SetReadDeadline(time.Now().Add(10*time.Second)))
	n, err := foreign.Read(make([]byte, 1))
	require.Zero(t, n)
	require.ErrorContains(t, err, "EOF")
	require.NoError(t, foreign.Close())
	distrusted.Store(false)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	own, err := DialUnix(ctx, path, "")
	require.NoError(t, err)
	got := <-next
	require.NoError(t, got.err)
	require.NoError(t, got.c.Close())
	require.NoError(t, own.Close())
}
