package replica

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/skerry-sync/skerry/kv"
)

// A ClockError reports a write that other nodes would refuse: the author's last version of the key
// lies more than MaxAhead ahead of this node's clock, and the next one must be later still. Either
// the clock was ahead then, or it is behind now.
type ClockError struct {
	Name string // of the replica
	Key  []byte // as it is stored
	Last time.Time
	Now  time.Time
}

func (e *ClockError) Error() string {
	ahead := e.Last.Sub(e.Now).Round(time.Minute)
	return fmt.Sprintf(
		"replica %s: the author's last version of the key has the time %s, %s ahead of "+
			"this clock: other nodes refuse it and what follows on it. If this clock is right now, "+
			"skerry replica verify --repair %s signs the key anew; else set the clock", e.Name,
		e.Last.UTC().Format(time.RFC3339), ahead, e.Name,
	)
}

// Unwrap makes it an ErrFuture.
func (e *ClockError) Unwrap() error { return ErrFuture }

// aheadOf returns the greatest timestamp that nodes take when it is now.
func aheadOf(now time.Time) uint64 { return uint64(now.Add(MaxAhead).UnixMicro()) }

func micros(us uint64) time.Time { return time.UnixMicro(int64(min(us, 1<<63-1))) }

// Ahead yields the entries of the replica id that lie more than MaxAhead ahead of this node's
// clock. Other nodes refuse them until that time. It yields ErrNotFound.
func (s *Store) Ahead(ctx context.Context, id ID) iter.Seq2[Entry, error] {
	since := micros(aheadOf(s.cfg.Now()) + 1)
	return s.Entries(ctx, id, Query{ByTime: true, Since: since, Tombstones: true})
}

// mendAtOnce is how many entries MendAhead takes into one transaction.
const mendAtOnce = 256

// MendAhead signs the entries anew that Ahead yields, with the present time, where this node has
// the author's key; left counts the others. It is the only way by which a version gives way to one
// of an earlier time: nodes whose clocks are right have refused the later one.
//
// A node whose clock was ahead, too, may have taken the later one. It wins again when its time
// comes.
func (s *Store) MendAhead(ctx context.Context, id ID) (mended, left int, err error) {
	lock := s.writes.of(id)
	lock.Lock()
	defer lock.Unlock()
	var all []Entry
	keys := map[AuthorID]SecretKey{}
	for e, err := range s.Ahead(ctx, id) {
		if err != nil {
			return 0, 0, err
		}
		if _, known := keys[e.Author]; !known {
			k, err := s.AuthorKey(ctx, e.Author)
			if err != nil && !errors.Is(err, ErrNotFound) {
				return 0, 0, err
			}
			keys[e.Author] = k
		}
		if keys[e.Author].IsZero() {
			left++
			continue
		}
		all = append(all, e)
	}
	for len(all) > 0 {
		n := fitting(all, mendAtOnce, func(e *Entry) int { return len(e.Key) })
		did, err := s.mendSome(ctx, id, all[:n], keys)
		if err != nil {
			return mended, left, fmt.Errorf("mend replica %s: %w", id.Short(), err)
		}
		mended, left, all = mended+did, left+n-did, all[n:]
	}
	return mended, left, s.kv.Sync(ctx)
}

func (s *Store) mendSome(
	ctx context.Context, id ID, old []Entry, keys map[AuthorID]SecretKey,
) (mended int, err error) {
	now := uint64(s.cfg.Now().UnixMicro())
	var fresh []Entry
	err = s.kv.Update(ctx, func(tx kv.Txn) error {
		fresh = make([]Entry, 0, len(old)) // its entries must not move
		r, err := getReplica(tx, id)
		if err != nil {
			return err
		}
		p := s.putter(tx, &r)
		for i := range old {
			e := old[i]
			e.Timestamp = now
			if ok, err := p.granted(&e); err != nil {
				return err
			} else if !ok {
				continue
			}
			e.Sign(keys[e.Author])
			fresh = append(fresh, e)
			if err := p.exchange(&old[i], &fresh[len(fresh)-1]); err != nil {
				return err
			}
		}
		return p.finish(ctx)
	})
	if err != nil || len(fresh) == 0 {
		return 0, err
	}
	s.prints.changed(id)
	s.events.publish(fresh, Local, false)
	return len(fresh), nil
}
