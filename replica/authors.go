package replica

import (
	"context"
	"errors"
	"fmt"

	"github.com/skerry-sync/skerry/kv"
)

// NewAuthor makes and keeps a new author; the first one becomes the default.
func (s *Store) NewAuthor(ctx context.Context) (AuthorID, error) {
	key := NewSecretKey()
	return key.Author(), s.ImportAuthor(ctx, key)
}

// ImportAuthor keeps the key of an author that was made elsewhere; the first one becomes the
// default. Read keys that were given to the author are learnt from the statements that are here.
func (s *Store) ImportAuthor(ctx context.Context, key SecretKey) error {
	id, seed := key.Author(), key.Seed()
	err := s.kv.Update(ctx, func(tx kv.Txn) error {
		has, err := tx.Has([]byte(keyDefault))
		if err == nil && !has {
			err = tx.Set([]byte(keyDefault), id[:])
		}
		return errors.Join(err, tx.Set(append([]byte(keyAuthor), id[:]...), seed[:]))
	})
	if err == nil {
		err = s.learnAll(ctx)
	}
	if err != nil {
		return err
	}
	return s.kv.Sync(ctx)
}

// Authors returns the authors whose keys this node has.
func (s *Store) Authors(ctx context.Context) (all []AuthorID, err error) {
	err = s.kv.View(ctx, func(r kv.Reader) error {
		all = nil
		for p, err := range r.Scan(kv.Prefix([]byte(keyAuthor)), kv.ScanOptions{KeysOnly: true}) {
			if err != nil {
				return err
			}
			all = append(all, AuthorID(p.Key[len(keyAuthor):]))
		}
		return nil
	})
	return all, err
}

// AuthorKey returns the key of an author, or ErrNotFound.
func (s *Store) AuthorKey(ctx context.Context, id AuthorID) (key SecretKey, err error) {
	err = s.kv.View(ctx, func(r kv.Reader) error {
		key, err = authorKey(r, id)
		return err
	})
	return key, err
}

// HasAuthorIn reports whether this node has the key of an author, as part of a larger transaction.
func HasAuthorIn(r kv.Reader, id AuthorID) (bool, error) {
	return r.Has(append([]byte(keyAuthor), id[:]...))
}

func authorKey(r kv.Reader, id AuthorID) (key SecretKey, err error) {
	err = r.Peek(append([]byte(keyAuthor), id[:]...), func(seed []byte) error {
		key = SecretKeyFromSeed([32]byte(seed))
		return nil
	})
	if errors.Is(err, kv.ErrNotFound) {
		return key, fmt.Errorf("author %s: key %w", id, ErrNotFound)
	}
	return key, err
}

// authorKeys returns the keys of all authors that the store has.
func authorKeys(r kv.Reader) (keys []SecretKey, err error) {
	for p, err := range r.Scan(kv.Prefix([]byte(keyAuthor)), kv.ScanOptions{}) {
		if err != nil {
			return nil, err
		}
		if len(p.Value) != 32 {
			return nil, errBadRecord
		}
		keys = append(keys, SecretKeyFromSeed([32]byte(p.Value)))
	}
	return keys, nil
}

// DefaultAuthor returns the author that writes unless another is named; the first call on a new
// node makes it.
func (s *Store) DefaultAuthor(ctx context.Context) (id AuthorID, err error) {
	err = s.kv.View(ctx, func(r kv.Reader) error {
		return r.Peek([]byte(keyDefault), func(b []byte) error { id = AuthorID(b); return nil })
	})
	if errors.Is(err, kv.ErrNotFound) {
		return s.NewAuthor(ctx)
	}
	return id, err
}

// DefaultAuthorKey returns the secret key of the default author, which is made if there is none.
func (s *Store) DefaultAuthorKey(ctx context.Context) (SecretKey, error) {
	id, err := s.DefaultAuthor(ctx)
	if err != nil {
		return SecretKey{}, err
	}
	return s.AuthorKey(ctx, id)
}

// SetDefaultAuthor chooses the default among the authors whose keys this node has, or returns
// ErrNotFound.
func (s *Store) SetDefaultAuthor(ctx context.Context, id AuthorID) error {
	err := s.kv.Update(ctx, func(tx kv.Txn) error {
		has, err := tx.Has(append([]byte(keyAuthor), id[:]...))
		if err == nil && !has {
			err = fmt.Errorf("author %s: key %w", id, ErrNotFound)
		}
		return errors.Join(err, tx.Set([]byte(keyDefault), id[:]))
	})
	if err != nil {
		return err
	}
	return s.kv.Sync(ctx)
}
