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
		{fmt.Errorf("--network-key: %w", notThere), "--network-key: /nonexistent: no such file or directory"},
		{errors.Join(notThere, errors.New("and more")), "/nonexistent: no such file or directory\nand more"},
		{&os.LinkError{Op: "rename", Old: "a", New: "b", Err: syscall.EXDEV}, "b: invalid cross-device link"},
		{fmt.Errorf("gateway: %w", &net.OpError{Op: "listen", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 80},
			Err: os.NewSyscallError("bind", syscall.EADDRINUSE)}), "gateway: 127.0.0.1:80: address already in use"},
		{&fs.PathError{Op: "open", Path: "a\xff\ufffd", Err: fs.ErrNotExist}, `a\xff` + "\ufffd: file does not exist"},
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

// The names of what is left out of a directory are carried, not replaced (kopia #1764).
func TestNamesOfWhatIsLeftOut(t *testing.T) {
	require.Equal(t, []string{"plain", "hex:66ff", "hex:6865783a616263"},
		pathTexts([]string{"plain", "f\xff", "hex:abc"}))
}

// A directory that is named is verified with what it lists; a blob that lists nothing is itself.
func TestVerifyOfADirectory(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	for _, name := range []string{"one", "two"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600))
	}
	c, _ := open(t)
	var added []Added
	require.NoError(
		t,
		every(ctx, c, "blob/add", AddRequest{Paths: []string{dir, filepath.Join(dir, "one")}},
			func(a Added) error { added = append(added, a); return nil }),
	)
	verify := func(hashes ...string) Verified {
		sum, err := both[Damage, Verified](
			ctx,
			c,
			"blob/verify",
			VerifyRequest{Hashes: hashes},
			func(Damage) error { return nil },
		)
		require.NoError(t, err)
		return sum
	}
	tree, one := added[0].Hash.String(), added[1].Hash.String()
	require.Equal(t, 4, verify(tree).Blobs, "the sequence, the manifest and two files")
	require.Equal(t, 4, verify(tree, one, tree).Blobs, "each once")
	require.Equal(t, 1, verify(one).Blobs)
	_, err := call[BlobInfo](ctx, c, "blob/rm", HashRequest{Hash: one})
	require.NoError(t, err)
	sum := verify(tree)
	require.Equal(t, 3, sum.Blobs)
	require.Equal(t, 1, sum.Missing)
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
