package storetest

import (
	"context"
	"errors"
	"strings"

	"github.com/skerry-sync/skerry/collections/store"
)

// ErrBroken is what a Failing store returns.
var ErrBroken = errors.New("broken")

// Failing is a store that refuses what begins with a key, in one way, and counts what is read. Its
// fields are not to be changed while it is used.
type Failing struct {
	store.Store
	How  string // "get", "put" or "delete"; "" refuses nothing
	Key  string
	Gets int
}

func (f *Failing) try(how, key string) error {
	if f.How == how && strings.HasPrefix(key, f.Key) {
		return ErrBroken
	}
	return nil
}

// Get implements store.Store.
func (f *Failing) Get(ctx context.Context, key string) (*store.Object, error) {
	f.Gets++
	if err := f.try("get", key); err != nil {
		return nil, err
	}
	return f.Store.Get(ctx, key)
}

// Put implements store.Store.
func (f *Failing) Put(
	ctx context.Context, key string, o *store.Object, if_ store.Condition,
) error {
	if err := f.try("put", key); err != nil {
		return err
	}
	return f.Store.Put(ctx, key, o, if_)
}

// Delete implements store.Store.
func (f *Failing) Delete(ctx context.Context, key string) error {
	if err := f.try("delete", key); err != nil {
		return err
	}
	return f.Store.Delete(ctx, key)
}
