package node

import (
	"context"
	"errors"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/chunked"
	"github.com/skerry-sync/skerry/replica"
)

// Collect removes content that nothing keeps, and gives its room back: what is kept is pinned, or
// an entry of a replica points at it, or one that was displaced (see [Displaced]), or it is being
// fetched right now.
func (n *Node) Collect(
	ctx context.Context, dryRun bool, progress func(blobs.CollectProgress),
) (blobs.Collected, error) {
	return n.blobs.Collect(
		ctx, blobs.CollectOptions{Keep: n.keepEntries, DryRun: dryRun, Progress: progress},
	)
}

// CollectOnly is Collect of no more than the blobs that only names.
func (n *Node) CollectOnly(ctx context.Context, only func(blobs.Hash) bool) error {
	_, err := n.blobs.Collect(ctx, blobs.CollectOptions{Keep: n.keepEntries, Only: only})
	return err
}

// keepEntries marks what entries name, and the chunks of content in chunks. What is a list of
// chunks is told from the blob alone, so the sizes that entries claim do not matter, and each blob
// is looked at once.
func (n *Node) keepEntries(ctx context.Context, m *blobs.Marks) error {
	states := n.ContentStates()
	for r, err := range n.replicas.All(ctx) {
		if err != nil {
			return err
		}
		for e, err := range n.replicas.Entries(ctx, r.ID, replica.Query{}) {
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
			if err := n.keepContent(ctx, m, e.Hash); err != nil {
				return err
			}
		}
	}
	return n.keepDisplaced(ctx, m)
}

// keepDisplaced marks what displaced entries name. It must follow on the marks of entries: what is
// displaced meanwhile has been marked with these, or is met here.
func (n *Node) keepDisplaced(ctx context.Context, m *blobs.Marks) error {
	for _, id := range n.displaced.Kept() {
		for e, err := range n.displaced.All(ctx, id, nil) {
			if err == nil {
				err = n.keepContent(ctx, m, e.Hash)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// keepContent marks a blob and, if it is a list of chunks, these.
func (n *Node) keepContent(ctx context.Context, m *blobs.Marks, h blobs.Hash) error {
	if !m.Keep(h) {
		return nil
	}
	sequence, err := chunked.IsSequence(ctx, n.blobs, h)
	if _, damaged := errors.AsType[*blobs.DamageError](err); damaged {
		sequence, err = true, nil // it may have been one, and what is damaged here costs no chunks
	}
	if err == nil && !sequence && n.cfg.Host == nil {
		sequence, err = chunked.MayBeSequence(ctx, n.blobs, h)
	}
	if err == nil && sequence {
		err = m.Children(h)
	}
	return err
}

// isOwnSize reports whether an entry names a blob as such: by the blob's own size.
func (n *Node) isOwnSize(ctx context.Context, e *replica.Entry) (bool, error) {
	info, err := n.blobs.Stat(ctx, e.Hash)
	if errors.Is(err, blobs.ErrNotFound) {
		return false, nil
	}
	return err == nil && info.Size == e.Size, err
}
