package replica

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/reconcile"
	"github.com/skerry-sync/skerry/reconcile/tree"
)

// treeOf is the summary tree of a replica's entries.
func treeOf(r *Replica) *tree.Tree {
	return &tree.Tree{Prefix: numberKey(keyTree, r.number), Items: r.treeItems, Bound: boundOf}
}

// ErrNoTree reports a replica with entries whose summary tree is missing: nothing is read from it
// or written to it until Check has repaired it.
var ErrNoTree = errors.New(
	"the summary tree is missing: mend it with skerry replica verify --repair",
)

// needsNoTree returns ErrNoTree unless the replica is without entries, which has none.
func needsNoTree(rd kv.Reader, r *Replica) error {
	c, err := getTally(rd, r.number)
	if err == nil && c.Counts != (Counts{}) {
		err = fmt.Errorf("replica %s: %w", r.ID.Short(), ErrNoTree)
	}
	return err
}

// boundOf is the part of order bytes that stands for the key: all authors of a key lie on one side
// of a bound.
func boundOf(order []byte) []byte {
	if n := len(order) - len(AuthorID{}) - 2; n > 0 && n <= tree.MaxBound {
		return order[:n]
	}
	return nil
}

// markOf is what an entry adds to a summary. Its element is the timestamp and the first 8 bytes of
// the id, by which the index of time finds it.
func markOf(timestamp uint64, id [32]byte) (m reconcile.Mark) {
	m.ID = id
	binary.BigEndian.PutUint64(m.Element[:], timestamp)
	copy(m.Element[8:], id[:])
	return m
}

// putter stores entries within one transaction: put decides, finish writes.
type putter struct {
	s       *Store
	tx      kv.Txn
	r       *Replica
	allows  map[AuthorID]*rights
	changed bool                // statements, in this transaction
	stated  statementChanges    // those
	puts    map[string]*putting // by order bytes
	buf     []byte
	noRoom  int  // entries that Config.OnTake has kept out
	foreign bool // what is put has come from elsewhere
}

// putting is an entry that is going to be stored, or dropped.
type putting struct {
	entry *Entry // nil if the old one is dropped
	mark  reconcile.Mark
	old   *Entry // that it replaces in the store
	was   reconcile.Mark
}

func (s *Store) putter(tx kv.Txn, r *Replica) *putter {
	return &putter{s: s, tx: tx, r: r, allows: map[AuthorID]*rights{},
		puts: map[string]*putting{}, stated: statementChanges{}}
}

// granted reports whether a grant allows e.
func (p *putter) granted(e *Entry) (bool, error) {
	// What this transaction has stated may come to nothing: then it is not remembered.
	return p.s.may(p.tx, p.r.ID, p.allows, e, !p.changed)
}

// drop takes an entry out of the store. e must not change until finish.
func (p *putter) drop(e *Entry) {
	p.puts[string(orderBytes(e.Key, e.Author))] = &putting{old: e, was: markOf(e.Timestamp, e.ID())}
}

// put takes e unless what is there wins over it. e must not change until finish.
func (p *putter) put(e *Entry) (bool, error) {
	p.buf = append(append(appendEscaped(p.buf[:0], e.Key), 0, endOfKey), e.Author[:]...)
	x := p.puts[string(p.buf)]
	if x == nil {
		switch old, err := getEntry(p.tx, p.r, e.Key, e.Author); {
		case errors.Is(err, ErrNotFound):
			x = &putting{}
		case err != nil:
			return false, err
		case !e.replaces(&old):
			return false, nil
		default:
			x = &putting{old: &old, was: markOf(old.Timestamp, old.ID())}
		}
		if ok, err := p.takes(e, x.old); err != nil || !ok {
			return false, err
		}
		p.puts[string(p.buf)] = x
	} else if !e.replaces(x.entry) {
		return false, nil
	}
	if x.entry != nil { // in the place of another one of this transaction
		if ok, err := p.takes(e, x.entry); err != nil || !ok {
			return false, err
		}
	}
	p.buf = e.signedBytes(p.buf[:0])
	x.entry, x.mark = e, markOf(e.Timestamp, hashOf(p.buf))
	return true, nil
}

// exchange puts e in the place of old, which is in the store, whichever of the two wins. Both must
// not change until finish.
func (p *putter) exchange(old, e *Entry) error {
	if ok, err := p.takes(e, old); err != nil || !ok {
		return errors.Join(err, ErrNoRoom)
	}
	p.puts[string(orderBytes(e.Key, e.Author))] = &putting{entry: e, mark: markOf(e.Timestamp, e.ID()),
		old: old, was: markOf(old.Timestamp, old.ID())}
	return nil
}

// takes asks whether there is room for an entry in the place of an old one, which may be nil.
func (p *putter) takes(e, old *Entry) (bool, error) {
	if p.s.cfg.OnTake == nil {
		return true, nil
	}
	ok, err := p.s.cfg.OnTake(p.tx, e, old)
	if err == nil && !ok {
		p.noRoom++
	}
	return ok, err
}

