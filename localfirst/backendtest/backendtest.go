// Package backendtest is the suite that every store of an app's values passes, as package
// localfirst has them: localfirst.ValueBackend and what a store may be beside that.
//
// What belongs here: the rules of those interfaces as tests. What never belongs here: what only one
// store promises.
//
// Start at [Run].
package backendtest

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/skerry-sync/skerry/localfirst"
)

// Config says what is tested.
type Config[T any] struct {
	// Open returns an empty store. It stays open until the test ends.
	Open func(t testing.TB) localfirst.ValueBackend[T]
	// Value returns one value for each number from 0 on. No two are equal.
	Value func(n int) T
	// Equal reports whether two values are the same to the store.
	Equal func(a, b T) bool
}

// Run tests a store, with the optional interfaces that it implements.
func Run[T any](t *testing.T, c Config[T]) {
	t.Run("values", c.testValues)
	t.Run("keys of all sorts", c.testKeys)
	_, conditional := c.Open(t).(localfirst.ConditionalValueBackend[T])
	_, deleting := c.Open(t).(localfirst.DeletingBackend[T])
	_, changing := c.Open(t).(localfirst.ChangingBackend[T])
	if conditional {
		t.Run("set if current", c.testSetIfCurrent)
		t.Run("one of many sets", c.testContention)
	}
	if deleting {
		t.Run("delete if current", c.testDelete)
	}
	if conditional && deleting {
		t.Run("set or delete", c.testSetOrDelete)
	}
	if changing {
		t.Run("changes", c.testChanges)
		t.Run("changes of all sorts of keys", c.testChangesOfKeys)
		t.Run("changes while many write", c.testChangesMeanwhile)
	}
}

// is checks what a store holds, by each of the ways to ask it.
func (c Config[T]) is(t testing.TB, b localfirst.ValueBackend[T], want map[string]T) {
	t.Helper()
	ctx := t.Context()
	all, err := b.Snapshot(ctx)
	require.NoError(t, err)
	require.True(t, maps.EqualFunc(want, all, c.Equal), "want %v, got %v", want, all)
	keys, err := b.Keys(ctx)
	require.NoError(t, err)
	in := map[string]bool{}
	for _, k := range keys {
		in[k] = true
	}
	for k, v := range want {
		require.True(t, in[k], "key %q is not in the scope", k)
		got, err := b.Get(ctx, k)
		require.NoError(t, err, "key %q", k)
		require.True(t, c.Equal(v, got), "key %q: want %v, got %v", k, v, got)
	}
}

func (c Config[T]) gone(t testing.TB, b localfirst.ValueBackend[T], key string) {
	t.Helper()
	_, err := b.Get(t.Context(), key)
	require.ErrorIs(t, err, localfirst.ErrNotFound)
}

func (c Config[T]) testValues(t *testing.T) {
	b, ctx := c.Open(t), t.Context()
	c.is(t, b, nil)
	c.gone(t, b, "a")
	keys, err := b.Keys(ctx)
	require.NoError(t, err)
	require.Empty(t, keys)
	want := map[string]T{}
	for n := range 20 {
		key := string(rune('a' + n%7))
		want[key] = c.Value(n)
		require.NoError(t, b.Set(ctx, key, want[key]))
		got, err := b.Get(ctx, key)
		require.NoError(t, err)
		require.True(t, c.Equal(want[key], got))
	}
	c.is(t, b, want)
	c.gone(t, b, "z")

	// What was given out is not changed by what is written later, nor by whoever has it.
	all, err := b.Snapshot(ctx)
	require.NoError(t, err)
	require.NoError(t, b.Set(ctx, "a", c.Value(100)))
	require.True(t, c.Equal(want["a"], all["a"]))
	clear(all)
	want["a"] = c.Value(100)
	c.is(t, b, want)
}

// Keys are keys that some store may take for others, or refuse.
func Keys() []string {
	return []string{
		"", " ", "a", "A", "a ", " a", "a.", ".a", ".", "..", "../a", "/", "/a", "a/b", "a//b", `a\b`,
		"a:b", "con", "CON", "con.txt", "aux", "nul", "lpt1", "com1.a", "%", "%41", "%2f", "^", "^a", "~",
		"a~", "-", "--", "*", "?", `"`, "'", "`", "a;b", "$1", "\x00", "a\x00b", "\n", "a\r\n", "\x7f",
		"é", "e\u0301", "É", "ß", "ss", "İ", "i", "I", "ı", "K", "k", "\u202e", "\ufeff", "\ufffd",
		"日本", "🏝", "0", "00", "1e0", "1", "1.0", "null", "true", ".new-1", "a.json", "a.tmp",
		strings.Repeat("x", 255), strings.Repeat("x", 256), strings.Repeat("X", 300),
		strings.Repeat("/", localfirst.MaxKey), strings.Repeat("y", localfirst.MaxKey),
		strings.Repeat("é", localfirst.MaxKey/2),
	}
}

