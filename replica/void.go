package replica

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/skerry-sync/skerry/kv"
)

// Entries that a new revocation makes void must go, so that all nodes keep the same: also those
// that were stored before it came. The transaction that stores a revocation leaves a record (see
// keyVoid) from when on entries may be void; dropping them goes through these by time, and moves
// that record along, so that it goes on after a crash where it stopped.

// How many entries are looked at in one transaction, and about how many bytes of keys.
const (
	voidAtOnce = 1024
	voidBytes  = 1 << 20
)

// noteVoid notes that entries from a time on may be void.
func noteVoid(tx kv.Txn, id ID, from uint64) error {
	next, err := voidFrom(tx, id)
	switch {
	case err == nil && len(next) >= 8:
		from = min(from, binary.BigEndian.Uint64(next))
	case err != nil && !errors.Is(err, kv.ErrNotFound):
		return err
	}
	return tx.Set(idKey(keyVoid, id), binary.BigEndian.AppendUint64(nil, from))
}

// voidFrom returns the place among the records by time from which entries may be void, or
// kv.ErrNotFound.
func voidFrom(rd kv.Reader, id ID) ([]byte, error) { return rd.Get(idKey(keyVoid, id)) }

// resumeVoid goes on with what a crash has cut off.
func (s *Store) resumeVoid(ctx context.Context) error {
	var ids []ID
	err := s.kv.View(ctx, func(r kv.Reader) error {
		for p, err := range r.Scan(kv.Prefix([]byte(keyVoid)), kv.ScanOptions{KeysOnly: true}) {
			if err != nil {
				return err
			}
			if len(p.Key) != len(keyVoid)+32 {
				return errBadRecord
			}
			ids = append(ids, ID(p.Key[len(keyVoid):]))
		}
		return nil
	})
	for _, id := range ids {
		err = errors.Join(err, s.dropVoid(ctx, id))
	}
	return err
}

// dropVoid drops the statements and entries that no grant allows any more. The caller holds the
// replica's lock.
func (s *Store) dropVoid(ctx context.Context, id ID) error {
	if err := s.dropVoidStatements(ctx, id); err != nil {
		return err
	}
	return s.dropVoidEntries(ctx, id)
}

// dropVoidEntries drops the entries that no grant allows any more, if a record says that there may
// be some. The caller holds the replica's lock. What it has begun it ends also if ctx ends
// meanwhile: a replica is not left half done.
func (s *Store) dropVoidEntries(ctx context.Context, id ID) error {
	ctx = context.WithoutCancel(ctx)
	allowed := map[AuthorID]Authority{}
	for most := voidAtOnce; ; {
		dropped, done, err := s.dropSomeVoid(ctx, id, most, allowed)
		if errors.Is(err, kv.ErrTooBig) && most > 1 {
			most /= 2
			continue
		}
		if err != nil {
			return fmt.Errorf("drop revoked entries of replica %s: %w", id.Short(), err)
		}
		s.prints.changed(id)
		s.events.publish(dropped, Local, true)
		if done {
			return nil
		}
	}
}

// dropSomeVoid goes on from where the record says, with some entries at most. allowed holds what is
// known of authors, and is added to.
func (s *Store) dropSomeVoid(
	ctx context.Context, id ID, most int, allowed map[AuthorID]Authority,
) (dropped []Entry, done bool, err error) {
	err = s.kv.Update(ctx, func(tx kv.Txn) error {
		dropped, done = nil, false
		r, err := getReplica(tx, id)
		if errors.Is(err, ErrNotFound) { // left meanwhile
			done = true
			return tx.Delete(idKey(keyVoid, id))
		}
		if err != nil {
			return err
		}
		next, err := voidFrom(tx, id)
		if errors.Is(err, kv.ErrNotFound) {
			done = true
			return nil
		}
		if err != nil {
			return err
		}
		p := s.putter(tx, &r)
		last, err := p.dropVoid(next, most, allowed)
		if err != nil {
			return err
		}
		for _, x := range p.puts {
			dropped = append(dropped, *x.old)
		}
		if err := p.finish(ctx); err != nil {
			return err
		}
		if done = last == nil; done {
			return tx.Delete(idKey(keyVoid, id))
		}
		return tx.Set(idKey(keyVoid, id), append(last, 0))
	})
	return dropped, done, err
}

// dropVoid drops what is void among some records by time, from a place on. It returns the last
// place that it has looked at, or nil if there are no more.
func (p *putter) dropVoid(
	from []byte, most int, allowed map[AuthorID]Authority,
) (last []byte, err error) {
	prefix := numberKey(keyByTime, p.r.number)
	span := kv.Prefix(prefix)
	span.From = append(bytes.Clone(prefix), from...)
	type place struct {
		author    uint32
		timestamp uint64
		key       []byte
	}
	var places []place // a scan must end before the next begins
	size := 0
	for rec, err := range p.tx.Scan(span, kv.ScanOptions{}) {
		if err != nil {
			return nil, err
		}
		at := rec.Key[len(prefix):]
		if len(at) != 24 || len(rec.Value) < 4 {
			return nil, errBadRecord
		}
		places = append(
			places,
			place{
				binary.BigEndian.Uint32(rec.Value), binary.BigEndian.Uint64(at), bytes.Clone(rec.Value[4:]),
			},
		)
		if size += len(rec.Value); len(places) == most || size > voidBytes {
			last = bytes.Clone(at)
			break
		}
	}
	authors := writerIDs{rd: p.tx, of: p.r.number}
	for _, at := range places {
		author, err := authors.get(at.author)
		if err != nil {
			return nil, err
		}
		a, ok := allowed[author]
		if !ok {
			if a, err = authority(p.tx, p.r.ID, author); err != nil {
				return nil, err
			}
			allowed[author] = a
		}
		if a.Allows(&Entry{Author: author, Key: at.key, Timestamp: at.timestamp}) {
			continue
		}
		e, err := getEntry(p.tx, p.r, at.key, author)
		if err != nil {
			return nil, err
		}
		p.drop(&e)
	}
	return last, nil
}
