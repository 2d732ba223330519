package replica

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/reconcile"
	"github.com/skerry-sync/skerry/reconcile/tree"
)

// The set of a replica's statements. While there are few, a question of a peer scans them all. From
// treeFrom statements on, a summary tree and an index by element answer it, as they do for entries:
// a question then costs what the tree costs, not what the set does. Both follow from the
// statements. They are made when a replica has come to have so many, and are kept in the
// transactions that change statements from then on.

// treeFrom is from how many statements on a replica has a tree of them. A tree of few would cost
// more room than they do.
const treeFrom = 256

// statementSet is the set for reconciliation: the key is the author, the class (0 for those of the
// replica key, 1 for those of delegates) and the statement's id, the element the first half of the
// id, the data the statement with its signature.
type statementSet struct {
	s  *Store
	id ID
}

var _ reconcile.Set = statementSet{}

// StatementSet returns the set of a replica's statements, which is reconciled before the entries
// that need them.
func (s *Store) StatementSet(id ID) reconcile.Set { return statementSet{s, id} }

// statementTree returns the summary tree of a replica's statements.
func statementTree(id ID) *tree.Tree {
	return &tree.Tree{
		Prefix: idKey(keyStatementTree, id),
		Items: func(rd kv.Reader, span reconcile.Range) iter.Seq2[tree.Item, error] {
			return func(yield func(tree.Item, error) bool) {
				for it, err := range statementItems(rd, id, span) {
					if !yield(tree.Item{Key: it.Key, Mark: it.Mark}, err) {
						return
					}
				}
			}
		},
		Bound: func(key []byte) []byte { return key },
	}
}

// statementKeySize is the length of a key of the set.
const statementKeySize = 32 + 1 + 32

// statementMark is what a statement adds to a summary.
func statementMark(id [32]byte) reconcile.Mark {
	return reconcile.Mark{ID: id, Element: reconcile.Element(id[:])}
}

// elementKey is the key of a record of the index by element, whose value is the statement's key in
// the set up to its id.
func elementKey(id ID, e reconcile.Element) []byte {
	return append(idKey(keyStatementAt, id), e[:]...)
}

// statementItems yields the statements of a range of the set.
func statementItems(
	rd kv.Reader, id ID, span reconcile.Range,
) iter.Seq2[reconcile.Item, error] {
	return func(yield func(reconcile.Item, error) bool) {
		prefix := idKey(keyStatement, id)
		scan := kv.Prefix(prefix)
		scan.From = append(bytes.Clone(prefix), span.From...)
		if len(span.To) > 0 {
			scan.To = append(bytes.Clone(prefix), span.To...)
		}
		for p, err := range rd.Scan(scan, kv.ScanOptions{}) {
			if err == nil && len(p.Key) != len(prefix)+statementKeySize {
				err = errBadRecord
			}
			if err != nil {
				yield(reconcile.Item{}, err)
				return
			}
			key := p.Key[len(prefix):]
			it := reconcile.Item{Key: key, Mark: statementMark([32]byte(key[33:])), Data: p.Value}
			if !yield(it, nil) {
				return
			}
		}
	}
}

// scanned is the set as it is without a tree, in a view.
func (s statementSet) scanned(rd kv.Reader) reconcile.Scanned {
	return func(_ context.Context, span reconcile.Range) iter.Seq2[reconcile.Item, error] {
		return statementItems(rd, s.id, span)
	}
}

// Summaries implements reconcile.Set.
func (s statementSet) Summaries(
	ctx context.Context, bounds [][]byte,
) (sums []reconcile.Summary, err error) {
	seen := uint64(0)
	err = s.s.kv.View(ctx, func(rd kv.Reader) error {
		sums, err = statementTree(s.id).Summaries(rd, bounds)
		if errors.Is(err, tree.ErrNoTree) {
			sums, err = s.scanned(rd).Summaries(ctx, bounds)
			for i := range sums {
				seen += sums[i].Count
			}
		}
		return err
	})
	if seen >= uint64(s.s.treeFrom) { // a program without such trees has stored them
		lock := s.s.writes.of(s.id)
		lock.Lock()
		defer lock.Unlock()
		_ = s.s.plantStatements(ctx, s.id) // the answer is right without; another one tries again
	}
	return sums, err
}

