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

// Statement is a *Grant, a *Revocation, an *Epoch or a *WrappedKey. The statements of a replica are a set of their own, which only grows, and is reconciled before the entries.
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

// MaxStatement is the length of the longest statement in bytes: a grant by the replica key with the longest prefix.
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
	case bytes.HasPrefix(b, []byte(wrappedMagic)):
		w, err := ParseWrappedKey(b)
		return &w, err
	case bytes.HasPrefix(b, []byte(revocationMagic)):
		r, err := ParseRevocation(b)
		return &r, err
	}
	return nil, ErrUnknownStatement
}

func statementKey(st Statement) []byte {
	id, author := st.about()
	sid := st.ID()
	return append(append(idKey(keyStatement, id), author[:]...), sid[:]...)
}

// statements are those about one author, or about all.
type statements struct {
	grants      []Grant
	revocations []Revocation
	epochs      []Epoch
	wrapped     []WrappedKey
}

// statementsOf returns the statements about one author, or all if author is nil.
func statementsOf(r kv.Reader, id ID, author *AuthorID) (all statements, err error) {
	prefix := idKey(keyStatement, id)
	if author != nil {
		prefix = append(prefix, author[:]...)
	}
	for p, err := range r.Scan(kv.Prefix(prefix), kv.ScanOptions{}) {
		if err != nil {
			return all, err
		}
		st, err := ParseStatement(p.Value)
		if err != nil {
			return all, fmt.Errorf("%w: %w", errBadRecord, err)
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

// StatementsAbout returns the encoded grants and revocations that decide about entries of some authors: theirs, and those about the authors above them.
func (s *Store) StatementsAbout(ctx context.Context, id ID, authors map[AuthorID]bool) (items [][]byte, err error) {
	err = s.kv.View(ctx, func(r kv.Reader) error {
		items = nil
		seen := map[AuthorID]bool{}
		todo := slices.Collect(func(yield func(AuthorID) bool) {
			for a := range authors {
				if !yield(a) {
					return
				}
			}
		})
		for len(todo) > 0 {
			a := todo[0]
			if todo = todo[1:]; seen[a] {
				continue
			}
			seen[a] = true
			st, err := statementsOf(r, id, &a)
			if err != nil {
				return err
			}
			for i := range st.grants {
				items = append(items, st.grants[i].Bytes())
				for g := st.grants[i].Parent; g != nil; g = g.Parent {
					todo = append(todo, g.Author)
				}
			}
			for i := range st.revocations {
				items = append(items, st.revocations[i].Bytes())
			}
		}
		return nil
	})
	return items, err
}

// InsertStatements stores statements of the replica id after verifying them. The error names the first that is wrong; the others are stored. It
// reports how many were new. Entries that are void by a new revocation are dropped.
func (s *Store) InsertStatements(ctx context.Context, id ID, all []Statement) (added int, err error) {
	var firstErr error
	good := make([]Statement, 0, len(all))
	for _, st := range all {
		err := st.Verify()
		if replica, author := st.about(); replica != id {
			err = fmt.Errorf("statement about %s: %w", author, ErrWrongReplica)
		}
		if firstErr = firstOf(firstErr, err); err == nil {
			good = append(good, st)
		}
	}
	lock := s.writes.of(id)
	lock.Lock()
	defer lock.Unlock()
	added, err = s.storeStatements(ctx, id, good)
	return added, firstOf(err, firstErr)
}

// storeStatements stores verified statements; the caller holds the replica's lock.
func (s *Store) storeStatements(ctx context.Context, id ID, all []Statement) (added int, err error) {
	revoked, keys := false, false
	err = s.kv.Update(ctx, func(tx kv.Txn) error {
		added, revoked, keys = 0, false, false
		r, err := getReplica(tx, id)
		if err != nil {
			return err
		}
		for _, st := range all {
			key := statementKey(st)
			has, err := tx.Has(key)
			if err != nil {
				return err
			}
			if has {
				continue
			}
			added++
			if err := tx.Set(key, st.Bytes()); err != nil {
				return err
			}
			switch st := st.(type) {
			case *Revocation:
				revoked = true
				if err := noteVoid(tx, id, st.From); err != nil {
					return err
				}
			case *Epoch, *WrappedKey:
				keys = true
			}
		}
		if added == 0 {
			return nil
		}
		return errors.Join(touchStatements(tx, id), learnIf(keys, tx, &r))
	})
	if err != nil {
		return 0, err
	}
	s.prints.changed(id)
	if revoked {
		err = s.dropVoid(ctx, id)
	}
	return added, err
}

// touchStatements changes the record that stands for all statements of a replica, so that transactions that have read some conflict with one that adds others. The number is
// random, so that one stands for the same statements wherever it is met.
func touchStatements(tx kv.Txn, id ID) error {
	var n [8]byte
	_, _ = rand.Read(n[:]) // never fails
	return tx.Set(idKey(keyStatements, id), n[:])
}

// statementsVersion returns that number; 0 if there are no statements, or only some that a program of an earlier version has stored.
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
