package replica

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"iter"
	"math"
	"time"

	"github.com/skerry-sync/skerry/kv"
)

// Query selects entries of a replica. Its zero value selects all of them, in the order of keys,
// without tombstones.
type Query struct {
	Key        []byte    // if not nil, only this key
	Prefix     []byte    // only keys that begin with this
	After      []byte    // if not nil, only keys that come after this one
	Before     []byte    // if not nil, only keys that come before this one
	Author     *AuthorID // only entries by this author
	Since      time.Time // only entries at or after this time
	Until      time.Time // only entries before this time; zero for no limit
	ByTime     bool      // in the order of timestamps instead of keys; not for Latest
	Reverse    bool      // from the last to the first
	Limit      int       // at most this many; 0 for no limit
	Tombstones bool      // also entries that mark deletions
}

func (q *Query) order() kv.Range {
	if q.Key != nil {
		return orderOfKey(q.Key)
	}
	r := orderOfPrefix(q.Prefix)
	if q.Before != nil {
		to := orderOfKey(q.Before).From
		if r.To == nil || bytes.Compare(to, r.To) < 0 {
			r.To = to
		}
		if bytes.Compare(r.From, r.To) > 0 {
			r.From = r.To
		}
	}
	if q.After != nil {
		if from := orderOfKey(q.After).To; bytes.Compare(from, r.From) > 0 {
			r.From = from
		}
		if r.To != nil && bytes.Compare(r.From, r.To) > 0 {
			r.From = r.To
		}
	}
	return r
}

// times returns the wanted timestamps, first inclusive, last exclusive.
func (q *Query) times() (from, to uint64) {
	to = math.MaxUint64
	if !q.Since.IsZero() {
		from = uint64(max(q.Since.UnixMicro(), 0))
	}
	if !q.Until.IsZero() {
		to = uint64(max(q.Until.UnixMicro(), 0))
	}
	return from, to
}

// selects checks everything but order and limit.
func (q *Query) selects(e *Entry) bool {
	from, to := q.times()
	return (q.Key == nil || bytes.Equal(e.Key, q.Key)) && bytes.HasPrefix(e.Key, q.Prefix) &&
		(q.After == nil || bytes.Compare(e.Key, q.After) > 0) &&
		(q.Before == nil || bytes.Compare(e.Key, q.Before) < 0) &&
		(q.Author == nil || e.Author == *q.Author) && e.Timestamp >= from && e.Timestamp < to &&
		(q.Tombstones || !e.IsTombstone())
}

// Entries yields the entries of every author that q selects, from one state of the replica.
func (s *Store) Entries(ctx context.Context, id ID, q Query) iter.Seq2[Entry, error] {
	return s.yieldEntries(
		ctx, id, q.Limit, func(rd kv.Reader, r *Replica, visit func(Entry) bool) error {
			return walkQuery(rd, r, &q, visit)
		},
	)
}

// walkQuery visits the entries that q selects, but for its limit.
func walkQuery(rd kv.Reader, r *Replica, q *Query, visit func(Entry) bool) error {
	keep := func(e Entry) bool { return !q.selects(&e) || visit(e) }
	if q.ByTime {
		return walkTime(rd, r, q, keep)
	}
	return walkEntries(rd, r, q.order(), q.Reverse, keep)
}

// Latest yields for each key the entry that stands for it: the one with the greatest (timestamp,
// author) among all authors. It is a view, not a decision: the other entries stay. A key whose
// latest entry is a tombstone is left out unless q.Tombstones. Author and times select among the
// latest entries.
func (s *Store) Latest(ctx context.Context, id ID, q Query) iter.Seq2[Entry, error] {
	return s.yieldEntries(
		ctx, id, q.Limit, func(rd kv.Reader, r *Replica, visit func(Entry) bool) error {
			var best Entry
			var any, stopped bool
			done := func() bool { // the entries of a key have all been seen
				if any && q.selects(&best) {
					stopped = !visit(best)
				}
				return !stopped
			}
			err := walkEntries(rd, r, q.order(), q.Reverse, func(e Entry) bool {
				if any && bytes.Equal(best.Key, e.Key) {
					if CompareVersions(&e, &best) > 0 {
						best = e
					}
					return true
				}
				if !done() {
					return false
				}
				best, any = e, true
				return true
			})
			if err == nil && !stopped {
				done()
			}
			return err
		},
	)
}

// LatestOf returns the entry that stands for key, or ErrNotFound if there is none or it is a
// tombstone.
func (s *Store) LatestOf(ctx context.Context, id ID, key []byte) (Entry, error) {
	if key == nil {
		key = []byte{}
	}
	for e, err := range s.Latest(ctx, id, Query{Key: key}) {
		return e, err
	}
	return Entry{}, ErrNotFound
}

