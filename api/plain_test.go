package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// Errors tell people of paths and addresses, not of system calls, and JSON carries all of them.
func TestErrorsAreForPeople(t *testing.T) {
	_, notThere := os.Stat("/nonexistent")
	for _, x := range []struct {
		err  error
		want string
	}{
		{notThere, "/nonexistent: no such file or directory"},
		{fmt.Errorf(
			"--network-key: %w", notThere,
		), "--network-key: /nonexistent: no such file or directory"},
		{errors.Join(
			notThere, errors.New("and more"),
		), "/nonexistent: no such file or directory\nand more"},
		{&os.LinkError{
			Op: "rename", Old: "a", New: "b", Err: syscall.EXDEV,
		}, "b: invalid cross-device link"},
		{fmt.Errorf(
			"gateway: %w",
			&net.OpError{Op: "listen", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 80},
				Err: os.NewSyscallError("bind", syscall.EADDRINUSE)},
		), "gateway: 127.0.0.1:80: address already in use"},
		{&fs.PathError{
			Op: "open", Path: "a\xff\ufffd", Err: fs.ErrNotExist,
		}, `a\xff` + "\ufffd: file does not exist"},
		{UsageErrorf("as it is"), "as it is"},
	} {
		got := AsError(x.err)
		require.Equal(t, x.want, got.Message)
		b, err := json.Marshal(got)
		require.NoError(t, err)
		var back Error
		require.NoError(t, json.Unmarshal(b, &back))
		require.Equal(t, x.want, back.Message)
	}
	require.Equal(t, NotFound, AsError(notThere).Kind)
}

// A node that goes away in the middle of a request is told as that, whatever the connection says.
func TestNodeGoesAway(t *testing.T) {
	at := filepath.Join(t.TempDir(), "sock")
	l, err := net.Listen("unix", at)
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() {
		for range 2 {
			conn, err := l.Accept()
			if err == nil {
				_, _ = conn.Read(make([]byte, 100)) // the request begins
				err = conn.Close()
			}
			if err != nil {
				served <- err
				return
			}
		}
		served <- nil
	}()
	c := Dial(at)
	defer c.Close()
	_, err = c.ImportBlob(t.Context(), endless{})
	require.Equal(t, ErrStopped, err)
	require.Equal(t, ErrStopped, c.ReadBlob(t.Context(), "00000000", 0, -1, false, io.Discard))
	require.NoError(t, <-served)
	require.NoError(t, l.Close())
	_, err = c.ImportBlob(t.Context(), endless{})
	require.ErrorContains(t, AsError(err), "sock: ")
	require.NotContains(t, AsError(err).Message, "connect:")
}

// endless is a body that goes on.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }
