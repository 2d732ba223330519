package localfirst

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
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

// ChangingBackend is a ValueBackend that knows what has changed, so that a pass need not read all
// values. A pass calls ChangesSince in the place of Snapshot.
type ChangingBackend[T any] interface {
	ValueBackend[T]
	// ChangesSince returns what has changed since an earlier call, of which token is Changes.Next. An
	// empty token is for the first call. Its rules:
	//
	//   - Whatever is written and not in the result is in that of the next call: no change is passed
	//     over, also one that is made while the call runs, and of a transaction that ends later. A
	//     change may come twice.
	//   - A token stays good when the app is started anew, and may be given more than once, since a
	//     pass may fail. The engine keeps it; it has at most MaxToken bytes.
	//   - With a token that is empty, or that the store does not know, the result is all values. Such
	//     a token is one that is too old, of another store, or given before the store was restored from
	//     a backup: a number that only counts does not show that, and is no token.
	ChangesSince(ctx context.Context, token string) (Changes[T], error)
}

// MaxToken is the most bytes of a token for ChangesSince.
const MaxToken = 256

// Changes is what ChangesSince returns.
type Changes[T any] struct {
	// All says that Values are all values that are here, and that Gone says nothing.
	All bool
	// Values are those that are new or have changed, by their keys.
	Values map[string]T
	// Gone are keys whose values have been deleted. There may be others of which no values were here.
	Gone []string
	// Next is for the next call.
	Next string
}

// MemoryValueBackend keeps values in memory: for tests, demonstrations and tools that run shortly.
type MemoryValueBackend[T any] struct {
	mu     sync.Mutex
	equal  func(a, b T) bool
	values map[string]T
	wanted map[string]bool
	log    changeLog
}

// NewMemoryValueBackend returns an empty one whose values are compared with equal. Values must not
// be changed once they are in it.
func NewMemoryValueBackend[T any](equal func(a, b T) bool) *MemoryValueBackend[T] {
	return &MemoryValueBackend[T]{
		equal: equal, values: map[string]T{}, wanted: map[string]bool{}, log: newChangeLog(),
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
		b.delete(k)
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
	b.put(key, value)
	return nil
}

func (b *MemoryValueBackend[T]) put(key string, value T) {
	b.values[key] = value
	b.wanted[key] = true
	b.log.note(key, len(b.values))
}

func (b *MemoryValueBackend[T]) delete(key string) {
	delete(b.values, key)
	b.log.note(key, len(b.values))
}

// Delete deletes a value, as an app does. Its key stays in the scope.
func (b *MemoryValueBackend[T]) Delete(key string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.delete(key)
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
	b.put(key, value)
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
	b.delete(key)
	return true, nil
}

// ChangesSince implements ChangingBackend.
func (b *MemoryValueBackend[T]) ChangesSince(_ context.Context, token string) (Changes[T], error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := Changes[T]{Next: b.log.token()}
	keys, known := b.log.since(token)
	if !known {
		c.All, c.Values = true, maps.Clone(b.values)
		return c, nil
	}
	c.Values = map[string]T{}
	for k := range keys {
		if v, ok := b.values[k]; ok {
			c.Values[k] = v
		} else {
			c.Gone = append(c.Gone, k)
		}
	}
	return c, nil
}

// changeLog notes which keys have changed, in order. It forgets the oldest changes when it has
// become longer than the store is large.
type changeLog struct {
	id        string // of this log alone
	forgotten int    // changes before those in keys
	keys      []string
}

func newChangeLog() changeLog { return changeLog{id: rand.Text()} }

// note notes a change in a store that has so many values.
func (l *changeLog) note(key string, values int) {
	const slack = 64
	if len(l.keys) >= 2*values+slack {
		n := len(l.keys) / 2
		l.forgotten += n
		l.keys = slices.Clone(l.keys[n:])
	}
	l.keys = append(l.keys, key)
}

func (l *changeLog) token() string { return fmt.Sprintf("%s %d", l.id, l.forgotten+len(l.keys)) }

// since returns the keys that have changed since a token was given; known is false if that cannot
// be told.
func (l *changeLog) since(token string) (keys map[string]bool, known bool) {
	id, at, _ := strings.Cut(token, " ")
	n, err := strconv.Atoi(at)
	if n -= l.forgotten; id != l.id || err != nil || n < 0 || n > len(l.keys) {
		return nil, false
	}
	keys = map[string]bool{}
	for _, k := range l.keys[n:] {
		keys[k] = true
	}
	return keys, true
}

// isNotFound reports whether a store has no value.
func isNotFound(err error) bool { return errors.Is(err, ErrNotFound) }
