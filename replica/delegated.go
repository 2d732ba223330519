package replica

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/replica/seal"
)

// The statements of delegates are bounded, since a delegate can sign as many as it likes. What is
// kept of them is a pure function of all statements, so nodes that have met the same ones keep the
// same, in whatever order they came:
//
//   - A statement is *void* if a revocation by the replica key ends a grant in its chain at or
//     before the time at which the statement, or a grant between the two, was issued; or if a grant
//     in its chain is for a key of small order. Void ones are dropped.
//   - Of the others, all that stem from one grantee of the replica key share one budget. Within it,
//     grants and revocations are counted apart, and so are grants below prefixes that were sealed in
//     one epoch: these share a *shelf*. All others, with the revocations' own, share the shelf 0.
//     What is on a shelf is ordered by (length of the chain, issued, id). The first MaxAbout about
//     each author are kept, and of these the first MaxDelegated in all.
//
// With each epoch delegates make anew what they have granted, and the grants of before stay, since
// entries stand by them. A shelf for each epoch has room for both: renewal alone never comes to a
// limit. Only epochs that count have one, and those the replica key begins. So how much a delegate
// can add is bounded by what the owner does.
//
// Both steps drop only what would be dropped again after more has come, except that a later
// revocation makes room, as does an epoch that comes to count; so union and drop commute.
// Statements of the replica key are never dropped, and none of a delegate's ever decides about an
// author to whom the replica key has granted.
const (
	// MaxDelegated is how many grants, and how many revocations, a replica keeps that stem from one
	// grantee of the replica key, on one shelf.
	MaxDelegated = 1024
	// MaxAbout is how many of each of these may be about one author.
	MaxAbout = 64
)

// ErrTooMany reports a grant or revocation that a replica would not keep, because its delegate has
// made too many.
var ErrTooMany = errors.New("the delegate has made as many grants or revocations " +
	"as a replica keeps: ask for one by the replica key")

// chainOf returns the grant by which somebody could make a statement; nil for the replica key.
func chainOf(st Statement) *Grant {
	switch st := st.(type) {
	case *Grant:
		return st.Parent
	case *Revocation:
		return st.Authority
	}
	return nil
}

func issuedOf(st Statement) uint64 {
	switch st := st.(type) {
	case *Grant:
		return st.Issued
	case *Revocation:
		return st.Issued
	}
	return 0
}

// isVoid reports whether a revocation by the replica key, or a weak key, makes a statement void
// that was issued at some time by the authority of the grant above. revocations returns those about
// an author.
func isVoid(
	above *Grant, issued uint64, revocations func(AuthorID) ([]Revocation, error),
) (bool, error) {
	for g := above; g != nil; g = g.Parent {
		if isWeak(g.Author) { // anybody can have made it
			return true, nil
		}
		about, err := revocations(g.Author)
		if err != nil {
			return false, err
		}
		for i := range about {
			if r := &about[i]; r.Authority == nil && r.appliesTo(g) && r.From <= issued {
				return true, nil
			}
		}
		issued = max(issued, g.Issued)
	}
	return false, nil
}

// budget is what statements are counted by: those that stem from one grantee of the replica key.
type budget struct {
	root AuthorID
	kind byte
}

const (
	kindGrant = iota
	kindRevocation
)

// shelf is a part of a budget that is counted by itself: that of the grants below prefixes of one
// epoch that counts; 0 for all others.
type shelf struct {
	budget
	epoch uint32
}

// rank is the place of a statement on its shelf: length of the chain u8, issued u64, id[32].
type rank [1 + 8 + 32]byte

type ranked struct {
	rank
	about AuthorID
	epoch uint32 // what epochOf says, whether or not that counts
}

func (r *ranked) compare(o *ranked) int { return bytes.Compare(r.rank[:], o.rank[:]) }

// epochOf returns the number of the epoch in which the prefix of a grant was sealed. In a replica
// that is not encrypted it means nothing, and no epoch counts. 0 is for what has no such prefix.
func epochOf(st Statement) uint32 {
	g, ok := st.(*Grant)
	if !ok {
		return 0
	}
	n, err := seal.EpochOf(g.Prefix)
	if err != nil {
		return 0
	}
	return n
}

// rankOf returns the budget and the place of a statement by the authority of the grant above.
func rankOf(st Statement, above *Grant) (b budget, r ranked) {
	depth := byte(0)
	for g := above; g != nil; g = g.Parent {
		b.root = g.Author
		depth++
	}
	if _, ok := st.(*Revocation); ok {
		b.kind = kindRevocation
	}
	_, r.about = st.about()
	r.epoch = epochOf(st)
	id := st.ID()
	r.rank[0] = depth
	binary.BigEndian.PutUint64(r.rank[1:], issuedOf(st))
	copy(r.rank[9:], id[:])
	return b, r
}

