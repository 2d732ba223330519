package node

import (
	"context"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/directory"
	"github.com/skerry-sync/skerry/node/content"
	"github.com/skerry-sync/skerry/node/sealed"
	"github.com/skerry-sync/skerry/replica"
)

// Held is a way to a node's content that keeps what it brings, stores or opens from Collect, until
// a pin or an entry keeps it or it has been read. Its methods may be called at the same time.
type Held struct {
	// Blobs is the node's store, which holds.
	Blobs *blobs.Store
	n     *Node
}

// Hold returns a way to the node's content that holds it until release is called, once. See
// [blobs.Store.Hold].
func (n *Node) Hold() (held *Held, release func()) {
	held = &Held{n: n}
	held.Blobs, release = n.blobs.Hold()
	return held, release
}

// Get is [Node.Get].
func (h *Held) Get(
	ctx context.Context, hash blobs.Hash, form content.Form, providers []peer.AddrInfo,
	progress func(content.GetProgress),
) (content.Content, error) {
	return h.n.get(ctx, h.Blobs, hash, form, providers, progress)
}

// Export is [Node.Export].
func (h *Held) Export(
	ctx context.Context, c *content.Content, name string, progress func(directory.Progress),
) error {
	return c.Export(ctx, h.Blobs, name, progress)
}

// OpenPlain is [Node.OpenPlain].
func (h *Held) OpenPlain(
	ctx context.Context, p *replica.Plain, e *replica.Entry,
) (content.Reader, error) {
	return sealed.Open(ctx, h.Blobs, p, e)
}

// ReplicaOf is [Node.ReplicaOf].
func (h *Held) ReplicaOf(id replica.ID) *Replica {
	return &Replica{n: h.n, blobs: h.Blobs, id: id}
}
