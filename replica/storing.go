package replica

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/skerry-sync/skerry/kv"
)

// Stated tells what became of statements.
type Stated struct {
	Added int // stored, as new ones
	Known int // stored before
	// of a delegate, and void or beyond what is kept of that delegate (see delegated.go); or kept
	// out by Config.OnState
	Refused int
	Void    int // of those refused: what a delegate has signed without authority
}

// refused counts a statement of a delegate that is not kept.
func (s *Stated) refused(is fate) {
	if s.Refused++; is == void {
		s.Void++
	}
}

// InsertStatements stores statements of the replica id after verifying them. The error names the
// first that is wrong; the others are stored. Entries and statements that are void by a new
// revocation are dropped. A statement of a delegate that would not be kept is refused before its
// signatures are verified, which is no error.
func (s *Store) InsertStatements(
	ctx context.Context, id ID, all []Statement,
) (out Stated, err error) {
	var firstErr error
	here := make([]Statement, 0, len(all))
	for _, st := range all {
		if replica, author := st.about(); replica != id {
			firstErr = firstOf(
				firstErr, fmt.Errorf("statement about %s: %w", author, ErrWrongReplica),
			)
			continue
		}
		here = append(here, st)
	}
	lock := s.writes.of(id)
	lock.Lock()
	defer lock.Unlock()
	// Those of the replica key decide about the others, and which epochs count.
	for _, class := range []int{classDirect, classDelegated} {
		some := slices.DeleteFunc(slices.Clone(here), func(st Statement) bool {
			return classOf(st) != class
		})
		if err == nil && len(some) > 0 {
			err = s.insertSome(ctx, id, some, &out, &firstErr)
		}
	}
	return out, firstOf(err, firstErr)
}

// insertSome verifies and stores statements of one class. wrong is the error of the first that is
// not right. The caller holds the replica's lock.
func (s *Store) insertSome(
	ctx context.Context, id ID, all []Statement, out *Stated, wrong *error,
) error {
	wanted, screened, err := s.screen(ctx, id, all)
	if err != nil {
		return err
	}
	out.Known += screened.Known
	out.Refused, out.Void = out.Refused+screened.Refused, out.Void+screened.Void
	good := make([]Statement, 0, len(wanted))
	seen := verifiedGrants{}
	for _, st := range wanted {
		err := seen.verify(st)
		if *wrong = firstOf(*wrong, err); err == nil {
			good = append(good, st)
		}
	}
	for len(good) > 0 && err == nil { // as many at once as a transaction takes
		var some Stated
		n := len(good)
		some, err = s.storeStatements(ctx, id, good)
		for errors.Is(err, kv.ErrTooBig) && n > 1 {
			n = (n + 1) / 2
			some, err = s.storeStatements(ctx, id, good[:n])
		}
		out.Added += some.Added
		out.Known += some.Known
		out.Refused, out.Void = out.Refused+some.Refused, out.Void+some.Void
		good = good[n:]
	}
	return err
}

// screen returns the statements that are new and would be kept, if they are right.
func (s *Store) screen(
	ctx context.Context, id ID, all []Statement,
) (wanted []Statement, out Stated, err error) {
	err = s.kv.View(ctx, func(rd kv.Reader) error {
		wanted, out = nil, Stated{}
		v := s.sieve(rd, id)
		for _, st := range all {
			has, err := rd.Has(statementKey(st))
			if err != nil {
				return err
			}
			if has {
				out.Known++
				continue
			}
			if above := chainOf(st); above != nil {
				is, _, err := v.offer(st, above, false)
				if err != nil {
					return err
				}
				if is != stays {
					out.refused(is)
					continue
				}
			}
			wanted = append(wanted, st)
		}
		return nil
	})
	return wanted, out, err
}

// state stores statements of one class that this node has made. It returns ErrTooMany, and stores
// none, if one would not be kept or another would have to go for it.
func (s *Store) state(ctx context.Context, id ID, all []Statement) error {
	_, err := s.storeAll(ctx, id, all, true)
	return err
}

// storeStatements stores verified statements of one class; the caller holds the replica's lock.
func (s *Store) storeStatements(ctx context.Context, id ID, all []Statement) (Stated, error) {
	return s.storeAll(ctx, id, all, false)
}