// yieldEntries turns a walk inside a view into an iterator, with a limit. A replica that is not
// held has no entries.
func (s *Store) yieldEntries(
	ctx context.Context, id ID, limit int, run func(kv.Reader, *Replica, func(Entry) bool) error,
) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		stopped, n := false, 0
		err := s.view(ctx, id, func(rd kv.Reader, r *Replica) error {
			return run(rd, r, func(e Entry) bool {
				n++
				stopped = !yield(e, nil) || n == limit
				return !stopped
			})
		})
		if err != nil && !stopped && !errors.Is(err, ErrNotFound) {
			yield(Entry{}, err)
		}
	}
}

func walkEntries(
	rd kv.Reader, r *Replica, order kv.Range, reverse bool, visit func(Entry) bool,
) error {
	var bad error
	err := walk(rd, r.number, order, reverse, func(key []byte, author AuthorID, value []byte) bool {
		e, err := parseValue(r.ID, key, author, value)
		if err != nil {
			bad = err
			return false
		}
		return visit(e)
	})
	return errors.Join(err, bad)
}

// walkTime visits entries in the order of time. If q names an author, it looks only where that one
// has entries, and stops behind the last of them.
func walkTime(rd kv.Reader, r *Replica, q *Query, visit func(Entry) bool) error {
	from, to := q.times()
	left := uint64(math.MaxUint64)
	var only writer
	if q.Author != nil {
		var err error
		if only, err = getWriter(rd, r.number, *q.Author); errors.Is(err, ErrNotFound) {
			return nil
		} else if err != nil {
			return err
		}
		from, left = max(from, only.first), only.entries
		if only.last < to {
			to = only.last + 1
		}
	}
	prefix := numberKey(keyByTime, r.number)
	span := kv.Range{
		From: binary.BigEndian.AppendUint64(bytes.Clone(prefix), from),
		To:   binary.BigEndian.AppendUint64(bytes.Clone(prefix), to),
	}
	if to == math.MaxUint64 {
		span.To = kv.After(prefix)
	}
	authors := writerIDs{rd: rd, of: r.number}
	for p, err := range rd.Scan(span, kv.ScanOptions{Reverse: q.Reverse}) {
		if err != nil {
			return err
		}
		if len(p.Value) < 4 {
			return errBadRecord
		}
		n := binary.BigEndian.Uint32(p.Value)
		if q.Author != nil && n != only.number {
			continue
		}
		author, err := authors.get(n)
		if err != nil {
			return err
		}
		e, err := getEntry(rd, r, bytes.Clone(p.Value[4:]), author)
		if err != nil {
			return err
		}
		if left--; !visit(e) || left == 0 {
			return nil
		}
	}
	return nil
}

// AuthorsOf returns the authors who have entries in the replica id, in the order of their ids.
func (s *Store) AuthorsOf(ctx context.Context, id ID) (authors []AuthorID, err error) {
	err = s.view(ctx, id, func(rd kv.Reader, r *Replica) error {
		authors = nil
		prefix := numberKey(keyWriter, r.number)
		for p, err := range rd.Scan(kv.Prefix(prefix), kv.ScanOptions{}) {
			if err != nil {
				return err
			}
			w, err := parseWriter(p.Value)
			if err != nil {
				return err
			}
			if w.entries > 0 { // else all were void, and have been dropped
				authors = append(authors, AuthorID(p.Key[len(prefix):]))
			}
		}
		return nil
	})
	return authors, err
}

// EntryIn returns the entry of a key by an author, as part of a larger transaction on the store
// kept in r's kv.Store, or ErrNotFound.
func EntryIn(rd kv.Reader, id ID, key []byte, author AuthorID) (Entry, error) {
	r, err := getReplica(rd, id)
	if err != nil {
		return Entry{}, err
	}
	return getEntry(rd, &r, key, author)
}

// HeldIn returns ErrNotFound unless the node holds the replica id, as part of a larger transaction.
func HeldIn(rd kv.Reader, id ID) error {
	_, err := getReplica(rd, id)
	return err
}

// IsAllowed reports whether a grant allows an entry now.
func (s *Store) IsAllowed(ctx context.Context, e *Entry) (ok bool, err error) {
	err = s.kv.View(ctx, func(rd kv.Reader) error {
		ok, err = s.may(rd, e.Replica, map[AuthorID]*rights{}, e, true)
		return err
	})
	return ok, err
}
