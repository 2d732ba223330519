package localfirst

import (
	"context"
	"errors"
	"fmt"

	"github.com/skerry-sync/skerry/internal/fault"
	"github.com/skerry-sync/skerry/internal/kind"
)

// CollectionConfig says what a collection's values are and where the app keeps them. Codec, Merge
// and Backend must be given.
type CollectionConfig[T any] struct {
	Codec   Codec[T]
	Merge   MergeFunc[T]
	Backend ValueBackend[T]
	// IsDefault reports a value that the app puts in its store by itself: it is not published where
	// others have none, and gives way to theirs.
	IsDefault func(key string, value T) bool
	// HoldConflicts has a value that conflicts stay on this device alone, until somebody resolves the
	// conflict. Otherwise it is published beside the others, so that it is in more than one place.
	HoldConflicts bool
	// Schema is the version of the form that values have. Items of a greater one are left as they are,
	// and listed, until the app is newer.
	Schema uint64
}

// Collection is a collection of typed values.
type Collection[T any] struct {
	*collection
	v *typed[T]
}

// OpenCollection opens a collection of a namespace. Collections are opened before Run begins. Each
// device gives a collection the same name, codec and merge.
func OpenCollection[T any](
	ns *Namespace, name string, c CollectionConfig[T],
) (*Collection[T], error) {
	switch {
	case name == "" || len(name) > MaxCollection:
		return nil, fmt.Errorf("collection %.64q: %w: a name has 1 to %d bytes", name, ErrUsage,
			MaxCollection)
	case checkKey(name) != nil:
		return nil, fmt.Errorf("collection %.64q: %w: a name is UTF-8", name, ErrUsage)
	case c.Codec == nil || c.Merge == nil || c.Backend == nil:
		return nil, fmt.Errorf("collection %q: %w: it needs a codec, a merge function and a backend",
			name, ErrUsage)
	}
	v := &typed[T]{cfg: c}
	of := &collection{ns: ns, name: name, v: v, hold: c.HoldConflicts, schema: c.Schema}
	if err := ns.add(of); err != nil {
		return nil, err
	}
	return &Collection[T]{of, v}, nil
}

// ErrUsage reports a call that cannot be meant.
var ErrUsage = kind.New(kind.Usage, "that is not how it is used")

// values are those of a collection as the codec encodes them. token is what a value is to the app's
// store.
type values interface {
	keys(ctx context.Context) ([]string, error)
	// snapshot calls each with values of the app's store: those that have changed since a token was
	// given, if the store can tell, or all.
	snapshot(
		ctx context.Context, token string, each func(key string, encode func() ([]byte, error)) error,
	) (told, error)
	get(ctx context.Context, key string) (v current, err error)
	// set reports whether the app's store still held v.
	set(ctx context.Context, key string, v current, encoded []byte) (done bool, err error)
	// drop is set for a deletion; errNoDelete if the app's store cannot.
	drop(ctx context.Context, key string, v current) (done bool, err error)
	merge(key string, base, local, remote []byte) (merged []byte, resolved bool, err error)
	isDefault(key string, v current) bool
	check(encoded []byte) error
}

// told is what a snapshot says besides values.
type told struct {
	all  bool     // there are no other values
	gone []string // keys whose values are gone, if not all
	next string   // the token for the next snapshot; empty if that reads all
}

// current is what the app's store holds of a key.
type current struct {
	found   bool
	encoded []byte
	value   any
}

// errNoDelete reports an app's store that deletes nothing.
var errNoDelete = errors.New("the app's store deletes nothing")

// typed implements values. What the app's functions do wrong, panics included, is an error.
type typed[T any] struct{ cfg CollectionConfig[T] }