func (s *Store) storeAll(
	ctx context.Context, id ID, all []Statement, own bool,
) (out Stated, err error) {
	var n storing
	var before, after uint64
	err = s.kv.Update(ctx, func(tx kv.Txn) error {
		n = storing{
			s: s, own: own, tx: tx, id: id, sieve: s.sieve(tx, id), added: map[[32]byte]bool{},
			changes: statementChanges{},
		}
		r, err := getReplica(tx, id)
		if err != nil {
			return err
		}
		if before, err = statementsVersion(tx, id); err != nil { // conflicts with whoever adds one
			return err
		}
		for _, st := range all {
			if err := n.store(st); err != nil {
				return err
			}
		}
		n.out.Added = len(n.added)
		if n.out.Added == 0 {
			return nil
		}
		after, err = newStatementsVersion(tx, id)
		return errors.Join(
			err, s.sumStatements(ctx, tx, id, n.changes), learnIf(n.keys, tx, &r),
		)
	})
	if err != nil || n.out.Added == 0 {
		return n.out, err
	}
	s.known.carry(id, before, after, n.changes.authors())
	s.statementsChanged(id)
	err = s.plantStatements(ctx, id) // of the tree alone: what is void goes all the same
	if n.voids {
		err = errors.Join(err, s.dropVoidStatements(ctx, id))
	}
	if n.dropped || n.voids {
		err = errors.Join(err, s.dropVoidEntries(ctx, id))
	}
	return n.out, err
}

// storing is one transaction of storeStatements.
type storing struct {
	s       *Store
	own     bool // none may be refused, and none dropped for them
	tx      kv.Txn
	id      ID
	sieve   *sieve
	added   map[[32]byte]bool // ids
	changes statementChanges
	out     Stated
	dropped bool // a statement has taken something from others
	voids   bool // a revocation by the replica key may have made statements void
	keys    bool // there is one that hands out read keys
}

// store stores a statement.
func (n *storing) store(st Statement) error {
	above := chainOf(st)
	key := statementKey(st)
	has, err := n.tx.Has(key)
	if err != nil {
		return err
	}
	if has {
		n.out.Known++
		return nil
	}
	record := st.Bytes()
	if !n.own {
		ok, err := n.s.asked(n.tx, n.id, len(record))
		if err == nil && !ok {
			ok, err = n.frees(st)
		}
		if err != nil {
			return err
		}
		if !ok {
			n.out.Refused++
			return nil
		}
	}
	if above != nil {
		is, goes, err := n.sieve.keepDelegated(n.tx, st, above, n.changes)
		if err != nil {
			return err
		}
		if n.own && (is != stays || goes != nil) {
			return ErrTooMany
		}
		if is != stays {
			n.out.refused(is)
			_, err := n.s.asked(n.tx, n.id, -len(record))
			return err
		}
		if goes != nil {
			n.dropped = true
			if id := [32]byte(goes.rank[9:]); n.added[id] {
				delete(n.added, id)
				n.out.Refused++
			}
		}
	} else if err := n.tx.Set(key, record); err != nil {
		return err
	}
	n.added[st.ID()] = true
	n.changes.note(key, true)
	switch st := st.(type) {
	case *Revocation:
		n.voids = n.voids || above == nil
		may, err := n.mayVoid(st)
		if err != nil || !may {
			return err
		}
		n.dropped = true
		return noteVoid(n.tx, n.id, st.From)
	case *Epoch, *WrappedKey:
		n.keys = true
	}
	return nil
}

// mayVoid reports whether a revocation, which has been stored, can have made entries void. A
// delegate can make very many of them, each of which would have all entries read; but most are
// about somebody whom they do not concern, or who has written nothing.
func (n *storing) mayVoid(r *Revocation) (bool, error) {
	if r.Authority == nil {
		return true, nil
	}
	st, err := newStated(n.tx, n.id).about(classDelegated, r.Author)
	if err != nil {
		return false, err
	}
	applies := func(g Grant) bool { return r.appliesTo(&g) }
	if !slices.ContainsFunc(st.grants, applies) {
		return false, nil
	}
	// Others may write by leave of this author.
	if slices.ContainsFunc(st.grants, func(g Grant) bool { return g.Delegable }) {
		return true, nil
	}
	return hasWritten(n.tx, n.id, r.Author)
}

// hasWritten reports whether a replica has entries by an author.
func hasWritten(rd kv.Reader, id ID, author AuthorID) (bool, error) {
	r, err := getReplica(rd, id)
	if err != nil {
		return false, err
	}
	w, err := getWriter(rd, r.number, author)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return w.entries > 0, err
}

// asked asks Config.OnState about a statement of some bytes, or, if they are negative, tells it
// that one is dropped.
func (s *Store) asked(tx kv.Txn, id ID, bytes int) (bool, error) {
	if s.cfg.OnState == nil {
		return true, nil
	}
	return s.cfg.OnState(tx, id, bytes)
}

// frees reports whether a statement is taken although there is no room: a revocation by the replica
// key. It is what the owner has against an author who fills the room up. There are at most two for
// each grant to the author, which had to find room.
func (n *storing) frees(st Statement) (bool, error) {
	r, is := st.(*Revocation)
	if !is || r.Authority != nil {
		return false, nil
	}
	prefix := append(append(idKey(keyStatement, n.id), r.Author[:]...), classDirect)
	about, err := scanStatements(n.tx, prefix)
	return len(about.revocations) < 2*len(about.grants), err
}
