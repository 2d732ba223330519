package store

import (
	"context"
	"errors"
	"fmt"
)

// Rewriter is a store that keeps more than one object under a key, all of which Rewrite must see.
type Rewriter interface {
	// Rewrite calls fresh with all that this store has written of documents, as it is kept (a store
	// that does not tell them from files, also with these), and keeps in its place what fresh returns,
	// unless that is nil. It may be called before anything else uses the store, and ends with fresh's
	// first error.
	Rewrite(ctx context.Context, fresh func(key string, kept []byte) ([]byte, error)) error
}

// rewritePage is how many keys are listed at once.
const rewritePage = 1000

// Rewrite does what Rewriter says, in any store.
func Rewrite(
	ctx context.Context, s Store, fresh func(key string, kept []byte) ([]byte, error),
) error {
	if r, ok := s.(Rewriter); ok {
		return r.Rewrite(ctx, fresh)
	}
	after := ""
	for {
		keys, err := s.List(ctx, "", after, rewritePage)
		if err != nil {
			return err
		}
		for _, key := range keys {
			after = key
			if err := rewrite(ctx, s, key, fresh); err != nil {
				return fmt.Errorf("%s: %w", key, err)
			}
		}
		if len(keys) < rewritePage {
			return nil
		}
	}
}

func rewrite(
	ctx context.Context, s Store, key string, fresh func(key string, kept []byte) ([]byte, error),
) error {
	o, err := s.Get(ctx, key)
	if errors.Is(err, ErrNotFound) { // it is gone
		return nil
	}
	if err != nil {
		return err
	}
	kept, err := fresh(key, o.Body)
	if err != nil || kept == nil {
		return err
	}
	return s.Put(ctx, key, &Object{Body: kept, Type: o.Type}, Same(o.Tag))
}
