package node

import (
	"context"
	"testing"
	"time"

	"github.com/skerry-sync/skerry/node/link"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/kv/pebble"
	"github.com/skerry-sync/skerry/replica"
)

// attempts notes when its node tries to connect, and never succeeds.
type attempts struct {
	*simEnd
	at *[]time.Time
}

func (a attempts) Connect(context.Context, peer.AddrInfo) error {
	*a.at = append(*a.at, time.Now())
	return &link.UnreachableError{Peer: "nobody"}
}

// OBJ-M10: a peer that cannot be reached is tried again after longer and longer times, with some
// chance in them, but after at most five minutes and what chance adds.
func TestBackOff(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx := context.Background()
		n, err := Open(ctx, Config{Dir: t.TempDir(), Store: pebble.Options{FS: vfs.NewCrashableMem()}, Now: time.Now})
		require.NoError(t, err)
		var at []time.Time
		require.NoError(t, n.GoOnline(attempts{newSimNet(1).end(n.ID()), &at}))
		r, err := n.Replicas.Create(ctx, "r")
		require.NoError(t, err)
		other, err := peer.Decode("12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN")
		require.NoError(t, err)
		require.NoError(t, n.Remember(ctx, []replica.ID{r.ID}, []peer.AddrInfo{{ID: other}}))
		time.Sleep(3 * time.Hour)
		require.NoError(t, n.Close())
		require.Greater(t, len(at), 3*60/7, "it is tried for ever")
		var gaps []time.Duration
		for i := range at[1:] {
			gaps = append(gaps, at[i+1].Sub(at[i]))
		}
		require.Less(t, gaps[0], 5*time.Second)
		for i, gap := range gaps {
			require.LessOrEqual(t, gap, lastRetry*5/4+tick, i)
			if i >= 9 { // 2 s, doubled until it is more
				require.GreaterOrEqual(t, gap, lastRetry*3/4, i)
			}
		}
		differ := map[time.Duration]bool{}
		for _, gap := range gaps[9:] {
			differ[gap] = true
		}
		require.Greater(t, len(differ), 3, "there is chance in it")
	})
}

// A node that has slept does not wait for its dead connections to be noticed, nor for the times at
// which it would have tried again.
func TestWakesUp(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx := context.Background()
		s := newSimNet(1)
		var nodes []*Node
		for range 2 {
			n, err := Open(ctx, Config{Dir: t.TempDir(), Store: pebble.Options{FS: vfs.NewCrashableMem()}, Now: time.Now})
			require.NoError(t, err)
			require.NoError(t, n.GoOnline(s.end(n.ID())))
			nodes = append(nodes, n)
		}
		a, b := nodes[0], nodes[1]
		r, err := a.Replicas.Create(ctx, "r")
		require.NoError(t, err)
		_, err = b.Replicas.Join(ctx, r)
		require.NoError(t, err)
		require.NoError(t, b.Remember(ctx, []replica.ID{r.ID}, []peer.AddrInfo{{ID: a.ID()}}))
		time.Sleep(time.Minute)
		require.True(t, b.net.Connected(a.ID()))

		b.contacts.wakeUpFrom(time.Hour)
		require.False(t, b.net.Connected(a.ID()))
		time.Sleep(tick + time.Second)
		require.True(t, b.net.Connected(a.ID()), "at once")

		// While it slept, the other was gone for long, and would be tried again late.
		s.mu.Lock()
		s.cut[pairOf(a.ID(), b.ID())] = true
		s.mu.Unlock()
		s.unlink(s.ends[a.ID()], s.ends[b.ID()])
		time.Sleep(2 * time.Hour)
		s.mu.Lock()
		s.cut[pairOf(a.ID(), b.ID())] = false
		s.mu.Unlock()
		b.contacts.wakeUpFrom(time.Hour)
		time.Sleep(tick + time.Second)
		require.True(t, b.net.Connected(a.ID()), "not after minutes")
		require.NoError(t, a.Close())
		require.NoError(t, b.Close())
	})
}
