package node_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/ticket"
)

// A seed that says that it is at many addresses takes neither the place of another seed in a ticket
// nor that of the node itself.
func TestSeedsShareTheRoomInATicket(t *testing.T) {
	n, _ := start(t, t.TempDir())
	r, err := n.CreateReplica(t.Context(), "r", false)
	require.NoError(t, err)
	var seeds []peer.ID
	for i := range 3 {
		other, _ := start(t, t.TempDir())
		p := peer.AddrInfo{ID: other.ID()}
		seeds = append(seeds, p.ID)
		for j := range 16 {
			p.Addrs = append(p.Addrs, ma.StringCast(fmt.Sprintf("/ip4/192.0.2.%d/tcp/%d", i+1, j+1)))
		}
		require.NoError(t, n.AddSeed(t.Context(), r.ID, p))
	}
	tk, err := n.Ticket(t.Context(), r, replica.Sync)
	require.NoError(t, err)
	require.Len(t, tk.Addrs, ticket.MaxAddrs)
	for _, id := range append(seeds, n.ID()) {
		require.True(t, slices.ContainsFunc(tk.Peers(), func(p peer.AddrInfo) bool {
			return p.ID == id
		}), id)
	}
}
