package node_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/replica"
)

// A peer that was put back to an old state, or hides what it has had, is noticed by who has synced
// with it before.
func TestRolledBackPeer(t *testing.T) {
	dirA, dirB, old := t.TempDir(), t.TempDir(), filepath.Join(t.TempDir(), "old")
	var ahead atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	a, _ := startConfigured(t, node.Config{Dir: dirA, Now: now}, "/ip4/127.0.0.1/tcp/0")
	b, stopB := startConfigured(t, node.Config{Dir: dirB, Now: now}, "/ip4/127.0.0.1/tcp/0")
	ctx := t.Context()
	r, err := a.CreateReplica(ctx, "r", false)
	require.NoError(t, err)
	set(t, a, r.ID, "first", "1")
	tk, err := a.Ticket(ctx, r, replica.Write)
	require.NoError(t, err)
	_, err = b.Join(ctx, tk, "r")
	require.NoError(t, err)
	listen := b.Addrs()[0].String()
	listen = listen[:strings.Index(listen, "/p2p/")]
	stopB()
	require.NoError(t, os.CopyFS(old, os.DirFS(dirB)))
	b, stopB = startConfigured(t, node.Config{Dir: dirB, Now: now}, listen)
	session := func() (lost int) {
		t.Helper()
		results, err := a.SyncNow(ctx, r.ID, b.ID(), nil)
		require.NoError(t, err)
		require.Len(t, results, 1)
		require.NoError(t, results[0].Err)
		return results[0].Lost
	}
	require.Zero(t, session())
	set(t, a, r.ID, "second", "2")
	set(t, a, r.ID, "third", "3")
	eventually(t, "it came", func() bool { return has(b, r.ID, "third", "3") })
	ahead.Add(int64(time.Hour))
	require.Zero(t, session())
	set(t, b, r.ID, "third", "replaced there")
	eventually(t, "and back", func() bool { return has(a, r.ID, "third", "replaced there") })
	require.Zero(t, session(), "what was replaced is not lost")
	stopB()
	require.NoError(t, os.RemoveAll(dirB))
	require.NoError(t, os.Rename(old, dirB))
	b, _ = startConfigured(t, node.Config{Dir: dirB, Now: now}, listen)
	eventually(t, "it was noticed", func() bool {
		if _, err := a.SyncNow(ctx, r.ID, b.ID(), nil); err != nil {
			return false
		}
		lost, then, err := a.Lost(ctx, r.ID, b.ID())
		require.NoError(t, err)
		return lost > 0 && now().Sub(then) < time.Minute
	})
	require.Zero(t, session(), "it has all again")
}
