package node

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/node/session"
	"github.com/skerry-sync/skerry/replica"
)

// An author who gives two nodes entries that differ in nothing but the size does not keep them
// apart: after one session both hold the same, and the next one costs a few bytes.
func TestTiedEntriesDoNotKeepNodesApart(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx := context.Background()
		w := newSimWorld(t, 1)
		r := w.found(replica.Read)
		author := replica.NewSecretKey()
		a, b := w.nodes[0], w.nodes[1]
		g, err := a.replicas.Grant(ctx, r.ID, author.Author(), replica.Permission{Prefix: []byte("p/")})
		require.NoError(t, err)
		now := uint64(time.Now().Add(-time.Hour).UnixMicro())
		for i, n := range []*simNode{a, b} {
			_, err := n.replicas.InsertStatements(ctx, r.ID, []replica.Statement{&g})
			require.NoError(t, err)
			var entries []replica.Entry
			for k := range 500 {
				e := replica.Entry{Replica: r.ID, Timestamp: now, Size: uint64(1000 * (i + 1)),
					Hash: blobs.Hash{7, byte(k), byte(k >> 8)}, Key: fmt.Appendf(nil, "p/%06d", k)}
				e.Sign(author)
				entries = append(entries, e)
			}
			_, err = n.replicas.Insert(ctx, r.ID, entries, replica.Local)
			require.NoError(t, err)
		}
		require.NoError(t, a.end.Connect(ctx, peer.AddrInfo{ID: b.ID()}))
		var last session.Stats
		for range 3 {
			last, err = a.syncer.SyncWith(ctx, b.ID(), r.ID, nil)
			for err != nil { // one that the nodes began by themselves is under way
				time.Sleep(time.Second)
				last, err = a.syncer.SyncWith(ctx, b.ID(), r.ID, nil)
			}
		}
		require.Zero(t, last.EntriesSent+last.EntriesReceived, "nothing is sent anew")
		require.Less(t, last.BytesSent+last.BytesReceived, uint64(1000))
		f, err := a.replicas.SharedFingerprint(ctx, r.ID)
		require.NoError(t, err)
		h, err := b.replicas.SharedFingerprint(ctx, r.ID)
		require.NoError(t, err)
		require.Equal(t, f, h)
		for _, n := range w.nodes {
			require.NoError(t, n.Close())
		}
	})
}
