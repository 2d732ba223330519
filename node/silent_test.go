package node

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/node/names"
	"github.com/skerry-sync/skerry/node/simnet"
	"github.com/skerry-sync/skerry/replica"
)

// Strangers can listen to a topic, which all who are connected are told of, and pass nothing on. A
// crowd of them, who have listened before all others, keeps no entry from those who hold the
// replica, and who are connected to the writer only by way of others.
func TestSilentListenersKeepNothingBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx := context.Background()
		s, table := simnet.New(5), &simTable{absent: true}
		s.Mesh = 12
		var nodes []*Node
		for range 4 {
			nodes = append(nodes, tableNode(t, s, table, 0, nil))
		}
		r, err := nodes[0].replicas.Create(ctx, "r")
		require.NoError(t, err)
		for i := range 2 * s.Mesh {
			e := s.End(peer.ID(fmt.Sprintf("silent %02d", i)))
			require.NoError(t, e.Start(func(peer.ID, bool) {}))
			require.NoError(t, e.Join(names.Topic(r.ID),
				func(context.Context, peer.ID, []byte) link.Verdict { return link.Ignore }))
			for _, n := range nodes {
				require.NoError(t, e.Connect(ctx, peer.AddrInfo{ID: n.ID()}))
			}
		}
		for i, n := range nodes { // in a row
			if i == 0 {
				continue
			}
			for _, far := range nodes[:i-1] {
				s.Cut(n.ID(), far.ID(), true)
			}
			_, err := n.replicas.Join(ctx, r)
			require.NoError(t, err)
			before := []peer.AddrInfo{{ID: nodes[i-1].ID()}}
			require.NoError(t, n.Remember(ctx, []replica.ID{r.ID}, before))
		}
		time.Sleep(10 * time.Minute)
		author := replica.NewSecretKey()
		for i := range 20 {
			key := fmt.Sprintf("key %d", i)
			_, err := nodes[0].replicas.Write(ctx, r.ID, author, []replica.Change{
				{Key: []byte(key), Hash: blobs.Hash{1}, Size: 5},
			})
			require.NoError(t, err)
			time.Sleep(3 * time.Second)
			for j, n := range nodes {
				_, err := n.replicas.LatestOf(ctx, r.ID, []byte(key))
				require.NoError(t, err, "%s at node %d", key, j)
			}
		}
		for _, n := range nodes {
			require.NoError(t, n.Close())
		}
	})
}