// Split implements reconcile.Set.
func (s statementSet) Split(
	ctx context.Context, span reconcile.Range, k int,
) (parts []reconcile.Part, err error) {
	err = s.s.kv.View(ctx, func(rd kv.Reader) error {
		parts, err = statementTree(s.id).Split(rd, span, k)
		if errors.Is(err, tree.ErrNoTree) {
			parts, err = s.scanned(rd).Split(ctx, span, k)
		}
		return err
	})
	return parts, err
}

// Items implements reconcile.Set.
func (s statementSet) Items(
	ctx context.Context, span reconcile.Range,
) iter.Seq2[reconcile.Item, error] {
	return s.yield(ctx, func(rd kv.Reader) iter.Seq2[reconcile.Item, error] {
		return statementItems(rd, s.id, span)
	})
}

// Find implements reconcile.Set.
func (s statementSet) Find(
	ctx context.Context, span reconcile.Range, elements []reconcile.Element,
) iter.Seq2[reconcile.Item, error] {
	return s.yield(ctx, func(rd kv.Reader) iter.Seq2[reconcile.Item, error] {
		if _, err := statementTree(s.id).Height(rd); errors.Is(err, tree.ErrNoTree) {
			return s.scanned(rd).Find(ctx, span, elements)
		} else if err != nil {
			return noItems(err)
		}
		return s.indexed(rd, span, elements)
	})
}

func noItems(err error) iter.Seq2[reconcile.Item, error] {
	return func(yield func(reconcile.Item, error) bool) { yield(reconcile.Item{}, err) }
}

// indexed finds statements by the index.
func (s statementSet) indexed(
	rd kv.Reader, span reconcile.Range, elements []reconcile.Element,
) iter.Seq2[reconcile.Item, error] {
	return func(yield func(reconcile.Item, error) bool) {
		for _, e := range elements {
			at, err := rd.Get(elementKey(s.id, e))
			if errors.Is(err, kv.ErrNotFound) {
				continue
			}
			if err == nil && len(at) != statementKeySize-len(e) {
				err = errBadRecord
			}
			if err != nil {
				yield(reconcile.Item{}, err)
				return
			}
			key := slices.Concat(at[:33], e[:], at[33:])
			if !span.Contains(key) {
				continue
			}
			data, err := rd.Get(append(idKey(keyStatement, s.id), key...))
			if errors.Is(err, kv.ErrNotFound) {
				err = fmt.Errorf("%w: the index names a statement that is not here", errBadRecord)
			}
			it := reconcile.Item{Key: key, Mark: statementMark([32]byte(key[33:])), Data: data}
			if !yield(it, err) || err != nil {
				return
			}
		}
	}
}

func (s statementSet) yield(
	ctx context.Context, of func(kv.Reader) iter.Seq2[reconcile.Item, error],
) iter.Seq2[reconcile.Item, error] {
	return func(yield func(reconcile.Item, error) bool) {
		stopped := false
		err := s.s.kv.View(ctx, func(rd kv.Reader) error {
			for it, err := range of(rd) {
				if err != nil {
					return err
				}
				if stopped = !yield(it, nil); stopped {
					return nil
				}
			}
			return nil
		})
		if err != nil && !stopped {
			yield(reconcile.Item{}, err)
		}
	}
}

// statementChanges are the statements that one transaction adds and drops, by their keys in the
// set.
type statementChanges map[string]*tree.Change

