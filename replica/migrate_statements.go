package replica

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/skerry-sync/skerry/kv"
)

// Version 4 of the format had statements under
//
//	r g replica[32] author[32] id[32]
//
// and read keys without the byte that says whether they came with the replica key. Migration states
// the statements anew, by the rules of today, and no key for one that came so: a stranger may have given
// any of them, and the epochs prove those that are right. It goes on after a crash: what is moved is deleted afterwards, and stating twice does
// nothing.
const keyOldStatement = "rg"

// migrateAtOnce is how many statements are moved together.
const migrateAtOnce = 1024

func (s *Store) migrateStatements(ctx context.Context) error {
	if err := s.migrateReadKeys(ctx); err != nil {
		return fmt.Errorf("migrate read keys: %w", err)
	}
	asked := s.cfg.OnState
	defer func() { s.cfg.OnState = asked }()
	if asked != nil { // it is told, but they have been stored before, whether or not there is room
		s.cfg.OnState = func(tx kv.Txn, id ID, bytes int) (bool, error) {
			_, err := asked(tx, id, bytes)
			return true, err
		}
	}
	// Revocations come last: each drops what no grant allows, and so all grants must be here.
	for _, revocations := range []bool{false, true} {
		if err := s.moveStatements(ctx, revocations); err != nil {
			return fmt.Errorf("migrate statements: %w", err)
		}
	}
	if err := s.deletePrefixes(ctx, [][]byte{[]byte(keyOldStatement)}); err != nil {
		return fmt.Errorf("migrate statements: %w", err)
	}
	return nil
}

// moveStatements states revocations anew, or all others.
func (s *Store) moveStatements(ctx context.Context, revocations bool) error {
	rest := kv.Prefix([]byte(keyOldStatement))
	for {
		id, last, all, err := s.oldStatements(ctx, rest, revocations)
		if err != nil || last == nil {
			return err
		}
		if _, err := s.InsertStatements(ctx, id, all); err != nil && !errors.Is(err, ErrNotFound) { // not found: the replica has been left
			return err
		}
		rest.From = kv.After(last)
	}
}

// oldStatements returns what is right of the first records of version 4 in a range, all of one replica,
// as far as they are revocations or are not, and the key of the last record it has looked at.
func (s *Store) oldStatements(ctx context.Context, rest kv.Range, revocations bool) (id ID, last []byte, all []Statement, err error) {
	err = s.kv.View(ctx, func(rd kv.Reader) error {
		last, all = nil, nil
		count := 0
		for p, err := range rd.Scan(rest, kv.ScanOptions{}) {
			if err != nil {
				return err
			}
			if len(p.Key) != len(keyOldStatement)+96 {
				return errBadRecord
			}
			of := ID(p.Key[len(keyOldStatement):])
			if last == nil {
				id = of
			}
			if of != id || count == migrateAtOnce {
				return nil
			}
			count++
			last = bytes.Clone(p.Key)
			st, err := ParseStatement(p.Value)
			if err != nil || st.Verify() != nil {
				continue // the rules of today refuse it
			}
			if _, is := st.(*Revocation); is == revocations {
				all = append(all, st)
			}
		}
		return nil
	})
	return id, last, all, err
}

func (s *Store) migrateReadKeys(ctx context.Context) error {
	return s.kv.Update(ctx, func(tx kv.Txn) error {
		var old []kv.Pair // a scan must end before something is written
		for p, err := range tx.Scan(kv.Prefix([]byte(keyReadKey)), kv.ScanOptions{}) {
			if err != nil {
				return err
			}
			if len(p.Key) == len(keyReadKey)+32+12 && len(p.Value) == 32 {
				old = append(old, kv.Pair{Key: bytes.Clone(p.Key), Value: bytes.Clone(p.Value)})
			}
		}
		for _, p := range old {
			if err := tx.Set(p.Key, append(p.Value, 0)); err != nil {
				return err
			}
		}
		return nil
	})
}
