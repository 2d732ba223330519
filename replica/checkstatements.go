package replica

import (
	"bytes"
	"context"
	"errors"
	"slices"

	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/reconcile"
	"github.com/skerry-sync/skerry/reconcile/tree"
)

// checkedStatements is what Check finds out about statements: the records that must go, and those
// of the index that are missing.
type checkedStatements struct {
	wrong   [][]byte           // records of statements, and of the index, to be deleted
	missing map[string]*ranked // records of the index, by their keys
	sums    bool               // the tree or the index by element is wrong
}

// statements verifies every statement, and compares the index of those by delegates, and what is
// kept of these, with the rule of delegated.go.
func (c *checking) statements(ctx context.Context) error {
	c.stated.missing = map[string]*ranked{}
	seen, x := verifiedGrants{}, newStated(c.rd, c.r.ID)
	byShelf := map[shelf][]ranked{}
	last, err := x.lastEpoch()
	if err != nil {
		return err
	}
	bad := func(key []byte, what string) {
		c.stated.wrong = append(c.stated.wrong, bytes.Clone(key))
		c.fault("a statement about author %s %s", AuthorID(key[len(keyStatement)+32:]), what)
	}
	for p, err := range c.rd.Scan(kv.Prefix(idKey(keyStatement, c.r.ID)), kv.ScanOptions{}) {
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if len(p.Key) != len(keyStatement)+32+32+1+32 {
			return errBadRecord
		}
		st, err := ParseStatement(p.Value)
		if err == nil {
			err = seen.verify(st)
		}
		if err != nil || !bytes.Equal(statementKey(st), p.Key) {
			bad(p.Key, "is malformed or wrongly signed")
			continue
		}
		above := chainOf(st)
		if above == nil {
			continue
		}
		void, err := isVoid(above, issuedOf(st), x.direct)
		if err != nil {
			return err
		}
		if void {
			bad(p.Key, "is void")
			continue
		}
		b, r := rankOf(st, above)
		at := shelfOf(b, &r, last)
		byShelf[at] = append(byShelf[at], r)
	}
	for at, all := range byShelf {
		slices.SortFunc(all, func(x, y ranked) int { return x.compare(&y) })
		about, n := map[AuthorID]int{}, 0
		for i := range all {
			r := &all[i]
			if about[r.about]++; about[r.about] > c.s.keep.about || n == c.s.keep.all {
				bad(r.statementKeyOf(c.r.ID), "is beyond what is kept of its delegate")
				continue
			}
			n++
			c.stated.missing[string(rankKey(c.r.ID, at.budget, r))] = r
		}
	}
	for p, err := range c.rd.Scan(kv.Prefix(idKey(keyDelegated, c.r.ID)), kv.ScanOptions{}) {
		if err != nil {
			return err
		}
		if r := c.stated.missing[string(p.Key)]; r != nil && bytes.Equal(r.about[:], p.Value) {
			delete(c.stated.missing, string(p.Key))
		} else if r == nil {
			c.stated.wrong = append(c.stated.wrong, bytes.Clone(p.Key))
			c.fault("a statement by a delegate is missing or should not be there")
		}
	}
	if n := len(c.stated.missing); n > 0 {
		c.fault("%d statements by delegates are missing in their index", n)
	}
	return c.statementTree(ctx)
}

// statementTree compares the tree of the statements and their index by element, if they are there.
func (c *checking) statementTree(ctx context.Context) error {
	total, err := statementTree(c.r.ID).Verify(c.rd)
	var fault *tree.Fault
	switch {
	case errors.Is(err, tree.ErrNoTree):
		return nil
	case errors.As(err, &fault):
		c.stated.sums = true
		c.fault("statements: %v", fault)
		return nil
	case err != nil:
		return err
	}
	set := statementSet{c.s, c.r.ID}
	found := uint64(0)
	for p, err := range c.rd.Scan(kv.Prefix(idKey(keyStatementAt, c.r.ID)), kv.ScanOptions{}) {
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		at := p.Key[len(keyStatementAt)+32:]
		if len(at) != len(reconcile.Element{}) {
			continue
		}
		one := []reconcile.Element{reconcile.Element(at)}
		for _, err := range set.indexed(c.rd, reconcile.All, one) {
			if err == nil {
				found++
			}
		}
	}
	if found != total.Count {
		c.stated.sums = true
		c.fault("the index of statements leads to %d of %d", found, total.Count)
	}
	return nil
}

// repairStatements deletes what is wrong, and writes what is missing in the index. The caller holds
// the replica's lock.
func (s *Store) repairStatements(ctx context.Context, id ID, c *checkedStatements) error {
	if len(c.wrong)+len(c.missing) == 0 && !c.sums {
		return nil
	}
	err := s.kv.Batch(ctx, func(w kv.Writer) error {
		for _, key := range c.wrong {
			if err := w.Delete(key); err != nil {
				return err
			}
		}
		for key, r := range c.missing {
			if err := w.Set([]byte(key), bytes.Clone(r.about[:])); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := s.kv.Update(ctx, func(tx kv.Txn) error { return touchStatements(tx, id) }); err != nil {
		return err
	}
	s.statementsChanged(id)
	// The tree may lack what was missing, or hold what was wrong.
	return errors.Join(s.fellStatements(ctx, id), s.plantStatements(ctx, id))
}