// shelfOf returns the shelf of a statement, with the number of the last epoch that counts.
func shelfOf(b budget, r *ranked, last uint32) shelf {
	if r.epoch > last {
		return shelf{b, 0}
	}
	return shelf{b, r.epoch}
}

func budgetKey(id ID, b budget) []byte {
	return append(append(idKey(keyDelegated, id), b.root[:]...), b.kind)
}

func epochKey(id ID, b budget, epoch uint32) []byte {
	return binary.BigEndian.AppendUint32(budgetKey(id, b), epoch)
}

func rankKey(id ID, b budget, r *ranked) []byte {
	return append(epochKey(id, b, r.epoch), r.rank[:]...)
}

// statementKeyOf is the key of the statement of a rank.
func (r *ranked) statementKeyOf(id ID) []byte {
	return append(
		append(append(idKey(keyStatement, id), r.about[:]...), classDelegated), r.rank[9:]...,
	)
}

// parseRankKey reads the key and value of a record of the index.
func parseRankKey(key, value []byte) (b budget, r ranked, err error) {
	k := key[min(len(key), len(keyDelegated)+32):]
	if len(k) != 32+1+4+len(r.rank) || len(value) != 32 {
		return b, r, errBadRecord
	}
	b = budget{AuthorID(k), k[32]}
	r.epoch = binary.BigEndian.Uint32(k[33:])
	copy(r.rank[:], k[37:])
	r.about = AuthorID(value)
	return b, r, nil
}

// keepLimits are MaxDelegated and MaxAbout, but in tests.
type keepLimits struct{ all, about int }

// sieve decides which statements of delegates are kept, within one transaction or view.
type sieve struct {
	*stated
	s    *Store
	most keepLimits
	kept map[shelf][]ranked // sorted
	last *uint32            // the last epoch that counts, once it is known
}

func (s *Store) sieve(rd kv.Reader, id ID) *sieve {
	return &sieve{stated: newStated(rd, id), s: s, most: s.keep, kept: map[shelf][]ranked{}}
}

// lastEpoch returns the number of the last epoch that counts; 0 for none.
func (x *stated) lastEpoch() (uint32, error) {
	all, err := x.about(classDirect, AuthorID{}) // epochs are about nobody
	return newest(counting(all.epochs)).Number, err
}

// shelf returns the shelf of a statement, and what is kept on it.
func (v *sieve) shelf(b budget, r *ranked) (at shelf, all []ranked, err error) {
	if v.last == nil {
		last, err := v.lastEpoch()
		if err != nil {
			return at, nil, err
		}
		v.last = &last
	}
	at = shelfOf(b, r, *v.last)
	if all, ok := v.kept[at]; ok {
		return at, all, nil
	}
	spans := []kv.Range{kv.Prefix(epochKey(v.id, b, at.epoch))}
	if at.epoch == 0 && *v.last < math.MaxUint32 { // and what is of epochs that do not count
		rest := kv.Prefix(budgetKey(v.id, b))
		rest.From = epochKey(v.id, b, *v.last+1)
		spans = append(spans, rest)
	}
	for _, span := range spans {
		for p, err := range v.rd.Scan(span, kv.ScanOptions{}) {
			if err != nil {
				return at, nil, err
			}
			_, r, err := parseRankKey(p.Key, p.Value)
			if err != nil {
				return at, nil, err
			}
			all = append(all, r)
		}
	}
	slices.SortFunc(all, func(x, y ranked) int { return x.compare(&y) })
	v.kept[at] = all
	return at, all, nil
}

// fate is what becomes of a statement of a delegate.
type fate int

const (
	void   fate = iota // it has no authority
	beyond             // others that are kept of the delegate come before it
	stays
)

// offer says what becomes of a new statement, and which other then has to go, if any. With keep, it
// also notes that.
func (v *sieve) offer(st Statement, above *Grant, keep bool) (is fate, goes *ranked, err error) {
	if isVoid, err := isVoid(above, issuedOf(st), v.direct); err != nil || isVoid {
		return void, nil, err
	}
	b, r := rankOf(st, above)
	at, all, err := v.shelf(b, &r)
	if err != nil {
		return void, nil, err
	}
	same, last := 0, -1
	for i := range all {
		if all[i].about == r.about {
			same, last = same+1, i
		}
	}
	out := -1
	switch {
	case same >= v.most.about:
		out = last
	case len(all) >= v.most.all:
		out = len(all) - 1
	}
	if out >= 0 {
		if all[out].compare(&r) < 0 {
			return beyond, nil, nil
		}
		gone := all[out]
		goes = &gone
	}
	if keep {
		if out >= 0 {
			all = slices.Delete(all, out, out+1)
		}
		place, _ := slices.BinarySearchFunc(
			all, &r, func(x ranked, r *ranked) int { return x.compare(r) },
		)
		v.kept[at] = slices.Insert(all, place, r)
	}
	return stays, goes, nil
}

