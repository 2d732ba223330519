package main

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/api"
	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/node/datadir"
	"github.com/skerry-sync/skerry/node/libp2pnet"
	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/ticket"
)

// proc is a node in a process of its own.
type proc struct {
	t   *testing.T
	dir string
	cmd *exec.Cmd
}

func startProc(t *testing.T, dir string, listen string) *proc {
	t.Helper()
	p := &proc{
		t: t, dir: dir,
		cmd: exec.Command("skerry", "--dir", dir, "up", "-q", "--no-discovery", "--listen", listen),
	}
	p.cmd.Stderr = os.Stderr
	require.NoError(t, p.cmd.Start())
	t.Cleanup(p.kill)
	require.Eventually(t, func() bool {
		return exec.Command("skerry", "--dir", dir, "status").Run() == nil
	}, 20*time.Second, 20*time.Millisecond)
	return p
}

// kill ends the process as a power switch would; a second call does nothing.
func (p *proc) kill() {
	if p.cmd.ProcessState == nil {
		_ = p.cmd.Process.Signal(syscall.SIGKILL) // it may have ended by itself
		_ = p.cmd.Wait()                          // reports the signal
	}
}

// stop ends the process as a person does.
func (p *proc) stop() {
	p.t.Helper()
	require.NoError(p.t, p.cmd.Process.Signal(os.Interrupt))
	require.NoError(p.t, p.cmd.Wait())
}

func (p *proc) run(args ...string) (string, error) {
	out, err := exec.Command("skerry", append([]string{"--dir", p.dir}, args...)...).Output()
	return strings.TrimSpace(string(out)), err
}

func (p *proc) must(args ...string) string {
	p.t.Helper()
	out, err := p.run(args...)
	require.NoError(p.t, err, "%v", args)
	return out
}

// present returns how much of the only large blob the node has. It asks the node directly, to be
// quick enough to catch it in the middle.
func (p *proc) present() (have, size uint64) {
	owner, err := datadir.ReadOwner(p.dir)
	require.NoError(p.t, err)
	c := api.Dial(owner.API)
	defer c.Close()
	require.NoError(p.t, c.BlobList(p.t.Context(), func(b api.BlobInfo) error {
		if b.Size > 1<<20 {
			have, size = b.Present, b.Size
		}
		return nil
	}))
	return have, size
}

// commit returns when a small change has been committed, without waiting for the disk, and so all
// that was committed before it. The node holds a replica "own".
func (p *proc) commit() {
	owner, err := datadir.ReadOwner(p.dir)
	require.NoError(p.t, err)
	c := api.Dial(owner.API)
	defer c.Close()
	_, err = c.ReplicaPolicy(p.t.Context(), api.PolicyRequest{Name: "own", Policy: &api.Policy{}})
	require.NoError(p.t, err)
}

// TestKilledTransferResumes kills the receiving node, and then the serving one, in the middle of a
// transfer between real processes. What was verified and written is there afterwards and is not
// fetched again, what was acknowledged is not lost, and the content is right.
func TestKilledTransferResumes(t *testing.T) {
	const listen = "/ip4/127.0.0.1/tcp/0"
	dirA, dirB := filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "b")
	a, b := startProc(t, dirA, listen), startProc(t, dirB, listen)
	data := make([]byte, 192<<20)
	for i := range data {
		data[i] = byte(i>>12 ^ i*7)
	}
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, data, 0o600))
	a.must("replica", "new", "notes")
	a.must("replica", "set", "notes", "key", "acknowledged")
	b.must("replica", "new", "own")
	share := exec.Command("skerry", "--dir", dirA, "share", "-q", file)
	out, err := share.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, share.Start())
	t.Cleanup(func() { _ = share.Process.Kill(); _ = share.Wait() })
	line := make([]byte, 16<<10)
	n, err := out.Read(line)
	require.NoError(t, err)
	ticket := strings.TrimSpace(string(line[:n]))

	interrupted := func(victim *proc) (have uint64) {
		target := filepath.Join(t.TempDir(), "never")
		get := exec.Command("skerry", "--dir", dirB, "get", ticket, "-o", target)
		require.NoError(t, get.Start())
		start, _ := b.present()
		require.Eventually(t, func() bool {
			have, _ = b.present()
			return have > start+16<<20
		}, 30*time.Second, time.Millisecond)
		b.commit() // what has been seen may have been on its way to the system still
		victim.kill()
		require.Error(t, get.Wait(), "the transfer was cut")
		require.NoFileExists(t, target)
		return have
	}

	have := interrupted(b)
	b = startProc(t, dirB, listen)
	after, size := b.present()
	require.GreaterOrEqual(t, after, have, "nothing that was stored is lost")
	require.Less(t, after, size, "the transfer was cut in the middle")

	have = interrupted(a)
	after, _ = b.present()
	require.GreaterOrEqual(t, after, have)
	require.Less(t, after, size)
	a = startProc(t, dirA, addressIn(t, ticket)) // where it was
	require.Equal(t, "acknowledged", a.must("replica", "get", "notes", "key"))

	target := filepath.Join(t.TempDir(), "got")
	var got api.Got
	require.NoError(t, json.Unmarshal([]byte(b.must("get", ticket, "-o", target, "--json")), &got))
	require.Equal(t, size-after, got.FetchedBytes, "no verified group is fetched again")
	result, err := os.ReadFile(target)
	require.NoError(t, err)
	require.True(t, bytes.Equal(data, result))
	b.must("blob", "verify")
}

