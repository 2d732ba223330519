package backendtest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/skerry-sync/skerry/localfirst"
)

// follower is what an engine knows of a store by its changes.
type follower[T any] struct {
	token string
	has   map[string]T
}

func (f *follower[T]) follow(ctx context.Context, b localfirst.ChangingBackend[T]) (int, error) {
	x, err := b.ChangesSince(ctx, f.token)
	if err != nil {
		return 0, err
	}
	if len(x.Next) > localfirst.MaxToken || x.Next == "" {
		return 0, fmt.Errorf("token %q", x.Next)
	}
	if x.All || f.has == nil {
		if !x.All {
			return 0, fmt.Errorf("not all values with an empty token")
		}
		f.has = map[string]T{}
	}
	maps.Copy(f.has, x.Values)
	for _, k := range x.Gone {
		if _, both := x.Values[k]; both {
			return 0, fmt.Errorf("key %q is said to be here and gone", k)
		}
		delete(f.has, k)
	}
	f.token = x.Next
	return len(x.Values) + len(x.Gone), nil
}

func (c Config[T]) follows(
	t testing.TB, f *follower[T], b localfirst.ChangingBackend[T], want map[string]T,
) (changes int) {
	t.Helper()
	n, err := f.follow(t.Context(), b)
	require.NoError(t, err)
	require.True(t, maps.EqualFunc(want, f.has, c.Equal), "want %v, got %v", want, f.has)
	return n
}

func (c Config[T]) testChanges(t *testing.T) {
	b, ctx := c.Open(t).(localfirst.ChangingBackend[T]), t.Context()
	del, deletes := any(b).(localfirst.DeletingBackend[T])
	want := map[string]T{}
	f := &follower[T]{}
	c.follows(t, f, b, want)
	old := []follower[T]{{}, {token: "nonsense"}}
	for n := range 60 {
		key := fmt.Sprint(n * 7 % 13)
		if v, has := want[key]; has && deletes && n%3 == 0 {
			done, err := del.DeleteIfCurrent(ctx, key, v)
			require.NoError(t, err)
			require.True(t, done)
			delete(want, key)
		} else {
			want[key] = c.Value(n)
			require.NoError(t, b.Set(ctx, key, want[key]))
		}
		if n%4 == 1 {
			old = append(old, follower[T]{f.token, maps.Clone(f.has)})
			require.LessOrEqual(t, c.follows(t, f, b, want), 4)
			require.Zero(t, c.follows(t, f, b, want), "nothing has changed since")
		}
	}
	// Old tokens are as good as new ones, also the second time.
	for _, o := range slices.Concat(old, old) {
		c.follows(t, &o, b, want)
	}
	for _, bad := range []string{"nonsense", " ", "0", "-1", f.token + "0", f.token[1:], "\x00"} {
		x, err := b.ChangesSince(ctx, bad)
		require.NoError(t, err, "token %q", bad)
		require.True(t, x.All, "token %q", bad)
		require.True(t, maps.EqualFunc(want, x.Values, c.Equal))
	}
	other := c.Open(t).(localfirst.ChangingBackend[T])
	for n := range 70 { // it has counted further
		require.NoError(t, other.Set(ctx, "a", c.Value(n)))
	}
	x, err := other.ChangesSince(ctx, f.token)
	require.NoError(t, err)
	require.True(t, x.All, "the token of another store")
	require.True(t, maps.EqualFunc(map[string]T{"a": c.Value(69)}, x.Values, c.Equal))
}

func (c Config[T]) testChangesOfKeys(t *testing.T) {
	b := c.Open(t).(localfirst.ChangingBackend[T])
	f := &follower[T]{}
	want := map[string]T{}
	c.follows(t, f, b, want)
	for n, key := range Keys() {
		want[key] = c.Value(n)
		require.NoError(t, b.Set(t.Context(), key, want[key]))
	}
	c.follows(t, f, b, want)
}

// Whoever follows a store while many write has everything in the end.
func (c Config[T]) testChangesMeanwhile(t *testing.T) {
	b, ctx := c.Open(t).(localfirst.ChangingBackend[T]), t.Context()
	f := &follower[T]{}
	var g, reader errgroup.Group
	for w := range 3 {
		g.Go(func() error {
			for n := range 30 {
				if err := b.Set(ctx, fmt.Sprint(w, n%10), c.Value(n)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	end := make(chan struct{})
	reader.Go(func() error {
		for {
			if _, err := f.follow(ctx, b); err != nil {
				return err
			}
			select {
			case <-end:
				return nil
			default:
			}
		}
	})
	err := g.Wait()
	close(end)
	require.NoError(t, err)
	require.NoError(t, reader.Wait())
	want, err := b.Snapshot(ctx)
	require.NoError(t, err)
	require.Len(t, want, 30)
	c.follows(t, f, b, want)
}
