package node

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/node/limits"
	"github.com/skerry-sync/skerry/node/session"
	"github.com/skerry-sync/skerry/node/wanted"
	"github.com/skerry-sync/skerry/replica"
)

// Entries that a session or a push sends count as uploaded, on whichever side.
func TestEntriesCountAsUploaded(t *testing.T) {
	testkit.SeenElsewhere(t)
	bubble(t, func(t *testing.T) {
		ctx := context.Background()
		w := newClaimWorld(t)
		defer w.close()
		w.Lose(1) // gossip does not count, and must not carry what is to be pushed
		require.NoError(t, w.old.Close())
		w.old.bounds = limits.Config{Upload: 1 << 30}
		w.reopen(w.old)
		spent := func() int { return int(w.old.limits.Uploaded()) }
		const count, long = 500, 1000
		key := func(i int) string { return fmt.Sprint(strings.Repeat("k", long), i) }
		for i := range count {
			w.put(w.victim, key(i), blobs.HashOf([]byte("x")), 1)
		}
		w.join(wanted.Policy{})
		entries := func() (n int) {
			for _, err := range w.fresh.replicas.Entries(ctx, w.replica.ID, replica.Query{}) {
				require.NoError(t, err)
				n++
			}
			return n
		}
		time.Sleep(10 * time.Minute)
		require.Equal(t, count, entries())
		sessions := spent()
		require.Greater(t, sessions, count*long)
		opened := w.opensOf(session.PushProtocol)
		for i := range 100 {
			w.put(w.victim, key(count+i), blobs.HashOf([]byte("x")), 1)
		}
		time.Sleep(10 * time.Second)
		require.Equal(t, count+100, entries())
		require.Greater(t, w.opensOf(session.PushProtocol), opened, "they were pushed")
		require.Greater(t, spent()-sessions, 100*long)
	})
}
