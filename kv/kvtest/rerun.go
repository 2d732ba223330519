package kvtest

import (
	"context"
	"errors"

	"github.com/skerry-sync/skerry/kv"
)

// Rerun returns a store that runs the function of every Update twice, throwing the first run's
// changes away, as a conflict with another writer would. Code that keeps something of a run that
// came to nothing fails on it.
func Rerun(s kv.Store) kv.Store { return rerun{s} }

type rerun struct{ kv.Store }

var errThrownAway = errors.New("thrown away")

// Update implements kv.Store.
func (r rerun) Update(ctx context.Context, fn func(kv.Txn) error) error {
	err := r.Store.Update(ctx, func(tx kv.Txn) error {
		if err := fn(tx); err != nil {
			return err
		}
		return errThrownAway
	})
	if !errors.Is(err, errThrownAway) {
		return err
	}
	return r.Store.Update(ctx, fn)
}

// Limit returns a store whose transactions are too big from a number of bytes on, as those of other
// backends may be.
func Limit(s kv.Store, bytes int) kv.Store { return limited{s, bytes} }

type limited struct {
	kv.Store
	bytes int
}

// Update implements kv.Store.
func (l limited) Update(ctx context.Context, fn func(kv.Txn) error) error {
	return l.Store.Update(ctx, func(tx kv.Txn) error { return fn(&limitedTxn{tx, l.bytes}) })
}

type limitedTxn struct {
	kv.Txn
	left int
}

func (t *limitedTxn) Set(key, value []byte) error {
	if t.left -= len(key) + len(value); t.left < 0 {
		return kv.ErrTooBig
	}
	return t.Txn.Set(key, value)
}
