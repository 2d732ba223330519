package replica

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/skerry-sync/skerry/kv"
)

// Limits of one transaction of Insert.
const (
	insertEntries = 1024
	insertBytes   = 512 << 10
)

// Origin says where entries come from.
type Origin struct {
	Peer   string // the peer's id, or nothing for this node itself
	Spread bool   // the way by which they came brings them to other peers, too
}

// Local is the origin of what this node writes.
var Local Origin

// Inserted tells what became of entries.
type Inserted struct {
	Added []Entry // stored; they are new or replaced an older version
	Known int     // not stored: the same or a newer version was there
	Later int     // not stored: too far ahead of the clock, may come again
	// Void counts entries by keys of small order. A program that does not know the rule stores them,
	// and sends them in good faith; they are passed over, before their signatures are verified.
	Void int
	// NoRoom counts entries that Config.OnTake has kept out. They may come again.
	NoRoom int
}

// Insert stores entries of the replica id that came from elsewhere, after checking each: its
// replica, signature, time, and that a grant covers it. Those that fail do not keep the others out:
// the error, an *EntryError, names the first of them. Entries that are too far in the future are
// counted, not stored, and no error. What is stored survives the death of the process; call Sync
// before telling anybody that it survives more.
func (s *Store) Insert(ctx context.Context, id ID, entries []Entry, from Origin) (Inserted, error) {
	good, out, firstErr := s.check(id, entries)
	lock := s.writes.of(id)
	lock.Lock()
	defer lock.Unlock()
	if err := s.store(ctx, id, good, from, &out, &firstErr); err != nil {
		return out, fmt.Errorf("insert into replica %s: %w", id.Short(), err)
	}
	return out, firstErr
}

// check returns the entries that are right as far as one can tell without looking at what is
// stored, how many are passed over, and what is wrong with the first of the others.
func (s *Store) check(id ID, entries []Entry) (good []Entry, out Inserted, first error) {
	limit := aheadOf(s.cfg.Now())
	good = make([]Entry, 0, len(entries))
	for _, e := range entries {
		err := e.check()
		switch {
		case e.Replica != id:
			err = e.failed(ErrWrongReplica)
		case len(e.Key) > MaxKey:
			err = e.failed(ErrKeyTooLong)
		}
		switch {
		case err != nil:
			first = firstOf(first, err)
		case isWeak(e.Author):
			out.Void++
		case e.Timestamp > limit:
			out.Later++
		default:
			good = append(good, e)
		}
	}
	good, err := s.verifyAll(good)
	return good, out, firstOf(first, err)
}

func firstOf(first, next error) error {
	if first != nil {
		return first
	}
	return next
}

// store puts verified entries, in as many transactions as they need; the caller holds the replica's
// lock.
func (s *Store) store(
	ctx context.Context, id ID, entries []Entry, from Origin, out *Inserted, refused *error,
) error {
	for len(entries) > 0 {
		n := fitting(entries, s.atOnce.get(), func(e *Entry) int { return len(e.Key) })
		err := s.storeSome(ctx, id, entries[:n], from, out, refused)
		for errors.Is(err, kv.ErrTooBig) && n > 1 {
			s.atOnce.tooBig(n)
			n = (n + 1) / 2
			err = s.storeSome(ctx, id, entries[:n], from, out, refused)
		}
		if err != nil {
			return err
		}
		s.atOnce.fits()
		entries = entries[n:]
	}
	return nil
}

// atOnce is how many entries are put into a transaction. Those that lie far apart touch many nodes
// of the tree, and where such come, transactions must be smaller for a while.
type atOnce struct {
	mu   sync.Mutex
	less int // 0 for insertEntries
	good int // transactions that fitted since it changed
}

func (a *atOnce) get() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.less == 0 {
		return insertEntries
	}
	return a.less
}

func (a *atOnce) tooBig(tried int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.less, a.good = max((tried+1)/2, 1), 0
}

func (a *atOnce) fits() {
	const patience = 64
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.less == 0 {
		return
	}
	if a.good++; a.good == patience {
		if a.less, a.good = 2*a.less, 0; a.less >= insertEntries {
			a.less = 0
		}
	}
}

// fitting returns how many of some entries go into one transaction.
func fitting[T any](all []T, most int, keyLen func(*T) int) int {
	n, size := 0, 0
	for n < len(all) && n < most && size < insertBytes {
		size += 2*keyLen(&all[n]) + 256
		n++
	}
	return n
}

func (s *Store) storeSome(
	ctx context.Context, id ID, entries []Entry, from Origin, out *Inserted, refused *error,
) error {
	var added []Entry
	var known, noRoom int
	var notGranted error
	err := s.kv.Update(ctx, func(tx kv.Txn) error {
		added, known, notGranted = nil, 0, nil
		r, err := getReplica(tx, id)
		if err != nil {
			return err
		}
		p := s.putter(tx, &r)
		p.foreign = true
		for i := range entries {
			e := &entries[i]
			ok, err := p.granted(e)
			if err != nil {
				return err
			}
			if !ok {
				notGranted = firstOf(notGranted, e.failed(ErrNotGranted))
				continue
			}
			stored, err := p.put(e)
			if err != nil {
				return err
			}
			if stored {
				added = append(added, *e)
			} else {
				known++
			}
		}
		noRoom = p.noRoom
		known -= noRoom
		return p.finish(ctx)
	})
	if err != nil {
		return err
	}
	out.NoRoom += noRoom
	*refused = firstOf(*refused, notGranted)
	out.Known += known
	out.Added = append(out.Added, added...)
	s.prints.changed(id)
	s.events.publish(added, from, false)
	return nil
}

// Sync returns when everything stored before the call survives the loss of power.
func (s *Store) Sync(ctx context.Context) error { return s.kv.Sync(ctx) }