func (t *typed[T]) encode(v T) (b []byte, err error) {
	err = fault.Call(func() (err error) {
		b, err = t.cfg.Codec.Encode(v)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("encoding: %w", err)
	}
	if b == nil {
		b = []byte{}
	}
	return b, nil
}

func (t *typed[T]) decode(b []byte) (v T, err error) {
	err = fault.Call(func() (err error) {
		v, err = t.cfg.Codec.Decode(b)
		return err
	})
	if err != nil {
		return v, fmt.Errorf("decoding: %w", err)
	}
	return v, nil
}

func (t *typed[T]) check(encoded []byte) error {
	_, err := t.decode(encoded)
	return err
}

func (t *typed[T]) keys(ctx context.Context) (all []string, err error) {
	err = fault.Call(func() (err error) {
		all, err = t.cfg.Backend.Keys(ctx)
		return err
	})
	return all, err
}

func (t *typed[T]) snapshot(
	ctx context.Context, token string, each func(key string, encode func() ([]byte, error)) error,
) (x told, err error) {
	var some map[string]T
	err = fault.Call(func() (err error) {
		if b, ok := t.cfg.Backend.(ChangingBackend[T]); ok {
			var c Changes[T]
			c, err = b.ChangesSince(ctx, token)
			if err == nil && len(c.Next) > MaxToken {
				err = fmt.Errorf("a token of %d bytes, at most %d", len(c.Next), MaxToken)
			}
			some, x = c.Values, told{c.All || token == "", c.Gone, c.Next}
			return err
		}
		x.all = true
		some, err = t.cfg.Backend.Snapshot(ctx)
		return err
	})
	if err != nil {
		return x, err
	}
	for _, key := range sortedKeys(some) {
		if err := each(key, func() ([]byte, error) { return t.encode(some[key]) }); err != nil {
			return x, err
		}
	}
	return x, nil
}

func (t *typed[T]) get(ctx context.Context, key string) (c current, err error) {
	var v T
	err = fault.Call(func() (err error) {
		v, err = t.cfg.Backend.Get(ctx, key)
		return err
	})
	if isNotFound(err) {
		var none T
		return current{value: none}, nil
	}
	if err != nil {
		return c, err
	}
	c.found, c.value = true, v
	c.encoded, err = t.encode(v)
	return c, err
}

func (t *typed[T]) set(
	ctx context.Context, key string, c current, encoded []byte,
) (done bool, err error) {
	v, err := t.decode(encoded)
	if err != nil {
		return false, err
	}
	err = fault.Call(func() (err error) {
		if b, ok := t.cfg.Backend.(ConditionalValueBackend[T]); ok {
			done, err = b.SetIfCurrent(ctx, key, c.value.(T), c.found, v)
			return err
		}
		done = true
		return t.cfg.Backend.Set(ctx, key, v)
	})
	return done, err
}

func (t *typed[T]) drop(ctx context.Context, key string, c current) (done bool, err error) {
	b, ok := t.cfg.Backend.(DeletingBackend[T])
	if !ok {
		return false, errNoDelete
	}
	err = fault.Call(func() (err error) {
		done, err = b.DeleteIfCurrent(ctx, key, c.value.(T))
		return err
	})
	return done, err
}

func (t *typed[T]) isDefault(key string, c current) (is bool) {
	if t.cfg.IsDefault == nil || !c.found {
		return false
	}
	err := fault.Call(func() error {
		is = t.cfg.IsDefault(key, c.value.(T))
		return nil
	})
	return is && err == nil
}

// Errors of merge functions.
var (
	// ErrMergePanic reports a merge function that has panicked.
	ErrMergePanic = errors.New("the merge function has panicked")
	// ErrMergeDiffers reports a merge function that has given two results for the same values.
	ErrMergeDiffers = errors.New("the merge function gives different results for the same values")
)

func (t *typed[T]) merge(
	key string, base, local, remote []byte,
) (merged []byte, resolved bool, err error) {
	merged, resolved, err = t.mergeOnce(key, base, local, remote)
	if err != nil || !resolved {
		return nil, false, err
	}
	again, resolved, err := t.mergeOnce(key, base, local, remote)
	if err != nil || !resolved || string(again) != string(merged) {
		return nil, false, errors.Join(ErrMergeDiffers, err)
	}
	return merged, true, nil
}

func (t *typed[T]) mergeOnce(
	key string, base, local, remote []byte,
) (merged []byte, resolved bool, err error) {
	l, err := t.decode(local)
	if err != nil {
		return nil, false, err
	}
	r, err := t.decode(remote)
	if err != nil {
		return nil, false, err
	}
	var b *T
	if base != nil {
		v, err := t.decode(base)
		if err != nil {
			return nil, false, err
		}
		b = &v
	}
	var out T
	err = fault.Call(func() (err error) {
		out, resolved, err = t.cfg.Merge(key, b, l, r)
		return err
	})
	if _, panicked := errors.AsType[*fault.Error](err); panicked {
		err = fmt.Errorf("%w: %w", ErrMergePanic, err)
	}
	if err != nil || !resolved {
		return nil, false, err
	}
	merged, err = t.encode(out)
	return merged, err == nil, err
}
