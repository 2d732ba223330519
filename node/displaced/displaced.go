// Package displaced keeps entries whose place in a replica was taken by entries of the same author
// that came from elsewhere, until somebody has looked at them: an author writes on one device, so
// either the later entry was written over the former one, or the device was copied. It also keeps
// entries by authors of this device that a revocation has made void: nobody else may have them.
//
// What belongs here: the records of such entries, and how many are kept. What never belongs here:
// what the entries mean, and when they are not needed any more (package versions), and their
// content, which the node keeps from being collected.
//
// Start at [List].
package displaced

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/replica"
)

// How many entries are kept. Whoever may write can have entries displaced as often as he likes, and
// each of them keeps its content.
const (
	// MaxOfPlace is how many are kept of one key and author: the first, and the last three. The first
	// is what this device wrote before it learned of a copy of itself, and what nobody else may have.
	// The last are the newest of each copy; what stood between, these supersede most likely.
	MaxOfPlace = 4
	// MaxOfAuthor is how many are kept of one author. Further ones are not kept: to drop older ones
	// would let an author drive out what waits to be looked at.
	MaxOfAuthor = 1 << 14
	// MaxOfReplica is how many are kept of all authors together. Those of authors whose keys are here
	// are kept all the same.
	MaxOfReplica = 1 << 16
)

// Config is what a List needs. All fields must be set.
type Config struct {
	Store kv.Store
	// Own reports whether the key of an author is here.
	Own func(rd kv.Reader, a replica.AuthorID) (bool, error)
	// Held returns an error unless the node holds a replica.
	Held func(rd kv.Reader, id replica.ID) error
}

// limits are the above, but in tests.
type limits struct{ place, author, all int }

// List is the displaced entries of the replicas of a node in which they are kept. Its methods may
// be called from many goroutines.
type List struct {
	cfg  Config
	most limits

	mu sync.RWMutex
	of map[replica.ID]*kept
}

// kept is a replica in which displaced entries are kept.
type kept struct {
	// puts counts entries that were about to be recorded. Of transactions that fail it counts more.
	puts atomic.Uint64
	// empty is what puts was when there were no records.
	empty atomic.Uint64
}

func (k *kept) any() bool { return k.puts.Load() != k.empty.Load() }

// New returns the list in a store, as if no replica kept displaced entries: these Load reads.
func New(cfg Config) *List {
	return &List{
		cfg: cfg, of: map[replica.ID]*kept{}, most: limits{MaxOfPlace, MaxOfAuthor, MaxOfReplica},
	}
}

// Load reads in which replicas displaced entries are kept, and deletes what is left of replicas
// that the node does not hold any more. It must be called before the list is used from several
// goroutines.
func (l *List) Load(ctx context.Context) error {
	var left []replica.ID
	err := l.cfg.Store.View(ctx, func(rd kv.Reader) error {
		left = nil
		for p, err := range rd.Scan(kv.Prefix([]byte(keyKept)), kv.ScanOptions{}) {
			if err != nil {
				return err
			}
			if len(p.Key) != len(keyKept)+32 {
				return errMalformed
			}
			t, err := parseTally(p.Value)
			if err != nil {
				return err
			}
			k := &kept{}
			k.puts.Store(t.count)
			l.of[replica.ID(p.Key[len(keyKept):])] = k
		}
		return l.eachRecorded(rd, func(id replica.ID) {
			if l.of[id] == nil {
				left = append(left, id)
			}
		})
	})
	for _, id := range left {
		err = errors.Join(err, l.erase(ctx, id))
	}
	if err != nil {
		return fmt.Errorf("load displaced entries: %w", err)
	}
	return nil
}

// Keep has displaced entries of a replica kept from now on, until it is left.
func (l *List) Keep(ctx context.Context, id replica.ID) error {
	has := false
	err := l.cfg.Store.View(ctx, func(rd kv.Reader) (err error) {
		has, err = rd.Has(keptKey(id))
		return err
	})
	if err == nil && !has {
		err = l.erase(ctx, id) // of an earlier time at which it was held
	}
	if err != nil {
		return err
	}
	l.mu.Lock()
	if l.of[id] == nil { // before the mark: what is displaced from then on is recorded
		l.of[id] = &kept{}
	}
	l.mu.Unlock()
	err = l.cfg.Store.Update(ctx, func(tx kv.Txn) error {
		if err := l.cfg.Held(tx, id); err != nil {
			return err
		}
		has, err := tx.Has(keptKey(id))
		if has || err != nil {
			return err
		}
		return tx.Set(keptKey(id), tally{}.marshal())
	})
	if err != nil && !has {
		l.mu.Lock()
		delete(l.of, id)
		l.mu.Unlock()
	}
	if err != nil {
		return err
	}
	return l.cfg.Store.Sync(ctx)
}

func (l *List) get(id replica.ID) *kept {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.of[id]
}