func (c Config[T]) testKeys(t *testing.T) {
	b := c.Open(t)
	want := map[string]T{}
	for n, key := range Keys() {
		c.gone(t, b, key)
		want[key] = c.Value(n)
		require.NoError(t, b.Set(t.Context(), key, want[key]), "key %q", key)
	}
	c.is(t, b, want)
	d, ok := b.(localfirst.DeletingBackend[T])
	if !ok {
		return
	}
	for n, key := range Keys() {
		done, err := d.DeleteIfCurrent(t.Context(), key, want[key])
		require.NoError(t, err, "key %q", key)
		require.True(t, done, "key %q", key)
		c.gone(t, b, key)
		delete(want, key)
		if n%16 == 0 {
			c.is(t, b, want)
		}
	}
	c.is(t, b, nil)
}

func (c Config[T]) testSetIfCurrent(t *testing.T) {
	b := c.Open(t).(localfirst.ConditionalValueBackend[T])
	var none T
	set := func(current T, found bool, v T, want bool) {
		t.Helper()
		done, err := b.SetIfCurrent(t.Context(), "a", current, found, v)
		require.NoError(t, err)
		require.Equal(t, want, done)
	}
	set(c.Value(0), true, c.Value(1), false)
	c.is(t, b, nil)
	set(none, false, c.Value(1), true)
	set(none, false, c.Value(2), false)
	set(c.Value(2), true, c.Value(3), false)
	c.is(t, b, map[string]T{"a": c.Value(1)})
	set(c.Value(1), true, c.Value(2), true)
	set(c.Value(2), true, c.Value(2), true)
	c.is(t, b, map[string]T{"a": c.Value(2)})
	require.NoError(t, b.Set(t.Context(), "b", c.Value(2)))
	set(c.Value(2), true, c.Value(3), true)
	c.is(t, b, map[string]T{"a": c.Value(3), "b": c.Value(2)})

	// What Get gives is current, whatever the store makes of values.
	v, err := b.Get(t.Context(), "a")
	require.NoError(t, err)
	set(v, true, c.Value(4), true)
}

// Of all that go on from one value, one is done.
func (c Config[T]) testContention(t *testing.T) {
	b := c.Open(t).(localfirst.ConditionalValueBackend[T])
	const goroutines, times = 4, 10
	var g errgroup.Group
	ctx := t.Context()
	require.NoError(t, b.Set(ctx, "count", c.Value(0)))
	for range goroutines {
		g.Go(func() error {
			for range times {
				if err := c.increment(ctx, b, goroutines*times); err != nil {
					return err
				}
			}
			return nil
		})
	}
	require.NoError(t, g.Wait())
	c.is(t, b, map[string]T{"count": c.Value(goroutines * times)})
}

// increment goes on from the n-th value to the next.
func (c Config[T]) increment(
	ctx context.Context, b localfirst.ConditionalValueBackend[T], most int,
) error {
	for {
		now, err := b.Get(ctx, "count")
		if err != nil {
			return err
		}
		n := 0
		for n < most && !c.Equal(now, c.Value(n)) {
			n++
		}
		if n == most {
			return fmt.Errorf("the store has %v, which nobody wrote", now)
		}
		done, err := b.SetIfCurrent(ctx, "count", now, true, c.Value(n+1))
		if err != nil || done {
			return err
		}
	}
}

func (c Config[T]) testDelete(t *testing.T) {
	b := c.Open(t).(localfirst.DeletingBackend[T])
	ctx := t.Context()
	_, err := b.DeleteIfCurrent(ctx, "a", c.Value(0))
	require.NoError(t, err, "there is none")
	require.NoError(t, b.Set(ctx, "a", c.Value(1)))
	require.NoError(t, b.Set(ctx, "b", c.Value(1)))
	done, err := b.DeleteIfCurrent(ctx, "a", c.Value(0))
	require.NoError(t, err)
	require.False(t, done)
	c.is(t, b, map[string]T{"a": c.Value(1), "b": c.Value(1)})
	done, err = b.DeleteIfCurrent(ctx, "a", c.Value(1))
	require.NoError(t, err)
	require.True(t, done)
	c.is(t, b, map[string]T{"b": c.Value(1)})
	require.NoError(t, b.Set(ctx, "a", c.Value(2)))
	c.is(t, b, map[string]T{"a": c.Value(2), "b": c.Value(1)})
}

// Of a set and a deletion of the same value, one is done.
func (c Config[T]) testSetOrDelete(t *testing.T) {
	b := c.Open(t)
	set := b.(localfirst.ConditionalValueBackend[T])
	del := b.(localfirst.DeletingBackend[T])
	ctx := t.Context()
	want := map[string]T{}
	for n := range 20 {
		key := fmt.Sprint(n)
		require.NoError(t, b.Set(ctx, key, c.Value(0)))
		var g errgroup.Group
		var isSet, isDeleted bool
		g.Go(func() (err error) {
			isSet, err = set.SetIfCurrent(ctx, key, c.Value(0), true, c.Value(1))
			return err
		})
		g.Go(func() (err error) {
			isDeleted, err = del.DeleteIfCurrent(ctx, key, c.Value(0))
			return err
		})
		require.NoError(t, g.Wait())
		require.NotEqual(t, isSet, isDeleted)
		if isSet {
			want[key] = c.Value(1)
		}
	}
	c.is(t, b, want)
}
