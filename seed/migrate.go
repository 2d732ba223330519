package seed

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/skerry-sync/skerry/identity"
	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/replica"
)

// Migrate implements node.Migrator. Earlier versions charged content alone:
//
//	s e identity[15] replica[32] place[16]  hash[32], size u64
//	s h identity hash[32]                   count u32, size u64
//
// All charges are taken back, and all that is registered is charged anew. The charges go last, so that
// it begins again after a crash.
func (r *Registry) Migrate(ctx context.Context, s kv.Store) error {
	old := false
	for p, err := range paged(ctx, s, []byte(keyCharged), nil) {
		if err != nil {
			return fmt.Errorf("migrate charges: %w", err)
		}
		if old = len(p.Value) == 40; old {
			break
		}
	}
	if !old {
		return nil
	}
	change := func(kind string, fn func(kv.Writer, kv.Pair) error) error {
		return s.Batch(ctx, func(w kv.Writer) error {
			for p, err := range paged(ctx, s, []byte(kind), nil) {
				if err != nil {
					return err
				}
				if err := fn(w, p); err != nil {
					return err
				}
			}
			return nil
		})
	}
	err := change(keyIdentities, func(w kv.Writer, p kv.Pair) error {
		if len(p.Key) != len(keyIdentities)+len(replica.ID{}) {
			return errBadRecord
		}
		return w.Set(key(keyCharging, p.Key[len(keyIdentities):]), nil)
	})
	if err == nil {
		err = change(keyUsage, func(w kv.Writer, p kv.Pair) error {
			u, err := parseUsage(p.Value)
			if err != nil || len(p.Key) != len(keyUsage)+identity.IDSize {
				return errBadRecord
			}
			return w.Set(p.Key, binary.BigEndian.AppendUint32(make([]byte, 8), u.Replicas))
		})
	}
	for _, kind := range []string{keyHeld, keyContent, keyRefused, keyCharged} {
		if err == nil {
			err = s.Sync(ctx)
		}
		if err == nil {
			err = change(kind, func(w kv.Writer, p kv.Pair) error { return w.Delete(p.Key) })
		}
	}
	if err != nil {
		return fmt.Errorf("migrate charges: %w", err)
	}
	return nil
}
