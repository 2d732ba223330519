package downloads

import (
	"context"
	"errors"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/node/content"
	"github.com/skerry-sync/skerry/node/wanted"
)

const (
	downloadBatch = 512 // pieces that are claimed at a time
	// batchBytes is how many bytes are claimed for a peer at a time, unless it is one piece of
	// content: what is behind it can be claimed for others.
	batchBytes = 256 << 20
	// leastBatch is how many pieces are claimed whatever they say of their sizes: what claims much may
	// be nowhere.
	leastBatch = 32
)

// piece is wanted content that is claimed for a peer.
type piece struct {
	wanted.Content
	untried content.Untried // 0 unless the peer is not to be taken for lacking it
}

// claim picks wanted content that p may have and nobody fetches.
func (d *Workers) claim(ctx context.Context, p peer.ID) (batch []piece, err error) {
	ours := map[blobs.Hash]bool{}
	d.mu.Lock()
	from := d.failed.from(p, d.cfg.Now())
	d.mu.Unlock()
	if from == nil {
		return nil, nil
	}
	c := claiming{d: d, p: p, ours: ours}
	for from != nil && err == nil && len(batch) < downloadBatch && !c.closed {
		c.obsolete, c.wrong = nil, nil
		err = d.cfg.Store.View(ctx, func(r kv.Reader) error {
			from, err = c.goOn(ctx, r, from)
			return err
		})
		batch = c.batch
		if err == nil {
			err = errors.Join(
				d.cfg.Wanted.Drop(ctx, c.obsolete), d.cfg.Wanted.Refute(ctx, c.wrong),
			)
		}
	}
	if err == nil {
		d.mu.Lock()
		d.failed.walked(p, from, d.cfg.Now())
		d.mu.Unlock()
	}
	if err != nil {
		d.unclaim(batch)
		return nil, err
	}
	return batch, nil
}

// claiming is a walk through what is wanted.
type claiming struct {
	d        *Workers
	p        peer.ID
	batch    []piece
	ours     map[blobs.Hash]bool // in the batch: one proof decides all claims about a blob
	obsolete [][]byte            // records of content that is no longer wanted
	wrong    []wanted.Content    // claims that are known to be wrong
	bytes    uint64              // that the batch claims
	closed   bool                // there is no room in it for what comes next
}

// goOn goes on from a key, and returns the one to go on from after that; nil at the end. It stops
// when there is enough of anything.
func (c *claiming) goOn(ctx context.Context, r kv.Reader, from []byte) (next []byte, err error) {
	c.d.mu.Lock()
	defer c.d.mu.Unlock()
	for from != nil && err == nil && !c.full() {
		from, err = c.some(ctx, r, from)
	}
	return from, err
}

func (c *claiming) full() bool {
	return c.closed || len(c.batch) == downloadBatch ||
		len(c.obsolete) == wanted.DropAtOnce || len(c.wrong) == downloadBatch
}

// some walks until something is to be skipped, however many records there are of it: a replica that
// the peer does not hold, or content that is not to be had of it now.
func (c *claiming) some(ctx context.Context, r kv.Reader, from []byte) (next []byte, err error) {
	now := c.d.cfg.Now()
	for pair, err := range r.Scan(wanted.From(from), kv.ScanOptions{}) {
		if err != nil {
			return nil, err
		}
		w, err := wanted.Parse(pair)
		if err != nil {
			return nil, err
		}
		if !c.d.cfg.Contacts.Holds(c.p, w.Replica) {
			return w.NextReplica(), nil
		}
		if c.d.busy[w.Hash] && !c.ours[w.Hash] || c.d.failed.waits(c.p, w.Hash, now) {
			return w.NextBlob(), nil
		}
		switch still, err := w.StillWanted(r); {
		case err != nil:
			return nil, err
		case w.Refuted:
			c.wrong = append(c.wrong, w)
		case still:
			if !c.ours[w.Hash] {
				c.bytes += min(w.Size, batchBytes/leastBatch) // it may be nowhere
			}
			if len(c.batch) > 0 && c.bytes > batchBytes {
				c.closed = true
				return w.Record, nil
			}
			c.d.busy[w.Hash], c.ours[w.Hash] = true, true
			c.batch = append(c.batch, piece{Content: w})
		default:
			c.obsolete = append(c.obsolete, w.Record)
		}
		if c.full() {
			return w.Next(), nil
		}
	}
	return nil, nil
}
