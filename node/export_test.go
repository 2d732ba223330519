package node

import (
	"context"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/replica"
)

// PushTo lets tests push entries of their own making.
func (n *Node) PushTo(ctx context.Context, p peer.ID, id replica.ID, entries []replica.Entry) error {
	return n.pushTo(ctx, p, id, entries)
}
