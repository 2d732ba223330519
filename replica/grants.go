package replica

import (
	"context"
	"fmt"

	"github.com/skerry-sync/skerry/kv"
)

func grantKey(g *Grant) []byte {
	gid := g.ID()
	return append(append(idKey(keyGrant, g.Replica), g.Author[:]...), gid[:]...)
}

// grantsOf returns the grants of one author, or of all if author is nil.
func grantsOf(r kv.Reader, id ID, author *AuthorID) (grants []Grant, err error) {
	prefix := idKey(keyGrant, id)
	if author != nil {
		prefix = append(prefix, author[:]...)
	}
	for p, err := range r.Scan(kv.Prefix(prefix), kv.ScanOptions{}) {
		if err != nil {
			return nil, err
		}
		g, err := ParseGrant(p.Value)
		if err != nil {
			return nil, err
		}
		grants = append(grants, g)
	}
	return grants, nil
}

// Grants returns all grants of a replica.
func (s *Store) Grants(ctx context.Context, id ID) (grants []Grant, err error) {
	err = s.kv.View(ctx, func(r kv.Reader) error {
		grants, err = grantsOf(r, id, nil)
		return err
	})
	return grants, err
}

// InsertGrants stores grants of the replica id after verifying them. The error names the first that is wrong; the others are stored. It
// reports how many were new.
func (s *Store) InsertGrants(ctx context.Context, id ID, grants []Grant) (added int, err error) {
	var firstErr error
	good := make([]Grant, 0, len(grants))
	for _, g := range grants {
		err := g.Verify()
		if g.Replica != id {
			err = fmt.Errorf("grant for %s: %w", g.Author, ErrWrongReplica)
		}
		if firstErr = firstOf(firstErr, err); err == nil {
			good = append(good, g)
		}
	}
	err = s.kv.Update(ctx, func(tx kv.Txn) error {
		added = 0
		if _, err := getReplica(tx, id); err != nil {
			return err
		}
		for i := range good {
			has, err := tx.Has(grantKey(&good[i]))
			if err != nil {
				return err
			}
			if !has {
				added++
				if err := tx.Set(grantKey(&good[i]), good[i].Bytes()); err != nil {
					return err
				}
			}
		}
		return nil
	})
	s.prints.changed(id)
	return added, firstOf(err, firstErr)
}
