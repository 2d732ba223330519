package replica

import (
	"context"
	"fmt"

	"github.com/skerry-sync/skerry/kv"
)

// Voids returns which entries Revoke would make void now, given the same author and time: those of
// the author, and of all whose grants stem from the author's, that count until then. So whoever
// revokes can save them first. The function is for one goroutine, and knows the statements that
// are here when Voids is called. Voids returns the errors of Revoke, and changes nothing.
func (s *Store) Voids(
	ctx context.Context, id ID, author AuthorID, from uint64,
) (func(e *Entry) (bool, error), error) {
	var before, after *stated
	err := s.view(ctx, id, func(rd kv.Reader, held *Replica) error {
		r, err := s.makeRevocation(rd, held, author, from)
		if err != nil {
			return err
		}
		all, err := statementsOf(rd, id, nil)
		if err != nil {
			return err
		}
		before = newStatedOf(id, &all)
		all.revocations = append(all.revocations, r)
		after = newStatedOf(id, &all)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("what a revocation would make void: %w", err)
	}
	type rightsOf struct{ before, after Authority }
	known := map[AuthorID]rightsOf{}
	return func(e *Entry) (bool, error) {
		of, ok := known[e.Author]
		if !ok {
			if of.before, err = before.authority(e.Author); err == nil {
				of.after, err = after.authority(e.Author)
			}
			if err != nil {
				return false, err
			}
			known[e.Author] = of
		}
		return of.before.Allows(e) && !of.after.Allows(e), nil
	}, nil
}
