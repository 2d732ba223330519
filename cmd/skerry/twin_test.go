package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/api"
)

// output returns what a command writes to standard output and standard error, also if it fails.
func (p *proc) output(args ...string) (stdout, stderr string) {
	var out, err bytes.Buffer
	cmd := exec.Command("skerry", append([]string{"--dir", p.dir}, args...)...)
	cmd.Stdout, cmd.Stderr = &out, &err
	_ = cmd.Run() // it may fail, and says why
	return out.String(), err.String()
}

func statusOf(t *testing.T, text string) (st api.Status) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(text), &st))
	return st
}

// Two nodes run on copies of a data directory. One that learns by a ticket where the other is says
// so in status, when it writes and to the doctor, and says what to do; that makes two nodes of them
// that share what both hold.
func TestCopiedNode(t *testing.T) {
	dir := t.TempDir()
	a := startProc(t, filepath.Join(dir, "a"), "/ip4/127.0.0.1/tcp/0")
	a.must("replica", "new", "notes")
	id := a.must("status", "-q")
	a.stop()
	require.NoError(t, os.CopyFS(filepath.Join(dir, "b"), os.DirFS(a.dir)))
	a = startProc(t, a.dir, "/ip4/127.0.0.1/tcp/0")
	ticket := a.must("replica", "share", "notes", "--mode", "write", "-q")
	b := startProc(t, filepath.Join(dir, "b"), "/ip4/127.0.0.1/tcp/0")
	require.Equal(t, id, b.must("status", "-q"))
	require.NotContains(t, b.must("status"), "warning")
	_, _ = b.run("replica", "join", ticket) // there is nobody else to sync with
	require.Eventually(t, func() bool {
		out, err := b.run("status", "--json")
		return err == nil && len(statusOf(t, out).Warnings) == 1
	}, 20*time.Second, 50*time.Millisecond)
	require.Contains(t, b.must("status"), "skerry store renew-key")
	_, stderr := b.output("replica", "set", "notes", "k", "v")
	require.Contains(t, stderr, "another node runs with this node's key at /ip4/127.0.0.1/tcp/")
	out, _ := b.output("doctor", "--network")
	require.Contains(t, out, "node key")
	_, stderr = b.output("store", "renew-key")
	require.Contains(t, stderr, "in use")

	b.stop()
	renewed := b.must("store", "renew-key", "-q")
	require.NotEqual(t, id, renewed)
	b = startProc(t, b.dir, "/ip4/127.0.0.1/tcp/0")
	require.Equal(t, renewed, b.must("status", "-q"))
	b.must("replica", "join", ticket)
	b.must("replica", "sync", "notes")
	require.NotContains(t, b.must("status"), "warning")
	require.Equal(t, "v", a.must("replica", "get", "notes", "k"))
	nobody := &proc{t: t, dir: filepath.Join(dir, "none")}
	_, stderr = nobody.output("store", "renew-key")
	require.Contains(t, stderr, "there is no node at")
	require.NoDirExists(t, nobody.dir)
}
