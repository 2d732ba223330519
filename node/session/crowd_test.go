package session

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/node/holders"
	"github.com/skerry-sync/skerry/node/names"
	"github.com/skerry-sync/skerry/replica"
)

// Overviews are another way to prove that one holds a replica, with the same bounds.
func TestOverviewsOfACrowdAreBounded(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	n := alone(t, &now)
	r, err := n.replicas.Create(t.Context(), "r")
	require.NoError(t, err)
	id := r.ID
	named, err := n.holders.Named(t.Context(), []replica.ID{id}, []peer.AddrInfo{{ID: "named"}})
	require.NoError(t, err)
	n.contacts.NameAll(named[0].ID, []replica.ID{id})
	for i := range 200 {
		p := peer.ID(fmt.Sprintf("crowd %05d", i))
		n.contacts.Changed(p, true)
		o := &overview{key: [32]byte{byte(i)}}
		out := outcome{unknown: map[[32]byte]bool{names.Token(id, o.key): true}}
		require.NoError(t, n.conclude(t.Context(), pipeStream{remote: p}, o, out, false))
		n.contacts.Changed(p, false)
	}
	all, err := n.holders.Of(t.Context(), id)
	require.NoError(t, err)
	require.True(t, slices.ContainsFunc(all, func(h holders.Holder) bool { return h.ID == "named" }))
	require.LessOrEqual(t, len(all), 64+1)
}

// A slow peer's outbox holds a bounded number of bytes, however long the keys are.
func TestOutboxIsBounded(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	n := alone(t, &now)
	r, err := n.replicas.Create(t.Context(), "r")
	require.NoError(t, err)
	id := r.ID
	o := &outbox{n: n.Syncer, p: "p", busy: true} // its goroutine waits for the peer
	var once sync.Once
	for range maxOutbox {
		o.add(t.Context(), replica.Entry{Replica: id, Key: make([]byte, 60<<10)})
		held := 0
		for i := range o.entries {
			held += len(o.entries[i].Key)
		}
		if held > maxOutboxBytes {
			once.Do(func() { t.Errorf("%d bytes wait", held) })
			break
		}
	}
}
