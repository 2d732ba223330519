package node

import (
	"context"
	"time"

	"github.com/skerry-sync/skerry/replica"
)

// Grant lets an author write to a replica, and soon tells the connected peers; see
// [replica.Store.Grant].
func (n *Node) Grant(
	ctx context.Context, id replica.ID, author replica.AuthorID, may replica.Permission,
) (replica.Grant, error) {
	g, err := n.replicas.Grant(ctx, id, author, may)
	if err == nil {
		n.contacts.CompareSoon()
	}
	return g, err
}

// Revoke ends what an author may write from a time on, and soon tells the connected peers; see
// [replica.Store.Revoke].
func (n *Node) Revoke(
	ctx context.Context, id replica.ID, author replica.AuthorID, from uint64,
) (replica.Revocation, error) {
	r, err := n.replicas.Revoke(ctx, id, author, from)
	if err == nil {
		n.contacts.CompareSoon()
		n.keyChanged(id)
		err = n.downloads.SealPolicy(ctx, id)
	}
	return r, err
}

// Rotate begins a new epoch of an encrypted replica, and soon tells the connected peers; see
// [replica.Store.Rotate].
func (n *Node) Rotate(ctx context.Context, id replica.ID) (replica.EpochKey, error) {
	k, err := n.replicas.Rotate(ctx, id)
	if err == nil {
		n.contacts.CompareSoon()
		n.keyChanged(id)
		err = n.downloads.SealPolicy(ctx, id)
	}
	return k, err
}

// AddReader hands the read key of an encrypted replica to an author, and soon tells the connected
// peers; see [replica.Store.AddReader].
func (n *Node) AddReader(ctx context.Context, id replica.ID, author replica.AuthorID) error {
	err := n.replicas.AddReader(ctx, id, author)
	if err == nil {
		n.contacts.CompareSoon()
	}
	return err
}

// keyChanged tells that a replica has, or may soon need, another read key.
func (n *Node) keyChanged(id replica.ID) {
	n.changed(id)
	select {
	case n.rotate <- struct{}{}:
	default:
	}
}

// rotatePause is the time between two looks at least for epochs that are due, rotateEvery at most.
const (
	rotatePause = time.Second
	rotateEvery = time.Minute
)

// keepRotating begins the epochs that have waited for calm, until ctx ends.
func (n *Node) keepRotating(ctx context.Context) {
	for {
		begun, err := n.replicas.RotateDeferred(ctx)
		if err != nil && ctx.Err() == nil {
			n.log.Error("a new read key", "error", err)
		}
		for _, id := range begun {
			if err := n.downloads.SealPolicy(ctx, id); err != nil && ctx.Err() == nil {
				n.log.Error("a new read key", "replica", id.Short(), "error", err)
			}
			n.contacts.CompareSoon()
			n.changed(id)
		}
		select {
		case <-ctx.Done():
			return
		case <-n.rotate:
		case <-time.After(rotateEvery):
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(rotatePause):
		}
	}
}
