package replica

import (
	"context"
	"errors"
	"fmt"
)

// ErrOwnEntries reports an author who is to take over its own entries.
var ErrOwnEntries = errors.New("an author cannot take over its own entries")

// Adopt signs the entries of an author anew, as another one whose key is given: each that is the
// latest of its key, a deletion as well, with the same key, content and timestamp. which, unless it
// is nil, chooses among them. It returns how many there were. A revocation of everything that the
// first author ever signed then takes nothing of these away, and closes the replica to whatever
// that author signs with an earlier time. It needs the replica key, returns a *NotAllowedError
// without it, ErrNotFound, and ErrOwnEntries.
func (s *Store) Adopt(
	ctx context.Context, id ID, from AuthorID, as SecretKey, which func(e *Entry) (bool, error),
) (adopted int, err error) {
	if as.Author() == from {
		return 0, ErrOwnEntries
	}
	r, err := s.Get(ctx, id)
	if err != nil {
		return 0, err
	}
	if r.Capability < Write {
		return 0, &NotAllowedError{
			Op: "take over entries in", Name: r.Name, Have: r.Capability, Need: Write,
		}
	}
	lock := s.writes.of(id)
	lock.Lock()
	defer lock.Unlock()
	var batch []Entry
	store := func() error {
		sign(batch, as)
		for len(batch) > 0 {
			n := fitting(batch, s.atOnce.get(), func(e *Entry) int { return len(e.Key) })
			if err := s.storeWritten(ctx, id, as, batch[:n]); err != nil {
				return err
			}
			adopted += n
			batch = batch[n:]
		}
		batch = nil
		return nil
	}
	for e, err := range s.Latest(ctx, id, Query{Author: &from, Tombstones: true}) {
		if err != nil {
			return adopted, fmt.Errorf("take over entries: %w", err)
		}
		if which != nil {
			if is, err := which(&e); err != nil {
				return adopted, fmt.Errorf("take over entries: %w", err)
			} else if !is {
				continue
			}
		}
		e.Author = as.Author()
		if batch = append(batch, e); len(batch) == insertEntries {
			if err := store(); err != nil {
				return adopted, fmt.Errorf("take over entries: %w", err)
			}
		}
	}
	if err := store(); err != nil {
		return adopted, fmt.Errorf("take over entries: %w", err)
	}
	return adopted, nil
}