// note takes a change of the record of a statement.
func (c statementChanges) note(record []byte, added bool) {
	key := record[len(keyStatement)+32:]
	mark := statementMark([32]byte(key[33:]))
	switch x := c[string(key)]; {
	case x != nil: // what came goes again, or the other way round
		delete(c, string(key))
	case added:
		c[string(key)] = &tree.Change{Key: bytes.Clone(key), Add: &mark}
	default:
		c[string(key)] = &tree.Change{Key: bytes.Clone(key), Remove: &mark}
	}
}

// authors returns those about whom the statements are.
func (c statementChanges) authors() map[AuthorID]bool {
	all := map[AuthorID]bool{}
	for key := range c {
		all[AuthorID([]byte(key[:32]))] = true
	}
	return all
}

// sumStatements makes the tree and the index follow changes, if the replica has them. The
// transaction must have read statementsVersion before.
func (s *Store) sumStatements(
	ctx context.Context, tx kv.Txn, id ID, changes statementChanges,
) error {
	if len(changes) == 0 {
		return nil
	}
	all := make([]tree.Change, 0, len(changes))
	for _, c := range changes {
		all = append(all, *c)
	}
	slices.SortFunc(all, func(a, b tree.Change) int { return bytes.Compare(a.Key, b.Key) })
	// This view shows the statements as they were before the transaction: if another one comes
	// between, it has changed statementsVersion, and the two conflict.
	return s.kv.View(ctx, func(rd kv.Reader) error {
		t := statementTree(id)
		if _, err := t.Height(rd); errors.Is(err, tree.ErrNoTree) {
			return nil
		}
		for _, c := range all {
			sid := [32]byte(c.Key[33:])
			at := elementKey(id, reconcile.Element(sid[:]))
			var err error
			if c.Add != nil {
				err = tx.Set(at, append(bytes.Clone(c.Key[:33]), sid[16:]...))
			} else {
				err = tx.Delete(at)
			}
			if err != nil {
				return err
			}
		}
		return t.Apply(rd, tx, all)
	})
}

// plantStatements makes the tree and the index of a replica's statements if there are many, and
// they have none. The caller holds the replica's lock.
func (s *Store) plantStatements(ctx context.Context, id ID) error {
	ctx = context.WithoutCancel(ctx)
	t := statementTree(id)
	due := false
	err := s.kv.View(ctx, func(rd kv.Reader) error {
		if _, err := t.Height(rd); !errors.Is(err, tree.ErrNoTree) {
			return err
		}
		n := 0
		in := kv.Prefix(idKey(keyStatement, id))
		for _, err := range rd.Scan(in, kv.ScanOptions{KeysOnly: true}) {
			if err != nil {
				return err
			}
			if n++; n == s.treeFrom {
				due = true
				return nil
			}
		}
		return nil
	})
	if err == nil && due {
		err = s.growStatements(ctx, id)
	}
	if err != nil {
		return fmt.Errorf("sum up the statements of replica %s: %w", id.Short(), err)
	}
	return nil
}

// growStatements makes the tree and the index anew. The tree's height is written last, so what a
// crash has cut off counts as none. The caller holds the replica's lock.
func (s *Store) growStatements(ctx context.Context, id ID) error {
	if err := s.fellStatements(ctx, id); err != nil {
		return err
	}
	return s.kv.View(ctx, func(rd kv.Reader) error {
		return s.kv.Batch(ctx, func(w kv.Writer) error {
			for it, err := range statementItems(rd, id, reconcile.All) {
				if err != nil {
					return err
				}
				at := slices.Concat(it.Key[:33], it.ID[16:])
				if err := w.Set(elementKey(id, it.Element), at); err != nil {
					return err
				}
			}
			return statementTree(id).Build(rd, w)
		})
	})
}

// fellStatements removes the tree, and then the index.
func (s *Store) fellStatements(ctx context.Context, id ID) error {
	return s.deletePrefixes(ctx, [][]byte{idKey(keyStatementTree, id), idKey(keyStatementAt, id)})
}
