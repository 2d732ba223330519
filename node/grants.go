package node

import (
	"context"

	"github.com/skerry-sync/skerry/replica"
)

// Grant lets an author write to a replica, and soon tells the connected peers; see
// [replica.Store.Grant].
func (n *Node) Grant(ctx context.Context, id replica.ID, author replica.AuthorID, may replica.Permission) (replica.Grant, error) {
	g, err := n.Replicas.Grant(ctx, id, author, may)
	if err == nil {
		n.contacts.CompareSoon()
	}
	return g, err
}

// Revoke ends what an author may write from a time on, and soon tells the connected peers; see
// [replica.Store.Revoke].
func (n *Node) Revoke(ctx context.Context, id replica.ID, author replica.AuthorID, from uint64) (replica.Revocation, error) {
	r, err := n.Replicas.Revoke(ctx, id, author, from)
	if err == nil {
		n.contacts.CompareSoon()
		n.tendSoon()
		err = n.sealPolicy(ctx, id)
	}
	return r, err
}

// Rotate begins a new epoch of an encrypted replica, and soon tells the connected peers; see
// [replica.Store.Rotate].
func (n *Node) Rotate(ctx context.Context, id replica.ID) (replica.EpochKey, error) {
	k, err := n.Replicas.Rotate(ctx, id)
	if err == nil {
		n.contacts.CompareSoon()
		n.tendSoon()
		err = n.sealPolicy(ctx, id)
	}
	return k, err
}
