package discovery

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/node/contacts"
	"github.com/skerry-sync/skerry/node/names"
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

// keptDays are those for which lookups are kept: a peer's clock may be a day off, and the next day
// is prepared before it comes. A clock without a battery begins on day 0, which has none before it.
func keptDays(today uint32) []uint32 {
	today = max(today, 1)
	return []uint32{today - 1, today, today + 1, today + 2}
}

// Lookups are those of the replicas that a node holds. Its methods may be called from many
// goroutines.
type Lookups struct{ cfg LookupConfig }

// LookupConfig is what lookups need.
type LookupConfig struct {
	Store kv.Store
	Self  peer.ID
	Now   func() time.Time
	Log   *slog.Logger
	// All gives the replicas that are held, and Get one of them, or replica.ErrNotFound. Neither is
	// called by Hold and Leave, which are for the transactions of the store of replicas.
	All func(ctx context.Context) iter.Seq2[replica.Replica, error]
	Get func(ctx context.Context, id replica.ID) (replica.Replica, error)
}

// NewLookups returns the lookups that the store has.
func NewLookups(cfg LookupConfig) *Lookups { return &Lookups{cfg} }

func dayKey(kind string, day uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte(kind), day)
}

func lookupKey(day uint32, lookup *[32]byte) []byte {
	return append(dayKey(keyLookup, day), lookup[:16]...)
}

// held returns the days for which a replica that is held has its records: those around the present
// day, and those that Refresh has made complete. They differ while the clock is wrong.
func (l *Lookups) held(tx kv.Txn) ([]uint32, error) {
	days := keptDays(names.Day(l.cfg.Now()))
	for p, err := range tx.Scan(kv.Prefix([]byte(keyDayDone)), kv.ScanOptions{KeysOnly: true}) {
		if err != nil {
			return nil, err
		}
		if len(p.Key) != len(keyDayDone)+4 {
			return nil, errors.New("node store: malformed day of lookups")
		}
		day := binary.BigEndian.Uint32(p.Key[len(keyDayDone):])
		if !slices.Contains(days, day) {
			days = append(days, day)
		}
	}
	return days, nil
}

// Hold is for the transaction in which a replica comes to be held: from then on it can be looked
// up.
func (l *Lookups) Hold(tx kv.Txn, id replica.ID) error {
	days, err := l.held(tx)
	if err != nil {
		return err
	}
	for _, day := range days {
		lookup := names.Lookup(id, l.cfg.Self, day)
		if err := tx.Set(lookupKey(day, &lookup), bytes.Clone(id[:])); err != nil {
			return err
		}
	}
	return nil
}

// Leave is for the transaction in which a replica is left.
func (l *Lookups) Leave(tx kv.Txn, id replica.ID) error {
	days, err := l.held(tx) // those of other days go with their day
	if err != nil {
		return err
	}
	for _, day := range days {
		lookup := names.Lookup(id, l.cfg.Self, day)
		if err := tx.Delete(lookupKey(day, &lookup)); err != nil {
			return err
		}
	}
	return nil
}

// Find returns the replica that a peer asks for, or ErrNotShared. Its cost does not depend on how
// many are held.
func (l *Lookups) Find(ctx context.Context, lookup [32]byte) (id replica.ID, err error) {
	today := names.Day(l.cfg.Now())
	found := false
	err = l.cfg.Store.View(ctx, func(rd kv.Reader) error {
		for _, day := range []uint32{today, today - 1, today + 1} {
			err := rd.Peek(lookupKey(day, &lookup), func(b []byte) error {
				if len(b) != len(id) {
					return errors.New("node store: malformed lookup")
				}
				if names.Lookup(replica.ID(b), l.cfg.Self, day) == lookup {
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
		return id, contacts.ErrNotShared
	}
	_, err = l.cfg.Get(ctx, id)
	if errors.Is(err, replica.ErrNotFound) {
		return id, contacts.ErrNotShared
	}
	return id, err
}

// refreshEvery is how soon lookups are there after the clock has moved to another day. A machine
// that sleeps, or whose clock is set, does not reach the next day in the usual time.
const refreshEvery = time.Minute

// Keep prepares the lookups of the days that come, until ctx ends.
func (l *Lookups) Keep(ctx context.Context) {
	for ctx.Err() == nil {
		if err := l.Refresh(ctx); err != nil && ctx.Err() == nil {
			l.cfg.Log.Warn("preparing lookups", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(refreshEvery):
		}
	}
}

// Refresh makes the lookups of days that have none yet, and drops those of days gone by. It also
// drops those of days far ahead, which a wrong clock has made: replicas that come meanwhile would
// be missing there.
func (l *Lookups) Refresh(ctx context.Context) error {
	days := keptDays(names.Day(l.cfg.Now()))
	var missing []uint32
	err := l.cfg.Store.View(ctx, func(rd kv.Reader) error {
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
	if err := l.dropOthers(ctx, days); err != nil {
		return err
	}
	err = l.cfg.Store.Batch(ctx, func(w kv.Writer) error {
		// One that comes from now on has its records for all days from the start.
		for r, err := range l.cfg.All(ctx) {
			if err != nil {
				return err
			}
			for _, day := range missing {
				lookup := names.Lookup(r.ID, l.cfg.Self, day)
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
	return l.cfg.Store.Batch(ctx, func(w kv.Writer) error {
		for _, day := range missing {
			if err := w.Set(dayKey(keyDayDone, day), nil); err != nil {
				return err
			}
		}
		return nil
	})
}

// dropOthers drops the lookups of all but some days that follow each other.
func (l *Lookups) dropOthers(ctx context.Context, days []uint32) error {
	return l.cfg.Store.View(ctx, func(rd kv.Reader) error {
		return l.cfg.Store.Batch(ctx, func(w kv.Writer) error {
			for _, kind := range []string{keyDayDone, keyLookup} {
				all := kv.Prefix([]byte(kind))
				for _, other := range []kv.Range{
					{From: all.From, To: dayKey(kind, days[0])},
					{From: dayKey(kind, days[len(days)-1]+1), To: all.To},
				} {
					for p, err := range rd.Scan(other, kv.ScanOptions{KeysOnly: true}) {
						if err == nil {
							err = w.Delete(bytes.Clone(p.Key))
						}
						if err != nil {
							return err
						}
					}
				}
			}
			return nil
		})
	})
}
