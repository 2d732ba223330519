package node

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"lukechampine.com/blake3"

	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/replica"
)

// A lookup names a replica to one responder on one day: the replica's id hashed with the
// responder's id and the day. It tells nothing to a peer that does not hold the replica, and cannot
// be used elsewhere. So that a node with a million replicas finds one as fast as a node with ten,
// its own lookups are kept, for the days around the present one:
//
//	n k day u32 lookup[16]   a replica's id, by the first half of its lookup
//	n y day u32              all replicas have their record for this day
const (
	keyLookup  = "nk"
	keyDayDone = "ny"
)

// keyed is BLAKE3 keyed with 32 bytes; the parts have fixed lengths or are last.
func keyed(key [32]byte, parts ...[]byte) (out [32]byte) {
	h := blake3.New(32, key[:])
	for _, p := range parts {
		_, _ = h.Write(p) // never fails
	}
	h.Sum(out[:0])
	return out
}

// lookupOf names a replica to one responder on one day (since 1970, UTC).
func lookupOf(id replica.ID, responder peer.ID, day uint32) [32]byte {
	return keyed(id, []byte("skerry lookup 1\n"), binary.BigEndian.AppendUint32(nil, day), []byte(responder))
}

func dayOf(t time.Time) uint32 { return uint32(t.Unix() / 86400) }

// keptDays are those for which lookups are kept: a peer's clock may be a day off, and the next day
// is prepared before it comes.
func keptDays(today uint32) []uint32 { return []uint32{today - 1, today, today + 1, today + 2} }

func dayKey(kind string, day uint32) []byte { return binary.BigEndian.AppendUint32([]byte(kind), day) }

func lookupKey(day uint32, lookup *[32]byte) []byte {
	return append(dayKey(keyLookup, day), lookup[:16]...)
}

// onHold is the replica store's OnHold: a replica can be looked up as soon as it is held, and found
// soon.
func (n *Node) onHold(tx kv.Txn, id replica.ID) error {
	n.discovery.announceSoon(id)
	for _, day := range keptDays(dayOf(n.cfg.Now())) {
		lookup := lookupOf(id, n.id, day)
		if err := tx.Set(lookupKey(day, &lookup), bytes.Clone(id[:])); err != nil {
			return err
		}
	}
	return nil
}

// onLeave is the replica store's OnLeave.
func (n *Node) onLeave(tx kv.Txn, id replica.ID) error {
	today := dayOf(n.cfg.Now())
	for day := today - 2; day <= today+2; day++ { // those of earlier days go with their day
		lookup := lookupOf(id, n.id, day)
		if err := tx.Delete(lookupKey(day, &lookup)); err != nil {
			return err
		}
	}
	return nil
}

// lookUp finds the replica that a peer asks for, or returns ErrNotShared. Its cost does not depend
// on how many are held.
func (n *Node) lookUp(ctx context.Context, lookup [32]byte) (id replica.ID, err error) {
	today := dayOf(n.cfg.Now())
	found := false
	err = n.kv.View(ctx, func(rd kv.Reader) error {
		for _, day := range []uint32{today, today - 1, today + 1} {
			err := rd.Peek(lookupKey(day, &lookup), func(b []byte) error {
				if len(b) != len(id) {
					return errors.New("node store: malformed lookup")
				}
				if lookupOf(replica.ID(b), n.id, day) == lookup {
					id, found = replica.ID(b), true
				}
				return nil
			})
			if err != nil && !errors.Is(err, kv.ErrNotFound) {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return id, fmt.Errorf("look up: %w", err)
	}
	if !found {
		return id, ErrNotShared
	}
	_, err = n.Replicas.Get(ctx, id)
	if errors.Is(err, replica.ErrNotFound) {
		return id, ErrNotShared
	}
	return id, err
}

// keepLookups prepares the lookups of the days that come, until ctx ends.
func (n *Node) keepLookups(ctx context.Context) {
	for ctx.Err() == nil {
		wait := time.Hour
		if err := n.refreshLookups(ctx); err != nil && ctx.Err() == nil {
			n.log.Warn("preparing lookups", "error", err)
			wait = time.Minute
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// refreshLookups makes the lookups of days that have none yet, and drops those of days gone by.
func (n *Node) refreshLookups(ctx context.Context) error {
	days := keptDays(dayOf(n.cfg.Now()))
	var missing []uint32
	err := n.kv.View(ctx, func(rd kv.Reader) error {
		for _, day := range days {
			done, err := rd.Has(dayKey(keyDayDone, day))
			if err != nil {
				return err
			}
			if !done {
				missing = append(missing, day)
			}
		}
		return nil
	})
	if err != nil || len(missing) == 0 {
		return err
	}
	err = n.kv.Batch(ctx, func(w kv.Writer) error {
		for r, err := range n.Replicas.All(ctx) { // one that comes from now on has its records for all days from the start
			if err != nil {
				return err
			}
			for _, day := range missing {
				lookup := lookupOf(r.ID, n.id, day)
				if err := w.Set(lookupKey(day, &lookup), bytes.Clone(r.ID[:])); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	err = n.kv.Batch(ctx, func(w kv.Writer) error {
		for _, day := range missing {
			if err := w.Set(dayKey(keyDayDone, day), nil); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return n.kv.View(ctx, func(rd kv.Reader) error {
		return n.kv.Batch(ctx, func(w kv.Writer) error {
			for _, kind := range []string{keyLookup, keyDayDone} {
				old := kv.Range{From: []byte(kind), To: dayKey(kind, days[0])}
				for p, err := range rd.Scan(old, kv.ScanOptions{KeysOnly: true}) {
					if err == nil {
						err = w.Delete(bytes.Clone(p.Key))
					}
					if err != nil {
						return err
					}
				}
			}
			return nil
		})
	})
}
