package node

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/skerry-sync/skerry/node/link"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/chunked"
	"github.com/skerry-sync/skerry/internal/fault"
	"github.com/skerry-sync/skerry/replica"
)

// Collect removes content that nothing keeps, and gives its room back: what is kept is pinned, or
// an entry of a replica points at it, or it is being fetched right now.
func (n *Node) Collect(ctx context.Context, dryRun bool, progress func(blobs.CollectProgress)) (blobs.Collected, error) {
	return n.Blobs.Collect(ctx, blobs.CollectOptions{Keep: n.keepEntries, DryRun: dryRun, Progress: progress})
}

// keepEntries marks what entries name, and the chunks of content in chunks. What is a list of
// chunks is told from the blob alone, so the sizes that entries claim do not matter, and each blob
// is looked at once.
func (n *Node) keepEntries(ctx context.Context, m *blobs.Marks) error {
	states := n.ContentStates()
	for r, err := range n.Replicas.All(ctx) {
		if err != nil {
			return err
		}
		for e, err := range n.Replicas.Entries(ctx, r.ID, replica.Query{}) {
			if err != nil {
				return err
			}
			if n.cfg.Host != nil {
				if keeps, err := n.hostKeeps(ctx, states, &e); err != nil {
					return err
				} else if !keeps {
					continue
				}
				// Whoever is charged for a list of chunks alone must not have the chunks kept for it.
				if own, err := n.isOwnSize(ctx, &e); err != nil {
					return err
				} else if own {
					m.Mark(e.Hash)
					continue
				}
			}
			if !m.Keep(e.Hash) {
				continue
			}
			sequence, err := chunked.IsSequence(ctx, n.Blobs, e.Hash)
			if _, damaged := errors.AsType[*blobs.DamageError](err); damaged {
				sequence, err = true, nil // it may have been one, and what is damaged here costs no chunks
			}
			if err == nil && !sequence && n.cfg.Host == nil {
				sequence, err = chunked.MayBeSequence(ctx, n.Blobs, e.Hash)
			}
			if err == nil && sequence {
				err = m.Children(e.Hash)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// isOwnSize reports whether an entry names a blob as such: by the blob's own size.
func (n *Node) isOwnSize(ctx context.Context, e *replica.Entry) (bool, error) {
	info, err := n.Blobs.Stat(ctx, e.Hash)
	if errors.Is(err, blobs.ErrNotFound) {
		return false, nil
	}
	return err == nil && info.Size == e.Size, err
}

// Repair fetches what is damaged of the blob h again from connected peers. It returns a
// *MissingError if nobody has it; what is here then stays as it is.
func (n *Node) Repair(ctx context.Context, h blobs.Hash, damage []blobs.Damage) error {
	if len(damage) == 0 {
		return nil
	}
	f := n.newFetcher(ctx, n.connectedPeers(), nil, false, nil)
	_, err := f.end(n.mend(f, &blobs.DamageError{Hash: h, Damage: damage}))
	return errors.Join(err, n.Blobs.Sync(ctx))
}

// ProviderInfo is what a peer says it has of a blob. Nothing of it is proved.
type ProviderInfo struct {
	ID      peer.ID
	Size    uint64
	Present uint64 // bytes
}

// askTimeout is how long a peer has to say what it has.
const askTimeout = 3 * time.Second

// Providers asks all connected peers what they have of the blob h, and returns those that have
// some.
func (n *Node) Providers(ctx context.Context, h blobs.Hash) []ProviderInfo {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var mu sync.Mutex
	var out []ProviderInfo
	var wg sync.WaitGroup
	for _, p := range n.Peers() {
		wg.Go(func() {
			var info ProviderInfo
			err := fault.Guard(n.log, "a question to a peer", func() (err error) {
				info, err = n.describe(ctx, p.ID, h)
				return err
			}, "peer", p.ID)
			if err != nil {
				n.log.Debug("asking what a peer has", "peer", p.ID, "error", err)
				return
			}
			if info.Present > 0 || info.Size > 0 {
				mu.Lock()
				out = append(out, info)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return out
}

func (n *Node) describe(ctx context.Context, p peer.ID, h blobs.Hash) (ProviderInfo, error) {
	all, err := n.describeAll(ctx, p, []blobs.Hash{h})
	if err != nil {
		return ProviderInfo{ID: p}, err
	}
	return ProviderInfo{p, all[0].Size, all[0].Present}, nil
}

// FetchPart brings byte ranges of the blob h and, if children is not nil, those byte ranges of each
// of its children, into the store. A sequence that is not known here comes with its children in one
// request.
func (n *Node) FetchPart(ctx context.Context, h blobs.Hash, ranges, children blobs.Ranges, providers []peer.AddrInfo, progress func(GetProgress)) (Fetched, error) {
	g := getter{n: n, progress: progress}
	g.f = n.newFetcher(link.Named(ctx), providers, n.connectedPeers(), false, g.came)
	got, err := g.f.end(g.part(ctx, h, ranges, children))
	if err == nil {
		err = n.Blobs.Sync(ctx)
	}
	return got, err
}

func (g *getter) part(ctx context.Context, h blobs.Hash, ranges, children blobs.Ranges) error {
	if children == nil {
		return g.f.fetch(Want{Hash: h, Ranges: ranges})
	}
	all := &childRequest{count: blobs.MaxChildren, ranges: children.Align()}
	if err := g.f.fetchPart([]Want{{Hash: h}}, all); err != nil {
		return err
	}
	if err := g.f.rc.Flush(); err != nil {
		return storeFault{err}
	}
	content, err := g.n.Blobs.ReadAll(ctx, h, blobs.MaxChildren*blobs.HashSize)
	if err != nil {
		return err
	}
	seq, err := blobs.ParseSequence(content)
	if err != nil {
		return err
	}
	wants := make([]Want, len(seq))
	for i, child := range seq {
		wants[i] = Want{Hash: child, Ranges: children}
	}
	g.f.finishChildren()
	return g.f.fetch(wants...)
}

// finishChildren waits until the children that come with a sequence have come.
func (f *fetcher) finishChildren() {
	for {
		f.sched.mu.Lock()
		changed, busy := f.sched.changed, false
		for b := range f.sched.blocks {
			busy = busy || len(b.items) > 0 && b.items[0].req.children != nil
		}
		f.sched.mu.Unlock()
		if !busy {
			return
		}
		select {
		case <-changed:
		case <-f.ctx.Done():
			return
		}
	}
}
