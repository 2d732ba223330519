package replica

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/skerry-sync/skerry/kv"
)

// Statement is a *Grant, a *Revocation, an *Epoch or a *WrappedKey. The statements of a replica are
// a set of their own, and are reconciled before the entries.
type Statement interface {
	// Bytes returns the signed bytes and the signature, at most MaxStatement.
	Bytes() []byte
	// ID is the BLAKE3 hash of the signed bytes.
	ID() [32]byte
	// Verify returns what is wrong with the statement, looking at nothing else.
	Verify() error
	// about returns the replica and the author that the statement is about.
	about() (ID, AuthorID)
}

// MaxStatement is the length of the longest statement in bytes: a grant by the replica key with the
// longest prefix.
const MaxStatement = grantFixed + MaxKey + 64

func (g *Grant) about() (ID, AuthorID)      { return g.Replica, g.Author }
func (r *Revocation) about() (ID, AuthorID) { return r.Replica, r.Author }

// ErrUnknownStatement reports bytes that are no statement that this program knows.
var ErrUnknownStatement = errors.New("unknown kind of statement")

// ParseStatement reads what Bytes wrote. It verifies nothing.
func ParseStatement(b []byte) (Statement, error) {
	switch {
	case bytes.HasPrefix(b, []byte("skerry grant ")):
		g, err := ParseGrant(b)
		return &g, err
	case bytes.HasPrefix(b, []byte(epochMagic)):
		e, err := ParseEpoch(b)
		return &e, err
	case bytes.HasPrefix(b, []byte(wrappedMagic)), bytes.HasPrefix(b, []byte(byLeaveMagic)):
		w, err := ParseWrappedKey(b)
		return &w, err
	case bytes.HasPrefix(b, []byte(revocationMagic)):
		r, err := ParseRevocation(b)
		return &r, err
	}
	return nil, ErrUnknownStatement
}

// Classes of statements: those of the replica key are found without reading what delegates have
// made.
const (
	classDirect    = 0
	classDelegated = 1
)

// statementKey is the key of a record: the replica, and the statement's key in the set (see
// StatementSet).
func statementKey(st Statement) []byte {
	id, author := st.about()
	sid := st.ID()
	return append(
		append(append(idKey(keyStatement, id), author[:]...), byte(classOf(st))), sid[:]...,
	)
}

func classOf(st Statement) int {
	if chainOf(st) != nil {
		return classDelegated
	}
	return classDirect
}

// statements are those about one author, or about all.
type statements struct {
	grants      []Grant
	revocations []Revocation
	epochs      []Epoch
	wrapped     []WrappedKey
}

// statementsOf returns the statements about one author, or all if author is nil.
func statementsOf(r kv.Reader, id ID, author *AuthorID) (statements, error) {
	prefix := idKey(keyStatement, id)
	if author != nil {
		prefix = append(prefix, author[:]...)
	}
	return scanStatements(r, prefix)
}

// scanStatements returns the statements whose records begin with a prefix.
func scanStatements(r kv.Reader, prefix []byte) (all statements, err error) {
	for p, err := range r.Scan(kv.Prefix(prefix), kv.ScanOptions{}) {
		if err != nil {
			return all, err
		}
		st, err := ParseStatement(p.Value)
		if err != nil {
			return all, fmt.Errorf("%w: %v", errBadRecord, err) // no peer sent it: the cause does not count as theirs
		}
		switch st := st.(type) {
		case *Grant:
			all.grants = append(all.grants, *st)
		case *Revocation:
			all.revocations = append(all.revocations, *st)
		case *Epoch:
			all.epochs = append(all.epochs, *st)
		case *WrappedKey:
			all.wrapped = append(all.wrapped, *st)
		}
	}
	return all, nil
}

// Grants returns all grants of a replica, in the order of authors.
func (s *Store) Grants(ctx context.Context, id ID) ([]Grant, error) {
	st, err := s.statements(ctx, id)
	return st.grants, err
}

// Revocations returns all revocations of a replica, in the order of authors.
func (s *Store) Revocations(ctx context.Context, id ID) ([]Revocation, error) {
	st, err := s.statements(ctx, id)
	return st.revocations, err
}

