package replica

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"

	"github.com/skerry-sync/skerry/kv"
)

// rebuild writes everything that follows from a replica's entries anew: indexes, counts and the
// tree. Nobody else may write to the replica.
func (s *Store) rebuild(ctx context.Context, r *Replica) error {
	prefixes := [][]byte{}
	for _, kind := range perEntry {
		if kind != keyEntry {
			prefixes = append(prefixes, numberKey(kind, r.number))
		}
	}
	if err := s.deletePrefixes(ctx, prefixes); err != nil {
		return err
	}
	return s.kv.View(ctx, func(rd kv.Reader) error {
		return s.kv.Batch(ctx, func(w kv.Writer) error {
			if err := rebuildIndexes(rd, w, r); err != nil {
				return err
			}
			return treeOf(r).Build(rd, w)
		})
	})
}

func rebuildIndexes(rd kv.Reader, w kv.Writer, r *Replica) error {
	var counts tally
	writers := map[AuthorID]*writer{}
	var failed error
	var signed []byte
	err := walkEntries(rd, r, kv.Range{}, false, func(e Entry) bool {
		counts.add(&e, 1)
		x := writers[e.Author]
		if x == nil {
			counts.authors++
			x = &writer{number: counts.authors, first: e.Timestamp}
			writers[e.Author] = x
			failed = w.Set(writerIDKey(r.number, x.number), bytes.Clone(e.Author[:]))
		}
		x.entries++
		x.first, x.last = min(x.first, e.Timestamp), max(x.last, e.Timestamp)
		signed = e.signedBytes(signed[:0])
		id := hashOf(signed)
		at := append(binary.BigEndian.AppendUint32(nil, x.number), e.Key...)
		failed = errors.Join(failed, w.Set(timeKey(r.number, e.Timestamp, &id), at))
		return failed == nil
	})
	if err = errors.Join(err, failed); err != nil {
		return err
	}
	for author, x := range writers {
		if err := w.Set(writerKey(r.number, author), x.marshal()); err != nil {
			return err
		}
	}
	return setTally(w, r.number, counts)
}
