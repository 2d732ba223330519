package replica

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/skerry-sync/skerry/kv"
)

// Version 1 of the format had, for each replica:
//
//	r e replica 00 order bytes, r e replica 01 space[16] order bytes   entries, with the same values as now
//	r t replica …, r x replica …, r c replica                         indexes and counts
//
// and no tree. Migration copies the entries under a number, builds everything else anew, and deletes the old records. Until it has finished, its state is in
//
//	r m replica[32]   state u8: 1 entries are being copied, 2 old records are being deleted; number u32
const (
	keyMigrating = "rm"
	copying      = 1
	clearing     = 2
)

var oldKinds = []string{"re", "rt", "rx"}

// migrate brings the records of all replicas up to date, and goes on with what an earlier call has begun.
func (s *Store) migrate(ctx context.Context) error {
	type step struct {
		id    ID
		state byte
		n     number
	}
	var steps []step
	err := s.kv.View(ctx, func(rd kv.Reader) error {
		for p, err := range rd.Scan(kv.Prefix([]byte(keyReplica)), kv.ScanOptions{}) {
			if err != nil {
				return err
			}
			if len(p.Value) > 0 && p.Value[0] == 1 {
				steps = append(steps, step{id: ID(p.Key[len(keyReplica):])})
			}
		}
		for p, err := range rd.Scan(kv.Prefix([]byte(keyMigrating)), kv.ScanOptions{}) {
			if err != nil {
				return err
			}
			if len(p.Value) != 5 {
				return errBadRecord
			}
			at := step{ID(p.Key[len(keyMigrating):]), p.Value[0], number(binary.BigEndian.Uint32(p.Value[1:]))}
			found := false
			for i := range steps {
				if steps[i].id == at.id {
					steps[i], found = at, true
				}
			}
			if !found {
				steps = append(steps, at)
			}
		}
		for p, err := range rd.Scan(kv.Prefix([]byte(keyLeft)), kv.ScanOptions{KeysOnly: true}) { // left under version 1
			if err != nil {
				return err
			}
			if len(p.Key) == len(keyLeft)+32 {
				steps = append(steps, step{id: ID(p.Key[len(keyLeft):]), state: clearing})
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, at := range steps {
		if at.state != clearing {
			if at.n, err = s.copyOld(ctx, at.id, at.n); err != nil {
				return fmt.Errorf("migrate replica %s: %w", at.id.Short(), err)
			}
		}
		if err := s.clearOld(ctx, at.id); err != nil {
			return fmt.Errorf("migrate replica %s: %w", at.id.Short(), err)
		}
	}
	return nil
}

func setMigrating(tx kv.Txn, id ID, state byte, n number) error {
	return tx.Set(idKey(keyMigrating, id), binary.BigEndian.AppendUint32([]byte{state}, uint32(n)))
}

// copyOld copies the entries of a replica under a number: the one given, if an earlier attempt has used it.
func (s *Store) copyOld(ctx context.Context, id ID, n number) (number, error) {
	if n != 0 {
		for _, kind := range perEntry {
			if err := s.deletePrefixes(ctx, [][]byte{numberKey(kind, n)}); err != nil {
				return n, err
			}
		}
	} else if err := s.kv.Update(ctx, func(tx kv.Txn) (err error) {
		if n, err = nextNumber(tx); err != nil {
			return err
		}
		return setMigrating(tx, id, copying, n)
	}); err != nil {
		return n, err
	}
	from, to := idKey("re", id), numberKey(keyEntry, n)
	err := s.kv.View(ctx, func(rd kv.Reader) error {
		return s.kv.Batch(ctx, func(w kv.Writer) error {
			for p, err := range rd.Scan(kv.Prefix(from), kv.ScanOptions{}) {
				if err == nil {
					err = w.Set(append(bytes.Clone(to), p.Key[len(from):]...), bytes.Clone(p.Value))
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
	})
	if err != nil {
		return n, err
	}
	err = s.rebuild(ctx, &Replica{ID: id, number: n})
	if err != nil {
		return n, err
	}
	return n, s.kv.Update(ctx, func(tx kv.Txn) error {
		r, err := getReplica(tx, id)
		if err != nil {
			return err
		}
		r.number = n
		return errors.Join(tx.Set(idKey(keyReplica, id), r.marshal()), setMigrating(tx, id, clearing, n))
	})
}

func (s *Store) clearOld(ctx context.Context, id ID) error {
	prefixes := [][]byte{}
	for _, kind := range oldKinds {
		prefixes = append(prefixes, idKey(kind, id))
	}
	left := idKey(keyLeft, id)
	var gone bool
	err := s.kv.View(ctx, func(rd kv.Reader) (err error) {
		gone, err = rd.Has(left)
		return err
	})
	if err != nil {
		return err
	}
	if gone {
		prefixes = append(prefixes, idKey(keyStatement, id))
	}
	if err := s.deletePrefixes(ctx, prefixes); err != nil {
		return err
	}
	return s.kv.Update(ctx, func(tx kv.Txn) error {
		return errors.Join(tx.Delete(idKey("rc", id)), tx.Delete(left), tx.Delete(idKey(keyMigrating, id)))
	})
}

// rebuild writes everything that follows from a replica's entries anew: indexes, counts and the tree. Nobody else may write to the replica.
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
		failed = errors.Join(failed, w.Set(timeKey(r.number, e.Timestamp, &id), append(binary.BigEndian.AppendUint32(nil, x.number), e.Key...)))
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
