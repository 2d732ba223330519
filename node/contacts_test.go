package node

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

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
	return &UnreachableError{Peer: "nobody"}
}

// OBJ-M10: a peer that cannot be reached is tried again after longer and longer times, with some chance in them, but after at most five minutes and what chance adds.
func TestBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
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