func (s *Store) statements(ctx context.Context, id ID) (st statements, err error) {
	err = s.kv.View(ctx, func(r kv.Reader) error {
		st, err = statementsOf(r, id, nil)
		return err
	})
	return st, err
}

// RevokedSince reports whether a revocation of an author was issued at a time or later by the
// replica key, or by an author whose key this node holds. Other delegates do not decide about whom
// this node lets in.
func (s *Store) RevokedSince(
	ctx context.Context, id ID, author AuthorID, since uint64,
) (revoked bool, err error) {
	err = s.kv.View(ctx, func(rd kv.Reader) error {
		revoked = false
		st, err := statementsOf(rd, id, &author)
		for i := range st.revocations {
			v := &st.revocations[i]
			if v.Issued < since {
				continue
			}
			if v.Authority == nil {
				revoked = true
				continue
			}
			own, hasErr := rd.Has(append([]byte(keyAuthor), v.Authority.Author[:]...))
			if hasErr != nil {
				return hasErr
			}
			revoked = revoked || own
		}
		return err
	})
	return revoked, err
}

// StatementsFor returns the encoded statements by which the store allows some entries: of each of
// their authors, what the replica key has stated; and where that does not do, one grant by a
// delegate for each entry, with what has been revoked in its chain.
func (s *Store) StatementsFor(
	ctx context.Context, id ID, entries []Entry,
) (items [][]byte, err error) {
	byAuthor := map[AuthorID][]*Entry{}
	for i := range entries {
		byAuthor[entries[i].Author] = append(byAuthor[entries[i].Author], &entries[i])
	}
	err = s.kv.View(ctx, func(rd kv.Reader) error {
		c := choice{x: newStated(rd, id), seen: map[[32]byte]bool{}}
		for author, all := range byAuthor {
			if err := c.add(author, all); err != nil {
				return err
			}
		}
		items = c.items
		return nil
	})
	return items, err
}

// StatementsAbout returns the encoded statements that decide about an author: what the replica key
// has stated, and the grants by delegates that allow anything, with what has been revoked in their
// chains.
func (s *Store) StatementsAbout(
	ctx context.Context, id ID, author AuthorID,
) (items [][]byte, err error) {
	err = s.kv.View(ctx, func(rd kv.Reader) error {
		c := choice{x: newStated(rd, id), seen: map[[32]byte]bool{}}
		if err := c.takeDirect(author); err != nil {
			return err
		}
		st, err := c.x.about(classDelegated, author)
		if err != nil {
			return err
		}
		for i := range st.grants {
			a, err := c.x.decides(&st.grants[i])
			if err != nil {
				return err
			}
			if len(a) == 0 {
				continue
			}
			if err := c.takeChain(&st.grants[i]); err != nil {
				return err
			}
		}
		items = c.items
		return nil
	})
	return items, err
}

// choice collects statements to send.
type choice struct {
	x     *stated
	seen  map[[32]byte]bool // by id
	items [][]byte
}

func (c *choice) take(st Statement) {
	if id := st.ID(); !c.seen[id] {
		c.seen[id] = true
		c.items = append(c.items, st.Bytes())
	}
}

func (c *choice) takeDirect(author AuthorID) error {
	st, err := c.x.about(classDirect, author)
	for i := range st.grants {
		c.take(&st.grants[i])
	}
	for i := range st.revocations {
		c.take(&st.revocations[i])
	}
	return err
}

func (c *choice) add(author AuthorID, entries []*Entry) error {
	if err := c.takeDirect(author); err != nil {
		return err
	}
	direct, err := c.x.allows(classDirect, author)
	if err != nil {
		return err
	}
	entries = slices.DeleteFunc(entries, func(e *Entry) bool { return direct.Allows(e) })
	if len(entries) == 0 {
		return nil
	}
	st, err := c.x.about(classDelegated, author)
	if err != nil {
		return err
	}
	for i := range st.grants {
		a, err := c.x.decides(&st.grants[i])
		if err != nil {
			return err
		}
		before := len(entries)
		entries = slices.DeleteFunc(entries, func(e *Entry) bool { return a.Allows(e) })
		if len(entries) == before {
			continue
		}
		if err := c.takeChain(&st.grants[i]); err != nil {
			return err
		}
	}
	return nil
}

