//go:build unix

package main

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Text of a peer that reaches the terminal of another process is shown, and does nothing there.
func TestPeersTextReachesTheTerminalCleaned(t *testing.T) {
	const listen = "/ip4/127.0.0.1/tcp/0"
	a := startProc(t, filepath.Join(t.TempDir(), "a"), listen)
	b := startProc(t, filepath.Join(t.TempDir(), "b"), listen)
	const key, escaped = "gpj.\u202eexe\u009b2J\u200b", `gpj.\u202eexe\u009b2J\u200b`
	a.must("replica", "new", "r")
	a.must("replica", "set", "r", key, "x\x1b[2J")
	b.must("replica", "join", "--name", "r", a.must("replica", "share", "r", "--mode", "read", "-q"))
	require.Eventually(t, func() bool {
		return b.must("replica", "list", "r", "-q") != ""
	}, 20*time.Second, 50*time.Millisecond)

	require.Equal(t, escaped, b.must("replica", "list", "r", "-q"))
	plain, asJSON := b.must("replica", "list", "r"), b.must("replica", "list", "r", "--json")
	for _, out := range []string{plain, asJSON} {
		require.Contains(t, out, escaped)
		for _, r := range out {
			require.True(t, r < 0x7f && (r >= ' ' || r == '\n'), "%q", out)
		}
	}
	var items []struct{ Key string }
	require.NoError(t, json.Unmarshal([]byte(asJSON), &items))
	require.Equal(t, key, items[0].Key, "JSON keeps the value")
	require.Equal(t, "x\x1b[2J", b.must("replica", "get", "r", key), "a program gets content as it is")

	out, err := exec.Command(
		"skerry", "--dir", b.dir, "replica", "get", "r", "no\u202esuch",
	).CombinedOutput()
	require.Error(t, err)
	require.NotContains(t, string(out), "\u202e")
}

// A file that was added without a copy and has become a pipe ends neither the node nor what it
// serves.
func TestNodeWithAPipeCanBeStopped(t *testing.T) {
	p := startProc(t, filepath.Join(t.TempDir(), "a"), "/ip4/127.0.0.1/tcp/0")
	name := filepath.Join(t.TempDir(), "f")
	require.NoError(t, os.WriteFile(name, make([]byte, 100_000), 0o600))
	hash := p.must("blob", "add", "--no-copy", "-q", name)
	require.NoError(t, os.Remove(name))
	require.NoError(t, syscall.Mkfifo(name, 0o600))
	ended := make(chan error, 1)
	go func() {
		_, err := p.run("blob", "cat", hash)
		ended <- err
	}()
	select {
	case err := <-ended:
		require.Error(t, err)
	case <-time.After(time.Minute):
		t.Fatal("reading hangs")
	}
	p.stop()
}

// keyring --socket takes the place of nothing but a dead process's socket.
func TestKeyringKeepsAFile(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "precious")
	require.NoError(t, os.WriteFile(name, []byte("precious"), 0o600))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // else it serves there
	defer cancel()
	out, err := exec.CommandContext(
		ctx, "skerry", "--dir", dir, "keyring", "--socket", name,
	).CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "is no socket")
	b, err := os.ReadFile(name)
	require.NoError(t, err)
	require.Equal(t, "precious", string(b))
}
