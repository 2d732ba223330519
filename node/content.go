package node

import (
	"context"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/chunked"
	"github.com/skerry-sync/skerry/blobs/directory"
	"github.com/skerry-sync/skerry/node/content"
	"github.com/skerry-sync/skerry/node/handover"
	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/node/sealed"
	"github.com/skerry-sync/skerry/node/wanted"
	"github.com/skerry-sync/skerry/replica"
)

// What a node does with content is in package content; these are its ways in.

// openContent makes what knows, fetches and gives the content of a node that is being opened.
func (n *Node) openContent() {
	n.wanted = wanted.New(wanted.Config{
		Store: n.kv, Blobs: n.blobs, Host: n.cfg.Host, Log: n.log,
	})
	n.handing = handover.New(handover.Config{
		On: n.cfg.HandsOver, Blobs: n.blobs, Log: n.log,
		Describe: func(
			ctx context.Context, p peer.ID, hashes []blobs.Hash,
		) ([]content.Described, error) {
			return n.content.Describe(ctx, p, hashes)
		},
		Complete: func() func(context.Context, content.Claim) (bool, error) {
			states := n.wanted.States()
			return func(ctx context.Context, c content.Claim) (bool, error) {
				state, err := states.OfContent(ctx, c.Hash, c.Size)
				return state == wanted.Complete, err
			}
		},
	})
	cfg := content.Config{
		Blobs: n.blobs, Limits: n.limits, Log: n.log,
		Lied: n.blamed.Lied, NoteLie: n.noteLie,
	}
	if n.cfg.HandsOver {
		cfg.Gave = n.handing.Gave
	}
	n.content = content.New(cfg)
}

// HandOver is [handover.Ledger.Run]; Config.HandsOver must be set.
func (n *Node) HandOver(
	ctx context.Context, patience time.Duration,
) ([]handover.Untaken, error) {
	return n.handing.Run(ctx, patience)
}

func (n *Node) serveBlobs(s link.Stream) { n.content.Serve(n.ctx, s) }

// Get is [content.Exchange.Get]. What it brings is not held afterwards: see Hold.
func (n *Node) Get(
	ctx context.Context, h blobs.Hash, form content.Form, providers []peer.AddrInfo,
	progress func(content.GetProgress),
) (content.Content, error) {
	return n.get(ctx, n.blobs, h, form, providers, progress)
}

func (n *Node) get(
	ctx context.Context, into *blobs.Store, h blobs.Hash, form content.Form,
	providers []peer.AddrInfo, progress func(content.GetProgress),
) (c content.Content, err error) {
	ctx, done := n.within(ctx)
	c, err = n.content.Get(ctx, into, h, form, providers, progress)
	return c, done(err)
}

// Fetch is [content.Exchange.Fetch].
func (n *Node) Fetch(
	ctx context.Context, wants []content.Want, providers []peer.AddrInfo, progress func(n int),
) (content.Fetched, error) {
	return n.content.Fetch(ctx, wants, providers, progress)
}

// FetchPart is [content.Exchange.FetchPart].
func (n *Node) FetchPart(
	ctx context.Context, h blobs.Hash, ranges, children blobs.Ranges, providers []peer.AddrInfo,
	progress func(content.GetProgress),
) (content.Fetched, error) {
	return n.content.FetchPart(ctx, h, ranges, children, providers, progress)
}

// Stream is [content.Exchange.Stream].
func (n *Node) Stream(
	ctx context.Context, h blobs.Hash, p peer.AddrInfo, w io.WriterAt,
) (uint64, error) {
	return n.content.Stream(ctx, h, p, w)
}

// NewSession is [content.Exchange.NewSession].
func (n *Node) NewSession(ctx context.Context, providers []peer.AddrInfo) *content.Session {
	return n.content.NewSession(ctx, providers)
}

// Repair is [content.Exchange.Repair].
func (n *Node) Repair(ctx context.Context, h blobs.Hash, damage []blobs.Damage) error {
	return n.content.Repair(ctx, h, damage)
}

// Providers is [content.Exchange.Providers].
func (n *Node) Providers(ctx context.Context, h blobs.Hash) []content.ProviderInfo {
	return n.content.Providers(ctx, h)
}

// OpenContent is [content.Open] in the node's store.
func (n *Node) OpenContent(
	ctx context.Context, h blobs.Hash, size uint64,
) (content.Reader, error) {
	return content.Open(ctx, n.blobs, h, size)
}

// Chunks is [content.Chunks] in the node's store.
func (n *Node) Chunks(ctx context.Context, h blobs.Hash, size uint64) (*chunked.Index, error) {
	return content.Chunks(ctx, n.blobs, h, size)
}

// Export is [content.Content.Export] from the node's store.
func (n *Node) Export(
	ctx context.Context, c *content.Content, name string, progress func(directory.Progress),
) error {
	return c.Export(ctx, n.blobs, name, progress)
}

// PlainSize is [sealed.Size] in the node's store.
func (n *Node) PlainSize(
	ctx context.Context, p *replica.Plain, e *replica.Entry,
) (size uint64, ok bool, err error) {
	return sealed.Size(ctx, n.blobs, p, e)
}

// OpenPlain is [sealed.Open] in the node's store.
func (n *Node) OpenPlain(
	ctx context.Context, p *replica.Plain, e *replica.Entry,
) (content.Reader, error) {
	return sealed.Open(ctx, n.blobs, p, e)
}

// TinyPlain is [sealed.Tiny] in the node's store.
func (n *Node) TinyPlain(
	ctx context.Context, p *replica.Plain, all []*replica.Entry,
) ([][]byte, error) {
	return sealed.Tiny(ctx, n.blobs, p, all)
}
