package node

import (
	"context"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/node/downloads"
	"github.com/skerry-sync/skerry/node/wanted"
	"github.com/skerry-sync/skerry/replica"
)

// Which content a node wants is in package wanted, and how it comes by it in package downloads;
// these are its ways in.

// newDownloads returns what fetches the content that the entries of a node that is being opened
// want.
func (n *Node) newDownloads() *downloads.Workers {
	return downloads.New(downloads.Config{
		Ctx: n.ctx, Store: n.kv, Wanted: n.wanted, Replicas: n.replicas, Contacts: n.contacts,
		Content: n.content, PeerStorage: n.cfg.Limits.PeerStorage, Now: n.cfg.Now, Log: n.log,
		Go: n.work.Go,
	})
}

// ContentState is [wanted.List.State].
func (n *Node) ContentState(
	ctx context.Context, h blobs.Hash, size uint64,
) (wanted.State, error) {
	return n.wanted.State(ctx, h, size)
}

// ContentStates is [wanted.List.States].
func (n *Node) ContentStates() *wanted.States { return n.wanted.States() }

// ContentOf says how much is here of the content of an entry, or that the size which the entry
// gives is wrong.
func (n *Node) ContentOf(ctx context.Context, e *replica.Entry) (wanted.State, error) {
	return n.wanted.States().Of(ctx, e)
}

// PendingContent is [wanted.List.Pending].
func (n *Node) PendingContent(ctx context.Context, id replica.ID) (count int, err error) {
	return n.wanted.Pending(ctx, id)
}

// RefutedClaims is [wanted.List.RefutedClaims].
func (n *Node) RefutedClaims(
	ctx context.Context, id replica.ID, fn func(wanted.RefutedClaim) error,
) error {
	return n.wanted.RefutedClaims(ctx, id, fn)
}

// ContentArrived is [wanted.List.Arrived].
func (n *Node) ContentArrived() <-chan struct{} { return n.wanted.Arrived() }

// WaitContent is [wanted.List.WaitContent], and ends with the node.
func (n *Node) WaitContent(ctx context.Context, h blobs.Hash, size uint64) error {
	ctx, done := n.within(ctx)
	return done(n.wanted.WaitContent(ctx, h, size))
}

// WaitEntry is [wanted.List.WaitEntry], and ends with the node.
func (n *Node) WaitEntry(ctx context.Context, e *replica.Entry) error {
	ctx, done := n.within(ctx)
	return done(n.wanted.WaitEntry(ctx, e))
}

// Policy is [wanted.List.Policy].
func (n *Node) Policy(id replica.ID) wanted.Policy { return n.wanted.Policy(id) }

// SetPolicy is [downloads.Workers.SetPolicy].
func (n *Node) SetPolicy(ctx context.Context, id replica.ID, p wanted.Policy) error {
	return n.downloads.SetPolicy(ctx, id, p)
}

// CatchUp is [downloads.Workers.CatchUp].
func (n *Node) CatchUp(ctx context.Context, id replica.ID) error {
	return n.downloads.CatchUp(ctx, id)
}
