package replica

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	voi "github.com/oasisprotocol/curve25519-voi/primitives/ed25519"
	"lukechampine.com/blake3"

	"github.com/skerry-sync/skerry/kv"
)

// Limits of one transaction of Insert.
const (
	insertEntries = 2048
	insertBytes   = 512 << 10
)

// Origin says where entries come from: a peer's id, or nothing for this node itself.
type Origin string

// Local is the origin of what this node writes.
const Local Origin = ""

// Inserted tells what became of entries.
type Inserted struct {
	Added []Entry // stored; they are new or replaced an older version
	Known int     // not stored: the same or a newer version was there
	Later int     // not stored: too far ahead of the clock, may come again
}

// Insert stores entries of the replica id that came from elsewhere, after checking each: its replica, signature, time, and that
// a grant covers it. Those that fail do not keep the others out: the error, an *EntryError, names the first of them.
// Entries that are too far in the future are counted, not stored, and no error. What is stored survives the death of the process; call
// Sync before telling anybody that it survives more.
func (s *Store) Insert(ctx context.Context, id ID, entries []Entry, from Origin) (Inserted, error) {
	var out Inserted
	var firstErr error
	limit := uint64(s.cfg.Now().Add(MaxAhead).UnixMicro())
	good := make([]Entry, 0, len(entries))
	for _, e := range entries {
		err := e.check()
		switch {
		case e.Replica != id:
			err = e.failed(ErrWrongReplica)
		case len(e.Key) > MaxKey:
			err = e.failed(ErrKeyTooLong)
		}
		if err != nil {
			firstErr = firstOf(firstErr, err)
		} else if e.Timestamp > limit {
			out.Later++
		} else {
			good = append(good, e)
		}
	}
	good, err := verifyAll(good)
	firstErr = firstOf(firstErr, err)

	lock := s.writes.of(id)
	lock.Lock()
	defer lock.Unlock()
	for len(good) > 0 {
		n, size := 0, 0
		for n < len(good) && n < insertEntries && size < insertBytes {
			size += 2*len(good[n].Key) + 256
			n++
		}
		if err := s.insertSome(ctx, id, good[:n], from, &out, &firstErr); err != nil {
			return out, fmt.Errorf("insert into replica %s: %w", id.Short(), err)
		}
		good = good[n:]
	}
	return out, firstErr
}

func firstOf(first, next error) error {
	if first != nil {
		return first
	}
	return next
}

// verifyAll returns the entries whose signatures are right, and the error of the first that is not.
func verifyAll(entries []Entry) ([]Entry, error) {
	const worthwhile = 4 // below, verifying one by one is as fast
	if len(entries) >= worthwhile {
		v := voi.NewBatchVerifierWithCapacity(len(entries))
		for i := range entries {
			e := &entries[i]
			v.AddWithOptions(e.Author[:], e.signedBytes(nil), e.Signature[:], signatureRules)
		}
		if v.VerifyBatchOnly(nil) {
			return entries, nil
		}
	}
	var first error
	return slices.DeleteFunc(entries, func(e Entry) bool {
		err := e.Verify()
		first = firstOf(first, err)
		return err != nil
	}), first
}

// insertSome stores verified entries in one transaction; the caller holds the replica's lock.
func (s *Store) insertSome(ctx context.Context, id ID, entries []Entry, from Origin, out *Inserted, refused *error) error {
	var added []Entry
	var known int
	var notGranted error
	err := s.kv.Update(ctx, func(tx kv.Txn) error {
		added, known, notGranted = nil, 0, nil
		if _, err := getReplica(tx, id); err != nil {
			return err
		}
		p := putter{s: s, tx: tx, id: id, grants: map[AuthorID][]Grant{}}
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
		return p.finish()
	})
	if err != nil {
		return err
	}
	*refused = firstOf(*refused, notGranted)
	out.Known += known
	out.Added = append(out.Added, added...)
	s.events.publish(added, from)
	return nil
}

// putter stores entries within one transaction.
type putter struct {
	s      *Store
	tx     kv.Txn
	id     ID
	grants map[AuthorID][]Grant
	delta  struct{ entries, tombstones int }
}

