package localfirst

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/skerry-sync/skerry/internal/kind"
)

// ErrNotFound reports a value that a store does not have.
var ErrNotFound = kind.New(kind.NotFound, "there is no such value")

// ValueBackend is where an app keeps the values of a collection. Its methods may be called at the
// same time. Keys are the collection's own, UTF-8 of at most MaxKey bytes.
type ValueBackend[T any] interface {
	// Keys returns the active scope: all keys of which values are here, or may be elsewhere and are
	// wanted here. It returns all of them on each call. Others are neither published nor applied.
	Keys(ctx context.Context) ([]string, error)
	// Get returns a value, or ErrNotFound.
	Get(ctx context.Context, key string) (T, error)
	// Set puts a value in the place of another, or of none. A Get that begins afterwards gives it.
	Set(ctx context.Context, key string, value T) error
	// Snapshot returns all values that are here, at one moment if the app can. It is called at the
	// start of each pass.
	Snapshot(ctx context.Context) (map[string]T, error)
}

// ConditionalValueBackend is a ValueBackend whose values may be written while a pass runs: every
// store of an app. Without it, what the app writes between two calls of the engine can be lost.
type ConditionalValueBackend[T any] interface {
	ValueBackend[T]
	// SetIfCurrent is Set if the value is current still, or none is there if found is false; it
	// compares and replaces under the lock, or in the transaction, that the app's own writes take. It
	// reports whether it did.
	SetIfCurrent(
		ctx context.Context, key string, current T, found bool, value T,
	) (done bool, err error)
}

// DeletingBackend is a ValueBackend that can delete values. Without it, what others have deleted
// stays here, and is not published again.
type DeletingBackend[T any] interface {
	ValueBackend[T]
	// DeleteIfCurrent deletes a value if it is current still, and reports whether it did. It is not
	// an error if there is none.
	DeleteIfCurrent(ctx context.Context, key string, current T) (done bool, err error)
}

// MemoryValueBackend keeps values in memory: for tests, demonstrations and tools that run shortly.
type MemoryValueBackend[T any] struct {
	mu     sync.Mutex
	equal  func(a, b T) bool
	values map[string]T
	wanted map[string]bool
}

// NewMemoryValueBackend returns an empty one whose values are compared with equal. Values must not
// be changed once they are in it.
func NewMemoryValueBackend[T any](equal func(a, b T) bool) *MemoryValueBackend[T] {
	return &MemoryValueBackend[T]{
		equal: equal, values: map[string]T{}, wanted: map[string]bool{},
	}
}

// Want adds keys to the scope, of which no values need to be here.
func (b *MemoryValueBackend[T]) Want(keys ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, k := range keys {
		b.wanted[k] = true
	}
}

// Forget takes keys out of the scope, and their values out of the store.
func (b *MemoryValueBackend[T]) Forget(keys ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, k := range keys {
		delete(b.wanted, k)
		delete(b.values, k)
	}
}

// Keys implements ValueBackend: the keys of all values, and those that are wanted.
func (b *MemoryValueBackend[T]) Keys(context.Context) ([]string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := maps.Clone(b.wanted)
	for k := range b.values {
		all[k] = true
	}
	return slices.Collect(maps.Keys(all)), nil
}

// Get implements ValueBackend.
func (b *MemoryValueBackend[T]) Get(_ context.Context, key string) (v T, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	v, ok := b.values[key]
	if !ok {
		return v, fmt.Errorf("key %q: %w", key, ErrNotFound)
	}
	return v, nil
}

// Set implements ValueBackend.
func (b *MemoryValueBackend[T]) Set(_ context.Context, key string, value T) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.values[key] = value
	b.wanted[key] = true
	return nil
}

// Delete deletes a value, as an app does. Its key stays in the scope.
func (b *MemoryValueBackend[T]) Delete(key string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.values, key)
}

// Snapshot implements ValueBackend.
func (b *MemoryValueBackend[T]) Snapshot(context.Context) (map[string]T, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.values), nil
}

// SetIfCurrent implements ConditionalValueBackend.
func (b *MemoryValueBackend[T]) SetIfCurrent(
	_ context.Context, key string, current T, found bool, value T,
) (bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.is(key, current, found) {
		return false, nil
	}
	b.values[key] = value
	b.wanted[key] = true
	return true, nil
}

func (b *MemoryValueBackend[T]) is(key string, current T, found bool) bool {
	now, ok := b.values[key]
	return ok == found && (!ok || b.equal(now, current))
}

// DeleteIfCurrent implements DeletingBackend.
func (b *MemoryValueBackend[T]) DeleteIfCurrent(
	_ context.Context, key string, current T,
) (bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.values[key]; !ok {
		return true, nil
	}
	if !b.is(key, current, true) {
		return false, nil
	}
	delete(b.values, key)
	return true, nil
}

// isNotFound reports whether a store has no value.
func isNotFound(err error) bool { return errors.Is(err, ErrNotFound) }
