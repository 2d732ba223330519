package node

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/node/simnet"
	"github.com/skerry-sync/skerry/replica"
)

// noted is a network that notes whether dials to absent peers are rationed.
type noted struct {
	*simnet.End
	mu    *sync.Mutex
	named map[peer.ID][]bool
}

func (e noted) Connect(ctx context.Context, p peer.AddrInfo) error {
	e.mu.Lock()
	e.named[p.ID] = append(e.named[p.ID], link.IsNamed(ctx))
	e.mu.Unlock()
	return e.End.Connect(ctx, p)
}

// Strangers can use up the rations of an address, or of all: those of a peer that is known are not
// among them, or a node would not find its own devices again. Those of a newcomer are.
func TestDialsToKnownPeersAreNotRationed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := simnet.New(1)
		n, device, stranger := simOpen(t), simOpen(t), simOpen(t)
		net := noted{s.End(n.ID()), &sync.Mutex{}, map[peer.ID][]bool{}}
		require.NoError(t, n.GoOnline(net))
		ctx := context.Background()
		r, err := n.replicas.Create(ctx, "r")
		require.NoError(t, err)
		at := []ma.Multiaddr{ma.StringCast("/ip4/192.0.2.1/tcp/4001")}
		require.NoError(
			t, n.Remember(ctx, []replica.ID{r.ID}, []peer.AddrInfo{{ID: device.ID(), Addrs: at}}),
		)
		require.NoError(t, n.hint(ctx, r.ID, []peer.AddrInfo{{ID: stranger.ID(), Addrs: at}}))
		time.Sleep(time.Minute)
		_, _ = n.SyncNow(ctx, r.ID, "", nil)
		net.mu.Lock()
		defer net.mu.Unlock()
		require.Greater(t, len(net.named[device.ID()]), 1)
		require.NotContains(t, net.named[device.ID()], false)
		require.NotEmpty(t, net.named[stranger.ID()])
		require.NotContains(t, net.named[stranger.ID()], true)
	})
}