// takeChain takes a grant, what the replica key has stated about the authors in its chain, and the
// revocations by delegates that apply to it or to those above it.
func (c *choice) takeChain(g *Grant) error {
	c.take(g)
	for ; g != nil; g = g.Parent {
		if err := c.takeDirect(g.Author); err != nil {
			return err
		}
		rs, err := c.x.revocations(g.Author)
		if err != nil {
			return err
		}
		for i := range rs {
			if rs[i].appliesTo(g) {
				c.take(&rs[i])
			}
		}
	}
	return nil
}

// Stated tells what became of statements.
type Stated struct {
	Added int // stored, as new ones
	Known int // stored before
	// of a delegate, and void or beyond what is kept of that delegate (see delegated.go); or kept
	// out by Config.OnState
	Refused int
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
	wanted, screened, err := s.screen(ctx, id, here)
	if err != nil {
		return screened, err
	}
	good := make([]Statement, 0, len(wanted))
	seen := verifiedGrants{}
	for _, st := range wanted {
		err := seen.verify(st)
		if firstErr = firstOf(firstErr, err); err == nil {
			good = append(good, st)
		}
	}
	slices.SortStableFunc(good, func(a, b Statement) int { return classOf(a) - classOf(b) })
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
		out.Refused += some.Refused
		good = good[n:]
	}
	out.Known += screened.Known
	out.Refused += screened.Refused
	return out, firstOf(err, firstErr)
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
				ok, _, err := v.offer(st, above, false)
				if err != nil {
					return err
				}
				if !ok {
					out.Refused++
					continue
				}
			}
			wanted = append(wanted, st)
		}
		return nil
	})
	return wanted, out, err
}

// state stores statements that this node has made. It returns ErrTooMany, and stores none, if one
// would not be kept or another would have to go for it.
func (s *Store) state(ctx context.Context, id ID, all []Statement) error {
	_, err := s.storeAll(ctx, id, all, true)
	return err
}

// storeStatements stores verified statements; the caller holds the replica's lock.
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
		// those of the replica key decide about the others
		for _, class := range []int{classDirect, classDelegated} {
			for _, st := range all {
				if err := n.store(st, class); err != nil {
					return err
				}
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

// store stores a statement if it is of a class.
func (n *storing) store(st Statement, class int) error {
	if classOf(st) != class {
		return nil
	}
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
		ok, goes, err := n.sieve.keepDelegated(n.tx, st, above, n.changes)
		if err != nil {
			return err
		}
		if n.own && (!ok || goes != nil) {
			return ErrTooMany
		}
		if !ok {
			n.out.Refused++
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

// statementsChanged forgets what is remembered of a replica's statements, after a transaction that
// has changed them.
func (s *Store) statementsChanged(id ID) {
	s.statementPrints.changed(id)
	s.prints.changed(id)
}

// StatementsIn counts the statements of a replica, and their bytes.
func StatementsIn(r kv.Reader, id ID) (count int, bytes uint64, err error) {
	for p, err := range r.Scan(kv.Prefix(idKey(keyStatement, id)), kv.ScanOptions{}) {
		if err != nil {
			return count, bytes, err
		}
		count++
		bytes += uint64(len(p.Value))
	}
	return count, bytes, nil
}

// touchStatements changes the record that stands for all statements of a replica, so that
// transactions that have read some conflict with one that adds others. The number is random, so
// that one stands for the same statements wherever it is met.
func touchStatements(tx kv.Txn, id ID) error {
	_, err := newStatementsVersion(tx, id)
	return err
}

func newStatementsVersion(tx kv.Txn, id ID) (uint64, error) {
	var n [8]byte
	_, _ = rand.Read(n[:]) // never fails
	return binary.BigEndian.Uint64(n[:]), tx.Set(idKey(keyStatements, id), n[:])
}

// statementsVersion returns that number; 0 if there are no statements.
func statementsVersion(r kv.Reader, id ID) (n uint64, err error) {
	err = r.Peek(idKey(keyStatements, id), func(b []byte) error {
		if len(b) != 8 {
			return errBadRecord
		}
		n = binary.BigEndian.Uint64(b)
		return nil
	})
	if errors.Is(err, kv.ErrNotFound) {
		return 0, nil
	}
	return n, err
}
