// Package storetest is the suite that every localfirst.Store passes, and its benchmarks.
//
// What belongs here: the rules in the comment of localfirst.Store, one test for each. What never
// belongs here: how a store keeps its records, which its own package tests.
//
// Start at [Run].
package storetest

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/localfirst"
)

// Open opens the store that is kept in a directory, which is empty the first time, and returns what
// closes it.
type Open func(ctx context.Context, dir string) (s localfirst.Store, end func() error, err error)

// Run tests a store. Each test has an empty one.
func Run(t *testing.T, open Open) {
	for name, test := range map[string]func(*testing.T, localfirst.Store){
		"get what was applied":     testGet,
		"order of a scan":          testOrder,
		"names of any bytes":       testNames,
		"long keys":                testLongKeys,
		"a batch in its order":     testBatchOrder,
		"a batch that is refused":  testRefused,
		"large values":             testLarge,
		"many records":             testMany,
		"applied during a scan":    testScanWhileApplied,
		"scans that are left":      testLeftScans,
		"nothing is shared":        testNothingShared,
		"forgetting secrets":       testForget,
		"at the same time":         testConcurrent,
		"a context that has ended": testEnded,
	} {
		t.Run(name, func(t *testing.T) { test(t, opened(t, open, t.TempDir())) })
	}
}

func opened(t testing.TB, open Open, dir string) localfirst.Store {
	t.Helper()
	s, end, err := open(t.Context(), dir)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, end()) })
	return s
}

func item(collection, key string, value []byte) localfirst.Record {
	return localfirst.Record{
		Name: localfirst.Name{
			Kind: localfirst.ItemRecord, Namespace: "ns", Collection: collection, Key: key,
		},
		Value: value,
	}
}

func apply(t *testing.T, s localfirst.Store, all ...localfirst.Record) {
	t.Helper()
	require.NoError(t, s.Apply(t.Context(), all))
}

// scan returns what a Scan yields: its keys in order, and the values.
func scan(t *testing.T, s localfirst.Store, in localfirst.Name) ([]string, map[string]string) {
	t.Helper()
	var keys []string
	values := map[string]string{}
	for r, err := range s.Scan(t.Context(), in.Kind, in.Namespace, in.Collection) {
		require.NoError(t, err)
		require.Equal(t, localfirst.Name{
			Kind: in.Kind, Namespace: in.Namespace, Collection: in.Collection, Key: r.Key,
		}, r.Name)
		require.NotNil(t, r.Value)
		keys = append(keys, r.Key)
		values[r.Key] = string(r.Value)
	}
	return keys, values
}

func testGet(t *testing.T, s localfirst.Store) {
	ctx := t.Context()
	r := item("c", "k", []byte("v"))
	_, err := s.Get(ctx, r.Name)
	require.ErrorIs(t, err, localfirst.ErrNotFound)
	keys, _ := scan(t, s, r.Name)
	require.Empty(t, keys)
	require.NoError(t, s.Apply(ctx, nil))

	apply(t, s, r, item("c", "empty", []byte{}))
	b, err := s.Get(ctx, r.Name)
	require.NoError(t, err)
	require.Equal(t, "v", string(b))
	b, err = s.Get(ctx, item("c", "empty", nil).Name)
	require.NoError(t, err)
	require.Empty(t, b)

	apply(t, s, item("c", "k", []byte("w")))
	_, values := scan(t, s, r.Name)
	require.Equal(t, map[string]string{"k": "w", "empty": ""}, values)

	apply(t, s, item("c", "k", nil), item("c", "none", nil))
	_, err = s.Get(ctx, r.Name)
	require.ErrorIs(t, err, localfirst.ErrNotFound)
	keys, _ = scan(t, s, r.Name)
	require.Equal(t, []string{"empty"}, keys)
}

func testOrder(t *testing.T, s localfirst.Store) {
	want := []string{
		"", "\x00", "\x00\x00", "\x01", "A", "a", "a\x00", "a\x00b", "aa", "b", "ä", "\xff", "\xff\xff",
	}
	for i, key := range want { // not in their order
		key = want[i*5%len(want)]
		apply(t, s, item("c", key, []byte(key)))
	}
	keys, values := scan(t, s, item("c", "", nil).Name)
	require.Equal(t, want, keys)
	for key, value := range values {
		require.Equal(t, key, value)
	}
}

// Parts of names are parts, whatever bytes they hold: none can pass for those of another.
func testNames(t *testing.T, s localfirst.Store) {
	parts := []string{
		"", "a", "a\x00", "\x00a", "a/b", "'", "%", "_", "\xff", "\xc3\x28", "ä", "A",
		strings.Repeat("n", 255),
	}
	want := map[localfirst.Name]string{}
	for i, kind := range []localfirst.Kind{localfirst.ItemRecord, localfirst.NamespaceRecord} {
		for j, ns := range parts {
			var batch []localfirst.Record
			for k, collection := range parts {
				for l, key := range parts[:4] {
					n := localfirst.Name{Kind: kind, Namespace: ns, Collection: collection, Key: key}
					want[n] = fmt.Sprint(i, j, k, l)
					batch = append(batch, localfirst.Record{Name: n, Value: []byte(want[n])})
				}
			}
			apply(t, s, batch...)
		}
	}
	got := map[localfirst.Name]string{}
	for n := range want {
		if n.Key != "" {
			continue
		}
		_, values := scan(t, s, n)
		for key, value := range values {
			n.Key = key
			got[n] = value
		}
	}
	require.Equal(t, want, got)
	for n, value := range want {
		b, err := s.Get(t.Context(), n)
		require.NoError(t, err)
		require.Equal(t, value, string(b))
	}
}

