package node_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/replica"
)

// mesh starts nodes that hold one replica; each is connected to the ones before it that links
// names.
func mesh(t *testing.T, links ...[]int) (nodes []*node.Node, id replica.ID) {
	ctx := t.Context()
	for i, to := range links {
		n, _ := start(t, t.TempDir())
		nodes = append(nodes, n)
		if i == 0 {
			r, err := n.ReplicaStore().Create(ctx, "r")
			require.NoError(t, err)
			id = r.ID
			continue
		}
		for _, j := range to {
			r, err := nodes[j].ReplicaStore().Get(ctx, id)
			require.NoError(t, err)
			tk, err := nodes[j].Ticket(ctx, r, replica.Write)
			require.NoError(t, err)
			_, err = n.Join(ctx, tk, "r")
			require.NoError(t, err)
		}
	}
	return nodes, id
}

// arrives waits for a key at a node, and returns how it came.
func arrives(t *testing.T, sub *replica.Subscription, key string) replica.Origin {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		events, _, err := sub.Next(ctx)
		require.NoError(t, err, key)
		for _, e := range events {
			if string(e.Entry.Key) == key {
				return e.From
			}
		}
	}
}

// New entries reach peers that this node is not connected to, passed on by those between, and come
// by gossip once a replica is in use.
func TestGossip(t *testing.T) {
	for name, links := range map[string][][]int{
		"all connected": {{}, {0}, {0, 1}, {0, 1, 2}, {0, 1, 2, 3}},
		"in a row":      {{}, {0}, {1}, {2}},
	} {
		t.Run(name, func(t *testing.T) {
			nodes, id := mesh(t, links...)
			var subs []*replica.Subscription
			for _, n := range nodes {
				sub := n.ReplicaStore().Subscribe(id)
				defer sub.Close()
				subs = append(subs, sub)
			}
			gossiped := false
			for i := 0; i < 40 && !gossiped; i++ {
				key := fmt.Sprintf("key %d", i)
				from := i % len(nodes)
				set(t, nodes[from], id, key, "v")
				gossiped = true
				for j := range nodes {
					if j != from {
						gossiped = arrives(t, subs[j], key).Spread && gossiped
					}
				}
			}
			require.True(t, gossiped, "after a while all entries come by gossip alone")
			want, err := nodes[0].ReplicaStore().Fingerprint(t.Context(), id)
			require.NoError(t, err)
			for _, n := range nodes {
				got, err := n.ReplicaStore().Fingerprint(t.Context(), id)
				require.NoError(t, err)
				require.Equal(t, want, got)
			}
		})
	}
}

// A peer that publishes rubbish is refused, and what it published goes no further.
func TestRubbishByGossip(t *testing.T) {
	nodes, id := mesh(t, []int{}, []int{0}, []int{1})
	ctx := t.Context()
	author := replica.NewSecretKey()
	r, err := nodes[0].ReplicaStore().Get(ctx, id)
	require.NoError(t, err)
	g := replica.NewGrant(r.Secret, author.Author(), 1)
	e := replica.Entry{Replica: id, Key: []byte("forged"), Timestamp: 1, Size: 1}
	e.Sign(author)
	e.Signature[9]++
	raw, err := e.AppendBinary(nil)
	require.NoError(t, err)
	set(t, nodes[0], id, "k", "v")
	eventually(t, "all listen", func() bool {
		return len(node.Listeners(nodes[0], id)) == 1 && len(node.Listeners(nodes[1], id)) == 2
	})
	require.NoError(t, node.PublishRaw(ctx, nodes[0], id, [][]byte{g.Bytes()}, [][]byte{raw}))
	eventually(t, "it is refused", func() bool { return node.Refuses(nodes[1], nodes[0].ID()) })
	for _, n := range nodes[1:] {
		_, err := n.ReplicaStore().LatestOf(ctx, id, []byte("forged"))
		require.ErrorIs(t, err, replica.ErrNotFound)
	}
	require.False(t, node.Refuses(nodes[2], nodes[1].ID()), "who is in between is not to blame")
	set(t, nodes[2], id, "still", "works")
	eventually(t, "the others go on", func() bool {
		_, err := nodes[1].ReplicaStore().LatestOf(ctx, id, []byte("still"))
		return err == nil
	})
}
