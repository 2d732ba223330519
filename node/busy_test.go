package node

import (
	"context"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/kv/pebble"
	"github.com/skerry-sync/skerry/node/contacts"
	"github.com/skerry-sync/skerry/node/simnet"
	"github.com/skerry-sync/skerry/replica"
)

// A peer that still holds an earlier session for one under way, as after a command that has just
// ended, is asked again until it is done; one that stays so is given up after a while.
func TestBusyPeerIsAskedAgain(t *testing.T) {
	for _, lasts := range []time.Duration{3 * time.Second, time.Hour} {
		bubble(t, func(t *testing.T) {
			net := simnet.New(5)
			var all []*Node
			for range 2 {
				n, err := Open(t.Context(), Config{Dir: t.TempDir(), Store: pebble.Options{FS: vfs.NewMem()}})
				require.NoError(t, err)
				require.NoError(t, n.GoOnline(net.End(n.ID())))
				all = append(all, n)
			}
			r, err := all[0].replicas.Create(t.Context(), "r")
			require.NoError(t, err)
			_, err = all[1].replicas.Join(t.Context(), r)
			require.NoError(t, err)
			require.NoError(
				t, all[1].Remember(t.Context(), []replica.ID{r.ID}, []peer.AddrInfo{{ID: all[0].ID()}}),
			)
			time.Sleep(time.Minute)

			leave, ok := all[0].sessions.Accept(r.ID, all[1].ID(), all[0].ID())
			require.True(t, ok)
			over := time.AfterFunc(lasts, leave)
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			results, err := all[1].SyncNow(ctx, r.ID, all[0].ID(), nil)
			cancel()
			require.NoError(t, err)
			require.Len(t, results, 1)
			if lasts < time.Minute {
				require.NoError(t, results[0].Err)
			} else {
				require.ErrorIs(t, results[0].Err, contacts.ErrBusy)
			}
			if over.Stop() {
				leave()
			}
			for _, n := range all {
				require.NoError(t, n.Close())
			}
		})
	}
}