// addressIn returns the first address in a ticket, without the peer.
func addressIn(t *testing.T, ticket string) string {
	out, err := exec.Command("skerry", "ticket", "inspect", ticket, "--json").Output()
	require.NoError(t, err)
	var info struct {
		Peers []struct{ Addrs []string }
	}
	require.NoError(t, json.Unmarshal(out, &info))
	return info.Peers[0].Addrs[0]
}

// TestLyingPeer fetches by a ticket whose first peer serves wrong bytes: alone, that ends with exit
// code 4 and nothing stored; with an honest peer behind it in the ticket, the content arrives.
func TestLyingPeer(t *testing.T) {
	content := []byte("the true content")
	honest := startProc(t, filepath.Join(t.TempDir(), "honest"), "/ip4/127.0.0.1/tcp/0")
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, content, 0o600))
	hash, err := blobs.ParseHash(honest.must("blob", "add", "-q", file))
	require.NoError(t, err)
	var status api.Status
	require.NoError(t, json.Unmarshal([]byte(honest.must("status", "--json")), &status))

	_, key, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	listen, err := ma.NewMultiaddr("/ip4/127.0.0.1/tcp/0")
	require.NoError(t, err)
	liar, err := libp2pnet.New(
		libp2pnet.Config{Key: key, Listen: []ma.Multiaddr{listen}, Log: slog.New(slog.DiscardHandler)},
	)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, liar.Close()) })
	liar.Handle("/skerry/blobs/2", func(s link.Stream) {
		_, _ = s.Read(make([]byte, 4096)) // the request
		// Here it is; its size; no ranges beyond the last group; and that group, of the right length.
		_, _ = s.Write(append([]byte{0, byte(len(content)), 0}, "the wrong content"[:len(content)]...))
		_ = s.Close()
	})
	require.NoError(t, liar.Start(func(peer.ID, bool) {}))

	text := func(addrs ...ma.Multiaddr) string {
		s, err := (&ticket.Blob{Hash: hash, Addrs: addrs}).Text()
		require.NoError(t, err)
		return s
	}
	dir, target := filepath.Join(t.TempDir(), "new"), filepath.Join(t.TempDir(), "got")
	get := func(ticket string) (string, int) {
		cmd := exec.Command("skerry", "--dir", dir, "get", ticket, "-o", target)
		out, _ := cmd.CombinedOutput() // the exit code tells
		return string(out), cmd.ProcessState.ExitCode()
	}
	out, code := get(text(liar.Addrs()[0]))
	require.Equal(t, 4, code, out)
	require.Contains(t, out, "verification failed")
	require.NoFileExists(t, target)
	listed, err := exec.Command("skerry", "--dir", dir, "blob", "ls", "-q").Output()
	require.NoError(t, err)
	require.Empty(t, listed, "nothing is stored")

	truth, err := ma.NewMultiaddr(status.Addrs[0])
	require.NoError(t, err)
	out, code = get(text(liar.Addrs()[0], truth))
	require.Zero(t, code, out)
	got, err := os.ReadFile(target)
	require.NoError(t, err)
	require.Equal(t, content, got)
}
