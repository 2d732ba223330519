package storetest

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/localfirst"
)

// A Scan yields what was there when it began. What is called in its loop sees what is there now.
func testScanWhileApplied(t *testing.T, s localfirst.Store) {
	ctx := t.Context()
	var batch []localfirst.Record
	for i := range 1000 {
		batch = append(batch, item("c", fmt.Sprintf("%04d", i), []byte("old")))
	}
	apply(t, s, batch...)
	n := 0
	for r, err := range s.Scan(ctx, localfirst.ItemRecord, "ns", "c") {
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf("%04d", n), r.Key)
		require.Equal(t, "old", string(r.Value))
		if n%100 == 0 {
			apply(t, s,
				item("c", fmt.Sprintf("%04d", n+50), nil),
				item("c", fmt.Sprintf("%04d", n+60), []byte("new")),
				item("c", fmt.Sprintf("%04d, more", n+70), []byte("new")),
			)
			_, err := s.Get(ctx, item("c", fmt.Sprintf("%04d", n+50), nil).Name)
			require.ErrorIs(t, err, localfirst.ErrNotFound)
			keys, values := scan(t, s, r.Name)
			require.Len(t, keys, 1000)
			require.Equal(t, "new", values[fmt.Sprintf("%04d", n+60)])
		}
		n++
	}
	require.Equal(t, 1000, n)
}

// A loop that is left early holds nothing back.
func testLeftScans(t *testing.T, s localfirst.Store) {
	apply(t, s, item("c", "a", []byte("1")), item("c", "b", []byte("1")))
	for range 100 {
		for _, err := range s.Scan(t.Context(), localfirst.ItemRecord, "ns", "c") {
			require.NoError(t, err)
			break
		}
	}
	all := s.Scan(t.Context(), localfirst.ItemRecord, "ns", "c")
	// One Scan can be gone through again, and sees what is there then.
	for want := 2; want < 5; want++ {
		n := 0
		for _, err := range all {
			require.NoError(t, err)
			n++
		}
		require.Equal(t, want, n)
		apply(t, s, item("c", fmt.Sprint(want), []byte("1")))
	}
}

func testNothingShared(t *testing.T, s localfirst.Store) {
	value := []byte("value")
	r := item("c", "k", value)
	apply(t, s, r)
	value[0] = 'V'
	b, err := s.Get(t.Context(), r.Name)
	require.NoError(t, err)
	require.Equal(t, "value", string(b))
	b[0] = 'W'
	for r, err := range s.Scan(t.Context(), localfirst.ItemRecord, "ns", "c") {
		require.NoError(t, err)
		require.Equal(t, "value", string(r.Value))
	}
	b, err = s.Get(t.Context(), r.Name)
	require.NoError(t, err)
	require.Equal(t, "value", string(b))
}

func testForget(t *testing.T, s localfirst.Store) {
	gone, kept := map[localfirst.Name]bool{}, map[localfirst.Name]bool{}
	for _, kind := range []localfirst.Kind{
		localfirst.SecretRecord, localfirst.NamespaceRecord, localfirst.ItemRecord, "secrets", "secre",
	} {
		for _, who := range []string{"alice", "alic", "alice\x00", "alicea", "Alice", "", "%"} {
			for _, collection := range []string{"", "c"} {
				for _, key := range []string{"", "k", "alice"} {
					n := localfirst.Name{Kind: kind, Namespace: who, Collection: collection, Key: key}
					apply(t, s, localfirst.Record{Name: n, Value: []byte("v")})
					if kind == localfirst.SecretRecord && who == "alice" {
						gone[n] = true
					} else {
						kept[n] = true
					}
				}
			}
		}
	}
	for range 2 { // the second time, there is nothing to forget
		require.NoError(t, s.ForgetIdentitySecrets(t.Context(), "alice"))
		for n := range gone {
			_, err := s.Get(t.Context(), n)
			require.ErrorIs(t, err, localfirst.ErrNotFound, n)
			keys, _ := scan(t, s, n)
			require.Empty(t, keys)
		}
		for n := range kept {
			_, err := s.Get(t.Context(), n)
			require.NoError(t, err, n)
		}
	}
	var many []localfirst.Record
	for i := range 3000 {
		n := localfirst.Name{Kind: localfirst.SecretRecord, Namespace: "bob", Key: fmt.Sprint(i)}
		many = append(many, localfirst.Record{Name: n, Value: []byte("v")})
	}
	apply(t, s, many...)
	require.NoError(t, s.ForgetIdentitySecrets(t.Context(), "bob"))
	keys, _ := scan(t, s, many[0].Name)
	require.Empty(t, keys)
}

// Of batches of several writers to the same records, readers see whole ones.
func testConcurrent(t *testing.T, s localfirst.Store) {
	const writers, readers, width = 4, 4, 20
	rounds := testkit.Few(50, 10)
	batch := func(what string) (all []localfirst.Record) {
		for i := range width {
			all = append(all, item("c", fmt.Sprintf("%02d", i), []byte(what)))
		}
		return all
	}
	apply(t, s, batch("first")...)
	g, ctx := errgroup.WithContext(t.Context())
	for w := range writers {
		g.Go(func() error {
			for i := range rounds {
				if err := s.Apply(ctx, batch(fmt.Sprint(w, i))); err != nil {
					return err
				}
				own := item("own", fmt.Sprint(w), []byte(fmt.Sprint(i)))
				if err := s.Apply(ctx, []localfirst.Record{own}); err != nil {
					return err
				}
				b, err := s.Get(ctx, own.Name)
				if err != nil || string(b) != string(own.Value) {
					return fmt.Errorf("wrote %s and read %s: %w", own.Value, b, err)
				}
			}
			return nil
		})
	}
	for range readers {
		g.Go(func() error {
			for range rounds {
				if err := whole(ctx, s, width); err != nil {
					return err
				}
			}
			return nil
		})
	}
	require.NoError(t, g.Wait())
	require.NoError(t, whole(t.Context(), s, width))
	_, values := scan(t, s, item("own", "", nil).Name)
	for w := range writers {
		require.Equal(t, fmt.Sprint(rounds-1), values[fmt.Sprint(w)])
	}
}

// whole returns an error unless there are so many records, of one batch.
func whole(ctx context.Context, s localfirst.Store, width int) error {
	n, first := 0, ""
	for r, err := range s.Scan(ctx, localfirst.ItemRecord, "ns", "c") {
		if err != nil {
			return err
		}
		if n++; n == 1 {
			first = string(r.Value)
		}
		if string(r.Value) != first {
			return fmt.Errorf("a part of batch %q, and one of %q", first, r.Value)
		}
	}
	if n != width {
		return fmt.Errorf("%d records, not %d", n, width)
	}
	return nil
}

// What is not applied because nobody waits for it is not applied in part, and the store goes on.
func testEnded(t *testing.T, s localfirst.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := s.Apply(ctx, []localfirst.Record{item("c", "a", []byte("1")), item("c", "b", []byte("1"))})
	keys, _ := scan(t, s, item("c", "", nil).Name)
	if err == nil {
		require.Len(t, keys, 2)
	} else {
		require.ErrorIs(t, err, context.Canceled)
		require.Empty(t, keys)
	}
	for _, err := range s.Scan(ctx, localfirst.ItemRecord, "ns", "c") {
		require.True(t, err == nil || errors.Is(err, context.Canceled), err)
	}
	apply(t, s, item("c", "c", []byte("1")))
	_, err = s.Get(t.Context(), item("c", "c", nil).Name)
	require.NoError(t, err)
}
