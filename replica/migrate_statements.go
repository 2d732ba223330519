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
// the statements anew, by the rules of today, and takes the keys of replicas that this node can write
// for such. It goes on after a crash: what is moved is deleted afterwards, and stating twice does
// nothing.
const keyOldStatement = "rg"

// migrateAtOnce is how many statements are moved together.
const migrateAtOnce = 1024

func (s *Store) migrateStatements(ctx context.Context) error {
	if err := s.migrateReadKeys(ctx); err != nil {
		return fmt.Errorf("migrate read keys: %w", err)
	}
	for {
		id, keys, all, err := s.oldStatements(ctx)
		if err == nil && len(keys) == 0 {
			return nil
		}
		if err == nil {
			_, err = s.InsertStatements(ctx, id, all)
		}
		if err != nil && !errors.Is(err, ErrNotFound) { // not found: the replica has been left
			return fmt.Errorf("migrate statements: %w", err)
		}
		err = s.kv.Batch(ctx, func(w kv.Writer) error {
			for _, k := range keys {
				if err := w.Delete(k); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("migrate statements: %w", err)
		}
	}
}

// oldStatements returns the first records of version 4, all of one replica, and what is right of them.
func (s *Store) oldStatements(ctx context.Context) (id ID, keys [][]byte, all []Statement, err error) {
	err = s.kv.View(ctx, func(rd kv.Reader) error {
		keys, all = nil, nil
		for p, err := range rd.Scan(kv.Prefix([]byte(keyOldStatement)), kv.ScanOptions{}) {
			if err != nil {
				return err
			}
			if len(p.Key) != len(keyOldStatement)+96 {
				return errBadRecord
			}
			of := ID(p.Key[len(keyOldStatement):])
			if len(keys) == 0 {
				id = of
			}
			if of != id || len(keys) == migrateAtOnce {
				return nil
			}
			keys = append(keys, bytes.Clone(p.Key))
			st, err := ParseStatement(p.Value)
			if err != nil || st.Verify() != nil {
				continue // the rules of today refuse it
			}
			all = append(all, st)
		}
		return nil
	})
	return id, keys, all, err
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
			r, err := getReplica(tx, ID(p.Key[len(keyReadKey):]))
			if errors.Is(err, ErrNotFound) {
				continue // it is being left
			}
			if err != nil {
				return err
			}
			vouched := byte(0)
			if r.Capability == Write {
				vouched = 1
			}
			if err := tx.Set(p.Key, append(p.Value, vouched)); err != nil {
				return err
			}
		}
		return nil
	})
}
