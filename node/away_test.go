package node

import (
	"context"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/node/session"
	"github.com/skerry-sync/skerry/node/simnet"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/ticket"
)

// awaits is a network that looks for one peer until its caller has enough.
type awaits struct {
	*simnet.End
	away peer.ID
}

func (e awaits) Connect(ctx context.Context, p peer.AddrInfo) error {
	if p.ID != e.away {
		return e.End.Connect(ctx, p)
	}
	<-ctx.Done()
	return &link.UnreachableError{Peer: p.ID, Err: ctx.Err()}
}

// Who joins with a ticket that names several devices does not wait for those that are away, as soon
// as one has given what it has; whoever asks for a sync hears of each.
func TestJoiningWaitsForNobodyWhoIsAway(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := simnet.New(1)
		owner, joiner, away := simOpen(t), simOpen(t), simOpen(t)
		ctx := context.Background()
		require.NoError(t, owner.GoOnline(s.End(owner.ID())))
		require.NoError(t, joiner.GoOnline(awaits{s.End(joiner.ID()), away.ID()}))
		r, err := owner.replicas.Create(ctx, "r")
		require.NoError(t, err)
		doc := &ticket.Doc{Replica: r.ID, Capability: replica.Read}
		for _, n := range []*Node{away, owner} {
			doc.Addrs = append(doc.Addrs, ma.StringCast("/ip4/192.0.2.1/tcp/4001/p2p/"+n.ID().String()))
		}
		start := time.Now()
		got, err := joiner.Join(ctx, doc, "")
		require.NoError(t, err)
		require.Len(t, got.Synced, 2)
		require.LessOrEqual(t, time.Since(start), session.Patience+time.Second)
		within, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		start = time.Now()
		_, err = joiner.SyncNow(within, r.ID, "", nil)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, time.Minute, time.Since(start))
	})
}