// finish writes what put has taken, with all that must agree with it.
func (p *putter) finish(ctx context.Context) error {
	if err := p.s.sumStatements(ctx, p.tx, p.r.ID, p.stated); err != nil || len(p.puts) == 0 {
		return err
	}
	changes := make([]tree.Change, 0, len(p.puts))
	for order, x := range p.puts {
		c := tree.Change{Key: []byte(order)}
		if x.entry != nil {
			c.Add = &x.mark
		}
		if x.old != nil {
			c.Remove = &x.was
		}
		changes = append(changes, c)
	}
	slices.SortFunc(changes, func(a, b tree.Change) int { return bytes.Compare(a.Key, b.Key) })
	// A view opened now shows the replica as it is before this transaction: if another writer comes
	// between, their counts conflict.
	err := p.s.kv.View(ctx, func(rd kv.Reader) error {
		t := treeOf(p.r)
		if _, err := t.Height(rd); errors.Is(err, tree.ErrNoTree) {
			if err := needsNoTree(rd, p.r); err != nil {
				return err
			}
		}
		return t.Apply(rd, p.tx, changes)
	})
	if err != nil {
		return err
	}
	counts, err := getTally(p.tx, p.r.number)
	if err != nil {
		return err
	}
	writers := map[AuthorID]*writer{}
	for _, c := range changes {
		x := p.puts[string(c.Key)]
		if x.entry == nil {
			w, err := p.writer(writers, x.old.Author, &counts)
			if err != nil {
				return err
			}
			if err := p.remove(x); err != nil {
				return err
			}
			counts.add(x.old, -1)
			w.entries--
			continue
		}
		w, err := p.writer(writers, x.entry.Author, &counts)
		if err != nil {
			return err
		}
		if err := p.write(x, w); err != nil {
			return err
		}
		if x.old != nil {
			counts.add(x.old, -1)
		} else {
			w.entries++
		}
		counts.add(x.entry, 1)
	}
	for author, w := range writers {
		if err := p.tx.Set(writerKey(p.r.number, author), w.marshal()); err != nil {
			return err
		}
	}
	return setTally(p.tx, p.r.number, counts)
}

func (c *Counts) add(e *Entry, by int) {
	if e.IsTombstone() {
		c.Tombstones += uint64(by)
	} else {
		c.Entries += uint64(by)
	}
}

// writer returns the record of an author, which it begins if there is none.
func (p *putter) writer(
	known map[AuthorID]*writer, author AuthorID, counts *tally,
) (*writer, error) {
	if w := known[author]; w != nil {
		return w, nil
	}
	w, err := getWriter(p.tx, p.r.number, author)
	if errors.Is(err, ErrNotFound) {
		counts.authors++
		w = writer{number: counts.authors, first: 1<<64 - 1}
		err = p.tx.Set(writerIDKey(p.r.number, w.number), bytes.Clone(author[:]))
	}
	known[author] = &w
	return &w, err
}

// remove deletes one entry with its record by time. The marks that lead to a long key stay; others
// may need them.
func (p *putter) remove(x *putting) error {
	if p.s.cfg.OnDrop != nil {
		if err := p.s.cfg.OnDrop(p.tx, x.old); err != nil {
			return err
		}
	}
	at, _ := entryKey(p.r.number, x.old.Key, x.old.Author)
	if err := p.tx.Delete(timeKey(p.r.number, x.old.Timestamp, &x.was.ID)); err != nil {
		return err
	}
	return p.tx.Delete(at)
}

// write stores one entry with its record by time.
func (p *putter) write(x *putting, w *writer) error {
	e := x.entry
	at, marks := entryKey(p.r.number, e.Key, e.Author)
	if x.old != nil {
		if err := p.tx.Delete(timeKey(p.r.number, x.old.Timestamp, &x.was.ID)); err != nil {
			return err
		}
	} else {
		for _, m := range marks {
			if err := p.tx.Set(m, nil); err != nil {
				return err
			}
		}
	}
	if p.s.cfg.OnPut != nil {
		if err := p.s.cfg.OnPut(p.tx, e); err != nil {
			return err
		}
	}
	if x.old != nil && p.foreign && p.s.cfg.OnDisplace != nil {
		if err := p.s.cfg.OnDisplace(p.tx, e, x.old); err != nil {
			return err
		}
	}
	w.first, w.last = min(w.first, e.Timestamp), max(w.last, e.Timestamp)
	value := append(binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(e.Key)), w.number), e.Key...)
	if err := p.tx.Set(timeKey(p.r.number, e.Timestamp, &x.mark.ID), value); err != nil {
		return err
	}
	return p.tx.Set(at, e.marshalValue())
}
