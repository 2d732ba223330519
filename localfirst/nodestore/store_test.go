package nodestore

import (
	"context"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/kv/kvtest"
	"github.com/skerry-sync/skerry/localfirst"
	"github.com/skerry-sync/skerry/localfirst/storetest"
	"github.com/skerry-sync/skerry/node"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// openIn returns what opens the store "app" of a node.
func openIn(around func(kv.Store) kv.Store) storetest.Open {
	return func(ctx context.Context, dir string) (localfirst.Store, func() error, error) {
		n, err := node.Open(ctx, node.Config{Dir: dir})
		if err != nil {
			return nil, nil, err
		}
		s, err := Open(ctx, around(n.Store()), "app")
		if err != nil {
			return nil, nil, errors.Join(err, n.Close())
		}
		return s, n.Close, nil
	}
}

func plain(s kv.Store) kv.Store { return s }

func TestStore(t *testing.T)          { storetest.Run(t, openIn(plain)) }
func TestStoreRunsAgain(t *testing.T) { storetest.Run(t, openIn(kvtest.Rerun)) }
func TestStoreOnDisk(t *testing.T)    { storetest.RunDisk(t, openIn(plain)) }

func BenchmarkStore(b *testing.B) { storetest.Bench(b, openIn(plain)) }

func newNode(t *testing.T) kv.Store {
	n, err := node.Open(t.Context(), node.Config{Dir: t.TempDir()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	return n.Store()
}

func opened(t *testing.T, in kv.Store, name string) *Store {
	s, err := Open(t.Context(), in, name)
	require.NoError(t, err)
	return s
}

func record(key, value string) localfirst.Record {
	return localfirst.Record{
		Name:  localfirst.Name{Kind: localfirst.ItemRecord, Namespace: "ns", Collection: "c", Key: key},
		Value: []byte(value),
	}
}

func count(t *testing.T, in kv.Store) (n int) {
	require.NoError(t, in.View(t.Context(), func(r kv.Reader) error {
		n = 0
		for _, err := range r.Scan(kv.Prefix([]byte("l")), kv.ScanOptions{KeysOnly: true}) {
			if err != nil {
				return err
			}
			n++
		}
		return nil
	}))
	return n
}

// Stores of one node know nothing of each other, and are dropped one by one.
func TestDrop(t *testing.T) {
	ctx, in := t.Context(), newNode(t)
	a, b := opened(t, in, "a"), opened(t, in, "b")
	var many []localfirst.Record
	for i := range 2*atOnce + 1 {
		many = append(many, record(strings.Repeat("k", i), "of a"))
	}
	for len(many) > 0 {
		n := min(len(many), 100)
		require.NoError(t, a.Apply(ctx, many[:n]))
		many = many[n:]
	}
	require.NoError(t, b.Apply(ctx, []localfirst.Record{record("k", "of b")}))
	names, err := Names(ctx, in)
	require.NoError(t, err)
	require.Equal(t, []string{"a", "b"}, names)

	require.NoError(t, Drop(ctx, in, "a"))
	require.NoError(t, Drop(ctx, in, "a"))
	names, err = Names(ctx, in)
	require.NoError(t, err)
	require.Equal(t, []string{"b"}, names)
	require.Equal(t, 2, count(t, in))
	v, err := b.Get(ctx, record("k", "").Name)
	require.NoError(t, err)
	require.Equal(t, "of b", string(v))
	_, err = opened(t, in, "a").Get(ctx, record("k", "").Name)
	require.ErrorIs(t, err, localfirst.ErrNotFound)
}

// failing fails all batches.
type failing struct{ kv.Store }

var errFailing = errors.New("no more")

func (failing) Batch(context.Context, func(kv.Writer) error) error { return errFailing }

// A store whose Drop was interrupted is empty when it is opened again.
func TestDropInterrupted(t *testing.T) {
	ctx, in := t.Context(), newNode(t)
	s := opened(t, in, "a")
	require.NoError(t, s.Apply(ctx, []localfirst.Record{record("k", "v")}))
	require.ErrorIs(t, Drop(ctx, failing{in}, "a"), errFailing)
	names, err := Names(ctx, in)
	require.NoError(t, err)
	require.Equal(t, []string{"a"}, names, "a person can see that it is not gone yet")
	_, err = opened(t, in, "a").Get(ctx, record("k", "").Name)
	require.ErrorIs(t, err, localfirst.ErrNotFound)
	require.Equal(t, 1, count(t, in))
	e, err := s.entry(ctx)
	require.NoError(t, err)
	require.Equal(t, entry{name: "a"}, e)
}

func TestBadNames(t *testing.T) {
	in := newNode(t)
	for _, name := range []string{"", "\xff", strings.Repeat("n", MaxName+1)} {
		_, err := Open(t.Context(), in, name)
		require.ErrorIs(t, err, ErrName)
		require.ErrorIs(t, Drop(t.Context(), in, name), ErrName)
	}
	opened(t, in, strings.Repeat("n", MaxName))
}

// A record that is damaged is an error, and no value.
func TestMalformed(t *testing.T) {
	ctx, in := t.Context(), newNode(t)
	s := opened(t, in, "a")
	r := record("k", "v")
	require.NoError(t, s.Apply(ctx, []localfirst.Record{r}))
	for _, bad := range [][]byte{{}, {recordVersion}, {2, 0, 0, 'v'}, {recordVersion, 0, 1, 'v'}} {
		require.NoError(t, in.Update(ctx, func(tx kv.Txn) error { return tx.Set(s.keyOf(&r.Name), bad) }))
		_, err := s.Get(ctx, r.Name)
		require.ErrorIs(t, err, errMalformed)
		for _, err := range s.Scan(ctx, r.Kind, r.Namespace, r.Collection) {
			require.ErrorIs(t, err, errMalformed)
		}
	}
}

func TestGolden(t *testing.T) {
	s := &Store{name: "app", at: recordsOf("app")}
	for name, got := range map[string][]byte{
		"KEY":    s.keyOf(&localfirst.Name{Kind: "item", Namespace: "ns", Collection: "c", Key: "k"}),
		"STORE":  storeKey("app"),
		"ENTRY":  entry{"app", true}.marshal(),
		"RECORD": marshalRecord("k", []byte("v")),
		"LONG":   marshalRecord(strings.Repeat("k", cut)+"rest", []byte("v")),
	} {
		require.Equal(t, golden[name], hex.EncodeToString(got), name)
	}
	long := appendKey(nil, strings.Repeat("k", cut)+"rest")
	require.Len(t, long, cut+32)
	require.Equal(t, golden["HASH"], hex.EncodeToString(long[cut:]))
	require.LessOrEqual(t, beforeKey+cut+32, kv.MaxKeySize)
}

var golden = map[string]string{
	"KEY": "6c7284072ad96bc03d1afde0ace780a8cc28bdaa98eb8b3804e56f9f0352dd0a64b4e" +
		"a7aa1fc9efdbe106dbb70369a75e9676b",
	"STORE":  "6c6e84072ad96bc03d1afde0ace780a8cc28",
	"ENTRY":  "0101617070",
	"RECORD": "01000076",
	"LONG":   "0100047265737476",
	"HASH":   "65fa7d1c3bc8a48366e1145cd29e50ba7a6712f24169b07ec3306f350b7bf313",
}

func FuzzParseRecord(f *testing.F) {
	long := strings.Repeat("k", cut) + "rest"
	f.Add([]byte("k"), marshalRecord("k", []byte("v")))
	f.Add(appendKey(nil, long), marshalRecord(long, []byte("v")))
	f.Fuzz(func(t *testing.T, k, b []byte) {
		key, value, err := parseRecord(k, b)
		if err != nil {
			return
		}
		require.Equal(t, k, append([]byte{}, appendKey(nil, key)...))
		require.Equal(t, b, marshalRecord(key, value))
	})
}

func FuzzParseEntry(f *testing.F) {
	f.Add(entry{"app", true}.marshal())
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := parseEntry(b)
		if err == nil {
			require.Equal(t, b, e.marshal())
		}
	})
}
