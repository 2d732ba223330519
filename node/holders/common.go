package holders

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/reconcile"
	"github.com/skerry-sync/skerry/replica"
)

// After a session both sides have what either had before it. So a peer that, in a later session,
// lacks an entry that was there then, and that is still the newest of its key, has been reset or
// put back to an old state, or withholds what it has. One that lacks all of them has joined anew,
// which is nothing to be told. The newest entries before each session, but for those of the last
// minutes, are remembered for this, since an old state lacks these:
//
//	n s replica[32] peer-id   JSON, see common
const (
	keyCommon = "ns"
	maxCommon = 32
	// oldEnough is the age of entries that are looked at: a peer whose clock is behind refuses the
	// latest ones for a while, without anybody being at fault.
	oldEnough = 15 * time.Minute
)

// common is what a peer and this node had in common after a session.
type common struct {
	At   time.Time `json:"at"`
	IDs  [][]byte  `json:"ids,omitempty"` // the first 16 bytes of entries' ids
	Lost int       `json:"lost,omitempty"`
	Then time.Time `json:"then,omitzero"` // when they were found to be lost
}

func commonPrefix(id replica.ID) []byte { return append([]byte(keyCommon), id[:]...) }

func commonKey(id replica.ID, p peer.ID) []byte { return append(commonPrefix(id), p...) }

// replicaEntries are the entries of replicas.
type replicaEntries interface {
	Counts(ctx context.Context, id replica.ID) (replica.Counts, error)
	Entries(
		ctx context.Context, id replica.ID, q replica.Query,
	) iter.Seq2[replica.Entry, error]
}

// Watch looks, during a session, for entries that the peer has had before.
type Watch struct {
	b     *Book
	id    replica.ID
	p     peer.ID
	rec   common
	had   map[[16]byte]bool
	lacks []replica.Entry
	count uint64   // of all entries that it lacks
	total uint64   // of entries before the session
	now   [][]byte // the newest of these
}

// Watch prepares a session for all keys of a replica.
func (b *Book) Watch(
	ctx context.Context, entries replicaEntries, id replica.ID, p peer.ID,
) (*Watch, error) {
	w := &Watch{b: b, id: id, p: p, had: map[[16]byte]bool{}}
	err := b.kv.View(ctx, func(r kv.Reader) (err error) {
		w.rec, err = getCommon(r, id, p)
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, b := range w.rec.IDs {
		if len(b) == 16 {
			w.had[[16]byte(b)] = true
		}
	}
	c, err := entries.Counts(ctx, id)
	if err != nil {
		return nil, err
	}
	w.total = c.Entries + c.Tombstones
	newest := replica.Query{
		ByTime: true, Reverse: true, Tombstones: true, Limit: maxCommon, Until: b.now().Add(-oldEnough),
	}
	for e, err := range entries.Entries(ctx, id, newest) {
		if err != nil {
			return nil, err
		}
		entryID := e.ID()
		w.now = append(w.now, entryID[:16])
	}
	return w, nil
}

func getCommon(r kv.Reader, id replica.ID, p peer.ID) (c common, err error) {
	err = r.Peek(commonKey(id, p), func(b []byte) error { return json.Unmarshal(b, &c) })
	if errors.Is(err, kv.ErrNotFound) {
		return common{}, nil
	}
	if err != nil {
		err = fmt.Errorf("node store: what a peer has had: %w", err)
	}
	return c, err
}

// Sent is told of each item that the peer lacks.
func (w *Watch) Sent(it *reconcile.Item) {
	w.count++
	if len(w.had) == 0 || !w.had[[16]byte(it.Mark.ID[:16])] {
		return
	}
	if e, err := replica.ParseEntry(append([]byte{}, it.Data...)); err == nil {
		w.lacks = append(w.lacks, e)
	}
}

// End notes what the peer has now, if it is remembered: of another one nobody would drop it. It
// returns how many of the entries that it has had it has lost.
func (w *Watch) End(ctx context.Context) (lost int, err error) {
	err = w.b.kv.Update(ctx, func(tx kv.Txn) error {
		lost = 0
		if has, err := tx.Has(sharingKey(w.id, w.p)); err != nil || !has {
			return err
		}
		if w.count >= w.total {
			w.lacks = nil // it has joined anew
		}
		for i := range w.lacks {
			e, err := replica.EntryIn(tx, w.id, w.lacks[i].Key, w.lacks[i].Author)
			if errors.Is(err, replica.ErrNotFound) {
				continue // a revocation has made it void
			}
			if err != nil {
				return err
			}
			if e.ID() == w.lacks[i].ID() { // else the peer had a newer one
				lost++
			}
		}
		rec := common{At: w.b.now().UTC(), IDs: w.now, Lost: w.rec.Lost, Then: w.rec.Then}
		if lost > 0 {
			rec.Lost, rec.Then = lost, rec.At
		}
		b, err := json.Marshal(&rec)
		if err != nil {
			return err
		}
		return tx.Set(commonKey(w.id, w.p), b)
	})
	if lost > 0 {
		w.b.log.Warn(
			"a peer lacks entries that it has had: it was reset, shows an old state, or withholds them",
			"peer", w.p, "replica", w.id.Short(), "entries", lost, "had", w.rec.At)
	}
	return lost, err
}

// sameEvery is how often it is noted that a replica is still the same at a peer.
const SameEvery = 24 * time.Hour

// NoteSame notes that replicas were found to be the same at a peer that is remembered, without a
// session. What was noted in the last day stays.
func (b *Book) NoteSame(ctx context.Context, p peer.ID, ids []replica.ID) error {
	if len(ids) == 0 {
		return nil
	}
	now := b.now().UTC()
	return b.kv.View(ctx, func(r kv.Reader) error {
		return b.kv.Batch(ctx, func(w kv.Writer) error {
			for _, id := range ids {
				c, err := getCommon(r, id, p)
				if err != nil {
					return err
				}
				if now.Sub(c.At) < SameEvery {
					continue
				}
				// Of a peer that is not remembered nobody would drop it.
				if has, err := r.Has(sharingKey(id, p)); err != nil || !has {
					if err != nil {
						return err
					}
					continue
				}
				c.At = now
				rec, err := json.Marshal(&c)
				if err != nil {
					return err
				}
				if err := w.Set(commonKey(id, p), rec); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// Lost says how many entries of a replica a peer was last found to have lost, and when; zero if it
// never was.
func (b *Book) Lost(
	ctx context.Context, id replica.ID, p peer.ID,
) (entries int, then time.Time, err error) {
	err = b.kv.View(ctx, func(r kv.Reader) error {
		c, err := getCommon(r, id, p)
		entries, then = c.Lost, c.Then
		return err
	})
	return entries, then, err
}

// LastSync returns when a replica was last the same here and at any peer, after a session of all
// its keys or found so in an overview (to the day), or zero.
func (b *Book) LastSync(ctx context.Context, id replica.ID) (last time.Time, err error) {
	err = b.kv.View(ctx, func(r kv.Reader) error {
		last = time.Time{}
		for p, err := range r.Scan(kv.Prefix(commonPrefix(id)), kv.ScanOptions{}) {
			if err != nil {
				return err
			}
			var c common
			if err := json.Unmarshal(p.Value, &c); err != nil {
				return fmt.Errorf("node store: what a peer has had: %w", err)
			}
			if c.At.After(last) {
				last = c.At
			}
		}
		return nil
	})
	return last, err
}