// keepDelegated stores a new statement of a delegate, unless the sieve refuses it. It returns the
// one that had to go, if any.
func (v *sieve) keepDelegated(
	tx kv.Txn, st Statement, above *Grant, changes statementChanges,
) (is fate, goes *ranked, err error) {
	is, goes, err = v.offer(st, above, true)
	if err != nil || is != stays {
		return is, nil, err
	}
	b, r := rankOf(st, above)
	if goes != nil {
		if err := v.s.dropDelegated(tx, v.id, b, goes, changes); err != nil {
			return void, nil, err
		}
	}
	return stays, goes, errors.Join(
		tx.Set(statementKey(st), st.Bytes()),
		tx.Set(rankKey(v.id, b, &r), bytes.Clone(r.about[:])),
	)
}

// dropDelegated deletes a statement of a delegate. What its grant allowed may be void now.
func (s *Store) dropDelegated(
	tx kv.Txn, id ID, b budget, r *ranked, changes statementChanges,
) error {
	at := r.statementKeyOf(id)
	raw, err := tx.Get(at)
	if err != nil && !errors.Is(err, kv.ErrNotFound) {
		return err
	}
	if err == nil {
		changes.note(at, false)
		st, err := ParseStatement(raw)
		if err != nil {
			// no peer sent it: the cause does not count as theirs
			return fmt.Errorf("%w: %v", errBadRecord, err)
		}
		if _, err := s.asked(tx, id, -len(raw)); err != nil {
			return err
		}
		if g, ok := st.(*Grant); ok {
			may := g.Delegable
			if !may {
				if may, err = hasWritten(tx, id, g.Author); err != nil {
					return err
				}
			}
			if may {
				if err := noteVoid(tx, id, g.NotBefore); err != nil {
					return err
				}
			}
		}
	}
	return errors.Join(tx.Delete(at), tx.Delete(rankKey(id, b, r)))
}

// voidStatementsAtOnce is how many void statements one transaction drops.
const voidStatementsAtOnce = 64

// dropVoidStatements drops the statements of delegates that a revocation has made void. They decide
// about nothing any more; this frees their room. The caller holds the replica's lock.
func (s *Store) dropVoidStatements(ctx context.Context, id ID) error {
	err := s.dropStatements(context.WithoutCancel(ctx), id)
	if err != nil {
		err = fmt.Errorf("drop revoked statements of replica %s: %w", id.Short(), err)
	}
	return err
}

func (s *Store) dropStatements(ctx context.Context, id ID) error {
	type place struct {
		budget
		ranked
	}
	span := kv.Prefix(idKey(keyDelegated, id))
	for more := true; more; {
		var void []place
		err := s.kv.View(ctx, func(rd kv.Reader) error {
			void, more = nil, false
			x := newStated(rd, id)
			for p, err := range rd.Scan(span, kv.ScanOptions{}) {
				if err != nil {
					return err
				}
				b, r, err := parseRankKey(p.Key, p.Value)
				if err != nil {
					return err
				}
				is, err := x.isVoidAt(r.statementKeyOf(id))
				if err != nil {
					return err
				}
				if is {
					void = append(void, place{b, r})
				}
				if len(void) == voidStatementsAtOnce {
					span.From, more = kv.After(bytes.Clone(p.Key)), true
					return nil
				}
			}
			return nil
		})
		if err != nil || len(void) == 0 {
			return err
		}
		err = s.kv.Update(ctx, func(tx kv.Txn) error {
			if _, err := statementsVersion(tx, id); err != nil { // conflicts with whoever adds one
				return err
			}
			changes := statementChanges{}
			for i := range void {
				if err := s.dropDelegated(tx, id, void[i].budget, &void[i].ranked, changes); err != nil {
					return err
				}
			}
			return errors.Join(s.sumStatements(ctx, tx, id, changes), touchStatements(tx, id))
		})
		if err != nil {
			return err
		}
		s.statementsChanged(id)
	}
	return nil
}

// isVoidAt reads a statement and reports whether it is void. One that is missing counts as void:
// its record in the index must go.
func (x *stated) isVoidAt(key []byte) (bool, error) {
	raw, err := x.rd.Get(key)
	if errors.Is(err, kv.ErrNotFound) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	st, err := ParseStatement(raw)
	if err != nil {
		// no peer sent it: the cause does not count as theirs
		return false, fmt.Errorf("%w: %v", errBadRecord, err)
	}
	return isVoid(chainOf(st), issuedOf(st), x.direct)
}