// Keeps reports whether displaced entries of a replica are kept.
func (l *List) Keeps(id replica.ID) bool { return l.get(id) != nil }

// Any reports whether there may be displaced entries of a replica. It reads nothing from the store.
func (l *List) Any(id replica.ID) bool {
	k := l.get(id)
	return k != nil && k.any()
}

// Put is the replica store's OnDisplace.
func (l *List) Put(tx kv.Txn, _, old *replica.Entry) error {
	return l.put(tx, old, true)
}

// PutVoid is for the replica store's OnDrop: of an author whose key is here, an entry that is void
// is kept, too. There are no more of these than this device has written, so none is left out.
func (l *List) PutVoid(tx kv.Txn, e *replica.Entry) error {
	if l.get(e.Replica) == nil || e.IsTombstone() {
		return nil
	}
	if own, err := l.cfg.Own(tx, e.Author); !own || err != nil {
		return err
	}
	return l.put(tx, e, false)
}

func (l *List) put(tx kv.Txn, old *replica.Entry, limited bool) error {
	k := l.get(old.Replica)
	if k == nil || old.IsTombstone() {
		return nil
	}
	b, err := tx.Get(keptKey(old.Replica))
	if errors.Is(err, kv.ErrNotFound) {
		return nil // left, or not marked yet
	}
	if err != nil {
		return err
	}
	t, err := parseTally(b)
	if err != nil {
		return err
	}
	numbers, err := numbersAt(tx, old)
	if err != nil {
		return err
	}
	of, err := countOf(tx, old)
	if err != nil {
		return err
	}
	if len(numbers) >= l.most.place {
		err = tx.Delete(entryKey(old, numbers[1]))
		t.count, of = t.count-1, of-1
	} else if limited {
		var full bool
		if full, err = l.isFull(tx, old, &t, of); full {
			return nil
		}
	}
	if err != nil {
		return err
	}
	k.puts.Add(1)
	raw, err := old.AppendBinary(nil)
	if err != nil {
		return err
	}
	t.next, t.count = t.next+1, t.count+1
	return errors.Join(
		tx.Set(entryKey(old, t.next), raw), tx.Set(keptKey(old.Replica), t.marshal()),
		tx.Set(countKey(old), binary.BigEndian.AppendUint32(nil, of+1)),
	)
}

// isFull reports whether there is no room for one more entry of an author, who has of them.
func (l *List) isFull(rd kv.Reader, e *replica.Entry, t *tally, of uint32) (bool, error) {
	if int(of) >= l.most.author {
		return true, nil
	}
	if t.count < uint64(l.most.all) {
		return false, nil
	}
	own, err := l.cfg.Own(rd, e.Author)
	return !own, err
}

// forgetAtOnce is how many records one transaction drops.
const forgetAtOnce = 256

// Forget drops records of entries; those that are not recorded do not matter.
func (l *List) Forget(ctx context.Context, id replica.ID, all []replica.Entry) error {
	k := l.get(id)
	if k == nil {
		return nil
	}
	for len(all) > 0 {
		n := min(len(all), forgetAtOnce)
		if err := l.forget(ctx, id, k, all[:n]); err != nil {
			return fmt.Errorf("forget displaced entries of replica %s: %w", id.Short(), err)
		}
		all = all[n:]
	}
	return nil
}

func (l *List) forget(ctx context.Context, id replica.ID, k *kept, all []replica.Entry) error {
	var puts uint64
	none := false
	err := l.cfg.Store.Update(ctx, func(tx kv.Txn) error {
		// Who puts later than this counts once more; who has put before and is not committed conflicts
		// with this transaction, and puts again.
		puts, none = k.puts.Load(), false
		b, err := tx.Get(keptKey(id))
		if errors.Is(err, kv.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		t, err := parseTally(b)
		if err != nil {
			return err
		}
		for i := range all {
			at, err := recordOf(tx, &all[i])
			if err != nil {
				return err
			}
			if at == nil {
				continue
			}
			of, err := countOf(tx, &all[i])
			if err != nil {
				return err
			}
			t.count--
			if of--; of == 0 {
				err = tx.Delete(countKey(&all[i]))
			} else {
				err = tx.Set(countKey(&all[i]), binary.BigEndian.AppendUint32(nil, of))
			}
			if err = errors.Join(err, tx.Delete(at)); err != nil {
				return err
			}
		}
		none = t.count == 0
		return tx.Set(keptKey(id), t.marshal())
	})
	if err == nil && none {
		k.empty.Store(puts)
	}
	return err
}

// Leave is for the replica store's OnLeave: nothing more is kept of a replica.
func (l *List) Leave(tx kv.Txn, id replica.ID) error { return tx.Delete(keptKey(id)) }

// Left drops all that is recorded of a replica which has been left.
func (l *List) Left(ctx context.Context, id replica.ID) error {
	l.mu.Lock()
	delete(l.of, id)
	l.mu.Unlock()
	return l.erase(ctx, id)
}