func (p *putter) granted(e *Entry) (bool, error) {
	grants, ok := p.grants[e.Author]
	if !ok {
		var err error
		if grants, err = grantsOf(p.tx, p.id, &e.Author); err != nil {
			return false, err
		}
		p.grants[e.Author] = grants
	}
	return slices.ContainsFunc(grants, func(g Grant) bool { return g.Allows(e) }), nil
}

// marshalValue gives what is stored of an entry beside its key.
func (e *Entry) marshalValue() []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 112), e.Timestamp)
	b = binary.BigEndian.AppendUint64(b, e.Size)
	b = append(b, e.Hash[:]...)
	return append(b, e.Signature[:]...)
}

func parseValue(id ID, key []byte, author AuthorID, b []byte) (Entry, error) {
	if len(b) != 112 {
		return Entry{}, errors.New("replica store: malformed entry record")
	}
	e := Entry{Replica: id, Author: author, Key: key, Timestamp: binary.BigEndian.Uint64(b), Size: binary.BigEndian.Uint64(b[8:])}
	copy(e.Hash[:], b[16:])
	copy(e.Signature[:], b[48:])
	return e, nil
}

func getEntry(r kv.Reader, id ID, key []byte, author AuthorID) (e Entry, err error) {
	at, _ := entryKey(id, key, author)
	err = r.Peek(at, func(b []byte) error {
		e, err = parseValue(id, key, author, b)
		return err
	})
	if errors.Is(err, kv.ErrNotFound) {
		return e, ErrNotFound
	}
	return e, err
}

// place is where an entry stands among those of one time: any order will do, but it must be unique.
func place(key []byte, author AuthorID) []byte {
	h := blake3.Sum256(append(author[:len(author):len(author)], key...))
	return h[:16]
}

func timeKey(e *Entry) []byte {
	b := binary.BigEndian.AppendUint64(idKey(keyByTime, e.Replica), e.Timestamp)
	return append(b, place(e.Key, e.Author)...)
}

func authorKey(e *Entry) []byte {
	b := append(idKey(keyByAuthor, e.Replica), e.Author[:]...)
	return append(binary.BigEndian.AppendUint64(b, e.Timestamp), place(e.Key, e.Author)...)
}

// put stores e with its indexes unless what is there wins over it.
func (p *putter) put(e *Entry) (bool, error) {
	at, marks := entryKey(p.id, e.Key, e.Author)
	switch old, err := getEntry(p.tx, p.id, e.Key, e.Author); {
	case errors.Is(err, ErrNotFound):
		for _, m := range marks {
			if err := p.tx.Set(m, nil); err != nil {
				return false, err
			}
		}
	case err != nil:
		return false, err
	case !e.replaces(old.Timestamp, old.Hash):
		return false, nil
	default:
		if err := errors.Join(p.tx.Delete(timeKey(&old)), p.tx.Delete(authorKey(&old))); err != nil {
			return false, err
		}
		p.count(&old, -1)
	}
	p.count(e, 1)
	if p.s.cfg.OnPut != nil {
		if err := p.s.cfg.OnPut(p.tx, e); err != nil {
			return false, err
		}
	}
	key := bytes.Clone(e.Key)
	return true, errors.Join(
		p.tx.Set(at, e.marshalValue()),
		p.tx.Set(timeKey(e), append(e.Author[:len(e.Author):len(e.Author)], key...)),
		p.tx.Set(authorKey(e), key))
}

func (p *putter) count(e *Entry, by int) {
	if e.IsTombstone() {
		p.delta.tombstones += by
	} else {
		p.delta.entries += by
	}
}

func (p *putter) finish() error {
	if p.delta.entries == 0 && p.delta.tombstones == 0 {
		return nil
	}
	c, err := getCounts(p.tx, p.id)
	if err != nil {
		return err
	}
	c.Entries += uint64(p.delta.entries)
	c.Tombstones += uint64(p.delta.tombstones)
	return setCounts(p.tx, p.id, c)
}

// Sync returns when everything stored before the call survives the loss of power.
func (s *Store) Sync(ctx context.Context) error { return s.kv.Sync(ctx) }
