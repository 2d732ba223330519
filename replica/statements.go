package replica

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"

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
			// no peer sent it: the cause does not count as theirs
			return all, fmt.Errorf("%w: %v", errBadRecord, err)
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

// Delegates returns how many authors the replica key has let grant to others, or has revoked. It
// counts no further than most.
func (s *Store) Delegates(ctx context.Context, id ID, most int) (count int, err error) {
	const authorAt = len(keyStatement) + len(id)
	const classAt = authorAt + len(AuthorID{})
	err = s.kv.View(ctx, func(rd kv.Reader) error {
		count = 0
		span := kv.Prefix(idKey(keyStatement, id))
		for more := true; more && count < most; {
			more = false
			for p, err := range rd.Scan(span, kv.ScanOptions{}) {
				if err != nil {
					return err
				}
				direct := p.Key[classAt] == classDirect
				counts := direct && isOfDelegate(p.Value)
				if direct && !counts {
					continue
				}
				if counts {
					count++
				}
				// What else is about this author is not read.
				span.From, more = kv.After(bytes.Clone(p.Key[:classAt])), true
				break
			}
		}
		return nil
	})
	return count, err
}

// isOfDelegate reports whether a statement of the replica key is about one who may grant, or one
// who is revoked.
func isOfDelegate(record []byte) bool {
	st, err := ParseStatement(record)
	if err != nil {
		return false
	}
	if g, ok := st.(*Grant); ok {
		return g.Delegable
	}
	_, ok := st.(*Revocation)
	return ok
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
