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

// Query selects entries of a replica. Its zero value selects all of them, in the order of keys, without tombstones.
type Query struct {
	Key        []byte    // if not nil, only this key
	Prefix     []byte    // only keys that begin with this
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
	return orderOfPrefix(q.Prefix)
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
		(q.Author == nil || e.Author == *q.Author) && e.Timestamp >= from && e.Timestamp < to && (q.Tombstones || !e.IsTombstone())
}

// Entries yields the entries of every author that q selects, from one state of the replica.
func (s *Store) Entries(ctx context.Context, id ID, q Query) iter.Seq2[Entry, error] {
	return s.yieldEntries(ctx, q.Limit, func(rd kv.Reader, visit func(Entry) bool) error {
		keep := func(e Entry) bool { return !q.selects(&e) || visit(e) }
		if q.ByTime {
			return walkTime(rd, id, &q, keep)
		}
		return walkEntries(rd, id, q.order(), q.Reverse, keep)
	})
}

// Latest yields for each key the entry that stands for it: the one with the greatest (timestamp, author) among all authors. It is a view, not a
// decision: the other entries stay. A key whose latest entry is a tombstone is left out unless q.Tombstones. Author and times select among
// the latest entries.
func (s *Store) Latest(ctx context.Context, id ID, q Query) iter.Seq2[Entry, error] {
	return s.yieldEntries(ctx, q.Limit, func(rd kv.Reader, visit func(Entry) bool) error {
		var best Entry
		var any, stopped bool
		done := func() bool { // the entries of a key have all been seen
			if any && q.selects(&best) {
				stopped = !visit(best)
			}
			return !stopped
		}
		err := walkEntries(rd, id, q.order(), q.Reverse, func(e Entry) bool {
			if any && bytes.Equal(best.Key, e.Key) {
				if later(&e, &best) {
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
	})
}

// LatestOf returns the entry that stands for key, or ErrNotFound if there is none or it is a tombstone.
func (s *Store) LatestOf(ctx context.Context, id ID, key []byte) (Entry, error) {
	if key == nil {
		key = []byte{}
	}
	for e, err := range s.Latest(ctx, id, Query{Key: key}) {
		return e, err
	}
	return Entry{}, ErrNotFound
}

// yieldEntries turns a walk inside a View into an iterator, with a limit.
func (s *Store) yieldEntries(ctx context.Context, limit int, run func(kv.Reader, func(Entry) bool) error) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		stopped, n := false, 0
		err := s.kv.View(ctx, func(rd kv.Reader) error {
			return run(rd, func(e Entry) bool {
				n++
				stopped = !yield(e, nil) || n == limit
				return !stopped
			})
		})
		if err != nil && !stopped {
			yield(Entry{}, err)
		}
	}
}

func walkEntries(rd kv.Reader, id ID, order kv.Range, reverse bool, visit func(Entry) bool) error {
	var bad error
	err := walk(rd, id, order, reverse, func(key []byte, author AuthorID, value []byte) bool {
		e, err := parseValue(id, key, author, value)
		if err != nil {
			bad = err
			return false
		}
		return visit(e)
	})
	return errors.Join(err, bad)
}

// walkTime visits entries by the index of time, or that of author and time if q names one.
func walkTime(rd kv.Reader, id ID, q *Query, visit func(Entry) bool) error {
	prefix := idKey(keyByTime, id)
	if q.Author != nil {
		prefix = append(idKey(keyByAuthor, id), q.Author[:]...)
	}
	from, to := q.times()
	r := kv.Range{From: binary.BigEndian.AppendUint64(bytes.Clone(prefix), from), To: binary.BigEndian.AppendUint64(bytes.Clone(prefix), to)}
	if to == math.MaxUint64 {
		r.To = kv.After(prefix)
	}
	for p, err := range rd.Scan(r, kv.ScanOptions{Reverse: q.Reverse}) {
		if err != nil {
			return err
		}
		var author AuthorID
		key := p.Value
		if q.Author != nil {
			author = *q.Author
		} else {
			if len(key) < len(author) {
				return errors.New("replica store: malformed index record")
			}
			key = key[copy(author[:], key):]
		}
		e, err := getEntry(rd, id, bytes.Clone(key), author)
		if err != nil {
			return err
		}
		if !visit(e) {
			return nil
		}
	}
	return nil
}

// AuthorsOf returns the authors who have entries in the replica id, each found by one seek.
func (s *Store) AuthorsOf(ctx context.Context, id ID) (authors []AuthorID, err error) {
	err = s.kv.View(ctx, func(rd kv.Reader) error {
		authors = nil
		r := kv.Prefix(idKey(keyByAuthor, id))
		for {
			var next []byte
			for p, err := range rd.Scan(r, kv.ScanOptions{KeysOnly: true}) {
				if err != nil {
					return err
				}
				author := AuthorID(p.Key[len(keyByAuthor)+32:])
				authors = append(authors, author)
				next = kv.After(append(idKey(keyByAuthor, id), author[:]...))
				break
			}
			if next == nil {
				return nil
			}
			r.From = next
		}
	})
	return authors, err
}

// EntryIn returns the entry of a key by an author, as part of a larger transaction on the store kept in r's kv.Store, or ErrNotFound.
func EntryIn(r kv.Reader, id ID, key []byte, author AuthorID) (Entry, error) {
	return getEntry(r, id, key, author)
}