// Keys that differ only far behind are different, and in their order.
func testLongKeys(t *testing.T, s localfirst.Store) {
	var want []string
	for _, n := range []int{900, 1023, 1024, 1025, 1055, 1056, 1057, 2000, 2048, 4095, 4096} {
		for _, end := range []string{"\x00", "a", "b", "\xff"} {
			want = append(want, strings.Repeat("k", n-1)+end)
		}
	}
	for _, n := range []int{1023, 1024, 4096} {
		want = append(want, strings.Repeat("k", n))
	}
	for i := range want {
		key := want[i*7%len(want)]
		apply(t, s, item("c", key, []byte(key)))
	}
	slices.Sort(want)
	keys, values := scan(t, s, item("c", "", nil).Name)
	require.Equal(t, slices.Compact(want), keys)
	for _, key := range want {
		require.Equal(t, key, values[key])
		b, err := s.Get(t.Context(), item("c", key, nil).Name)
		require.NoError(t, err)
		require.Equal(t, key, string(b))
	}
	for i, key := range want {
		if i%2 == 0 {
			apply(t, s, item("c", key, nil))
			delete(values, key)
		}
	}
	keys, _ = scan(t, s, item("c", "", nil).Name)
	require.Equal(t, slices.Sorted(maps.Keys(values)), keys)
}

func testBatchOrder(t *testing.T, s localfirst.Store) {
	apply(t, s, item("c", "old", []byte("1")))
	apply(t, s,
		item("c", "a", []byte("1")), item("c", "a", []byte("2")),
		item("c", "b", []byte("1")), item("c", "b", nil),
		item("c", "old", nil), item("c", "old", []byte("2")),
	)
	_, values := scan(t, s, item("c", "", nil).Name)
	require.Equal(t, map[string]string{"a": "2", "old": "2"}, values)
}

// Of a batch that is refused, nothing is there.
func testRefused(t *testing.T, s localfirst.Store) {
	long := strings.Repeat("n", 256)
	half := make([]byte, localfirst.MaxRecord)
	ns := localfirst.Name{Kind: localfirst.ItemRecord, Namespace: long}
	for name, bad := range map[string][]localfirst.Record{
		"value":      {item("c", "k", make([]byte, localfirst.MaxRecord+1))},
		"key":        {item("c", strings.Repeat("k", localfirst.MaxKey+1), []byte{})},
		"collection": {item(long, "k", []byte{})},
		"namespace":  {{Name: ns, Value: []byte{}}},
		"kind":       {{Name: localfirst.Name{Kind: localfirst.Kind(long)}, Value: []byte{}}},
		"batch":      {item("c", "k", half), item("c", "l", half)},
	} {
		err := s.Apply(t.Context(), append([]localfirst.Record{item("c", "good", []byte("v"))}, bad...))
		require.ErrorIs(t, err, localfirst.ErrTooLarge, name)
		_, err = s.Get(t.Context(), item("c", "good", nil).Name)
		require.ErrorIs(t, err, localfirst.ErrNotFound, name)
	}
}

func testLarge(t *testing.T, s localfirst.Store) {
	big := testkit.Random(1, localfirst.MaxRecord)
	longest := strings.Repeat("k", localfirst.MaxKey)
	apply(t, s, item("c", longest, big))
	other := testkit.Random(2, localfirst.MaxRecord-8192)
	apply(t, s, item("c", "a", big), item("c", "b", other))
	for key, want := range map[string][]byte{"a": big, "b": other, longest: big} {
		b, err := s.Get(t.Context(), item("c", key, nil).Name)
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, b), "key of %d bytes", len(key))
	}
	// The largest batches of the smallest records.
	var batch []localfirst.Record
	for size := 0; ; {
		r := item("many", fmt.Sprintf("%06d", len(batch)), []byte{1})
		if size += r.Size(); size > localfirst.MaxBatch {
			break
		}
		batch = append(batch, r)
	}
	apply(t, s, batch...)
	keys, _ := scan(t, s, item("many", "", nil).Name)
	require.Len(t, keys, len(batch))
	for i := range batch {
		batch[i].Value = nil
	}
	apply(t, s, batch...)
	keys, _ = scan(t, s, item("many", "", nil).Name)
	require.Empty(t, keys)
}

func testMany(t *testing.T, s localfirst.Store) {
	n := testkit.Few(20_000, 2_000)
	for from := 0; from < n; from += 1000 {
		var batch []localfirst.Record
		for i := from; i < from+1000; i++ {
			key := fmt.Sprintf("%06d", i*7919%n)
			batch = append(batch, item("c", key, []byte("value of "+key)), item("d", key, []byte{1}))
		}
		apply(t, s, batch...)
	}
	keys, values := scan(t, s, item("c", "", nil).Name)
	require.Len(t, keys, n)
	require.True(t, slices.IsSorted(keys))
	for _, key := range keys {
		require.Equal(t, "value of "+key, values[key])
	}
}
