package downloads

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/kv"
)

// ration returns the part of a batch that the limit of what p may make this node fetch leaves room
// for, and what is to be looked at again after that: of the first part, not all may come. What
// there is no room for at all counts as not given; it is in the batch that comes with an error, or
// is noted here.
func (d *Workers) ration(
	ctx context.Context, p peer.ID, batch []piece,
) (now, later []piece, err error) {
	limit := d.cfg.PeerStorage
	if limit == 0 {
		return batch, nil, nil
	}
	now, later, never := affordable(batch, limit, d.Taken(ctx, p))
	if len(now) == 0 {
		return batch, nil, fmt.Errorf("content fetched from peer %s has reached the limit of %d bytes",
			p, limit)
	}
	if len(never) > 0 {
		d.release(ctx, p, never)
	}
	return now, later, nil
}

// affordable returns the part of a batch that, by its claims, stays within a limit of bytes of
// which some are taken; what would do so without that part; and the rest. More than is claimed does
// not come.
func affordable(batch []piece, limit, taken uint64) (now, later, never []piece) {
	room := limit - min(taken, limit)
	left := room
	for _, w := range batch {
		switch {
		case w.Size > 0 && w.Size <= left:
			left -= w.Size
			now = append(now, w)
		case w.Size > 0 && w.Size <= room:
			later = append(later, w)
		default:
			never = append(never, w)
		}
	}
	return now, later, never
}

// What a peer has given in the background is counted:
//
//	n q peer-id   bytes of content fetched from the peer in the background, u64
const keyTaken = "nq"

// mayGive reports whether the limit of what a peer may make this node fetch leaves room for a batch
// that is fetched from another one, if this peer gives all of it.
func (d *Workers) mayGive(ctx context.Context, p peer.ID, batch []piece) bool {
	limit := d.cfg.PeerStorage
	if limit == 0 {
		return true
	}
	now, _, _ := affordable(batch, limit, d.Taken(ctx, p))
	return len(now) == len(batch)
}

// Taken returns how many bytes of content have been fetched from p in the background.
func (d *Workers) Taken(ctx context.Context, p peer.ID) (bytes uint64) {
	err := d.cfg.Store.View(ctx, func(r kv.Reader) (err error) {
		bytes, err = takenIn(r, p)
		return err
	})
	if err != nil {
		d.cfg.Log.Warn("bytes taken from a peer", "peer", p, "error", err)
	}
	return bytes
}

func takenIn(r kv.Reader, p peer.ID) (bytes uint64, err error) {
	err = r.Peek(append([]byte(keyTaken), p...), func(v []byte) error {
		if len(v) == 8 {
			bytes = binary.BigEndian.Uint64(v)
		}
		return nil
	})
	if errors.Is(err, kv.ErrNotFound) {
		return 0, nil
	}
	return bytes, err
}

// addTaken counts what p has given. Several fetches may take something from it at the same time.
func (d *Workers) addTaken(p peer.ID, bytes uint64) {
	if bytes == 0 || d.cfg.PeerStorage == 0 {
		return
	}
	err := d.cfg.Store.Update(context.WithoutCancel(d.cfg.Ctx), func(tx kv.Txn) error {
		before, err := takenIn(tx, p)
		if err != nil {
			return err
		}
		total := binary.BigEndian.AppendUint64(nil, before+bytes)
		return tx.Set(append([]byte(keyTaken), p...), total)
	})
	if err != nil {
		d.cfg.Log.Warn("bytes taken from a peer", "peer", p, "error", err)
	}
}
