package displaced

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/kv/kvtest"
	"github.com/skerry-sync/skerry/kv/pebble"
	"github.com/skerry-sync/skerry/replica"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	id     = replica.ID{7}
	own    = replica.SecretKeyFromSeed([32]byte{1})
	theirs = replica.SecretKeyFromSeed([32]byte{2})
)

// world is a list in a store, of which the node holds all replicas but one.
type world struct {
	kv kv.Store
	*List
}

func newWorld(t testing.TB) *world {
	db, err := pebble.Open("", pebble.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	w := &world{kv: kvtest.Rerun(db)}
	w.reopen(t)
	require.NoError(t, w.Keep(t.Context(), id))
	return w
}

func (w *world) reopen(t testing.TB) {
	w.List = New(Config{
		Store: w.kv,
		Own:   func(_ kv.Reader, a replica.AuthorID) (bool, error) { return a == own.Author(), nil },
		Held: func(_ kv.Reader, r replica.ID) error {
			if r == (replica.ID{9}) {
				return replica.ErrNotFound
			}
			return nil
		},
	})
	require.NoError(t, w.Load(t.Context()))
}

func entry(by replica.SecretKey, key string, n int) *replica.Entry {
	e := &replica.Entry{
		Replica: id, Key: []byte(key), Timestamp: uint64(n), Size: 3,
		Hash: blobs.HashOf(fmt.Append(nil, key, n)),
	}
	e.Sign(by)
	return e
}

func (w *world) put(t require.TestingT, e *replica.Entry) {
	put := func(tx kv.Txn) error { return w.Put(tx, nil, e) }
	require.NoError(t, w.kv.Update(context.Background(), put))
}

// times returns the timestamps of what is kept of some keys; nil is all.
func (w *world) times(t require.TestingT, keys ...string) (all []int) {
	var of [][]byte
	for _, k := range keys {
		of = append(of, []byte(k))
	}
	for e, err := range w.All(context.Background(), id, of) {
		require.NoError(t, err)
		require.NoError(t, e.Verify(), "whole")
		all = append(all, int(e.Timestamp))
	}
	return all
}

// Entries are kept whole, in the order in which they were displaced, also when the node is opened
// again, until they are forgotten. While there are none, nothing is read.
func TestKept(t *testing.T) {
	w := newWorld(t)
	require.False(t, w.Any(id))
	w.put(t, entry(own, "k", 3))
	w.put(t, entry(theirs, "l", 2))
	w.put(t, entry(own, "k", 1))
	w.reopen(t)
	w.put(t, entry(theirs, "k", 4))
	require.Equal(t, []int{3, 2, 1, 4}, w.times(t))
	require.Equal(t, []int{3, 1, 4}, w.times(t, "k"))
	require.Equal(t, []int{3, 2, 1, 4}, w.times(t, "l", "k"))
	require.Empty(t, w.times(t, "no"))
	require.True(t, w.Any(id))

	forget := func(all ...replica.Entry) { require.NoError(t, w.Forget(t.Context(), id, all)) }
	forget(*entry(own, "k", 3), *entry(own, "k", 77), *entry(theirs, "m", 1))
	require.Equal(t, []int{2, 1, 4}, w.times(t))
	forget(*entry(own, "k", 1), *entry(own, "k", 1))
	forget(*entry(theirs, "k", 4), *entry(theirs, "l", 2))
	require.Empty(t, w.times(t))
	require.False(t, w.Any(id))
	require.Empty(t, w.Kept())
	w.requireRecords(t, 1)
	w.put(t, entry(own, "k", 5))
	require.True(t, w.Any(id))
	require.Equal(t, []int{5}, w.times(t))
}

// requireRecords requires that the store holds so many records.
func (w *world) requireRecords(t testing.TB, want int) {
	n := 0
	require.NoError(t, w.kv.View(t.Context(), func(rd kv.Reader) error {
		n = 0
		for _, err := range rd.Scan(kv.Prefix([]byte("n")), kv.ScanOptions{}) {
			n++
			if err != nil {
				return err
			}
		}
		return nil
	}))
	require.Equal(t, want, n)
}

// What a transaction was about to record, and did not, makes nobody look for it again and again.
func TestPutThatFails(t *testing.T) {
	w := newWorld(t)
	failed := errors.New("failed")
	require.ErrorIs(t, w.kv.Update(t.Context(), func(tx kv.Txn) error {
		return errors.Join(w.Put(tx, nil, entry(own, "k", 1)), failed)
	}), failed)
	require.True(t, w.Any(id))
	require.Empty(t, w.times(t))
	require.False(t, w.Any(id))
}

// Whoever puts while others forget is not overlooked.
func TestPutBesideForget(t *testing.T) {
	w := newWorld(t)
	done := make(chan error, 1)
	go func() {
		var err error
		for n := 0; n < 100 && err == nil; n++ {
			err = w.kv.Update(t.Context(), func(tx kv.Txn) error {
				return w.Put(tx, nil, entry(own, "k", 2*n))
			})
			if err == nil && n%3 == 0 {
				err = w.Forget(t.Context(), id, []replica.Entry{*entry(own, "k", 2*n)})
			}
		}
		done <- err
	}()
	for n := range 100 {
		w.put(t, entry(theirs, "k", 2*n+1))
		if n%2 == 0 {
			require.NoError(t, w.Forget(t.Context(), id, []replica.Entry{*entry(theirs, "k", 2*n+1)}))
		}
	}
	require.NoError(t, <-done)
	w.put(t, entry(own, "l", 1000))
	require.Contains(t, w.times(t), 1000)
	require.NoError(t, w.kv.View(t.Context(), func(rd kv.Reader) error {
		b, err := rd.Get(keptKey(id))
		require.NoError(t, err)
		counted, err := parseTally(b)
		require.EqualValues(t, len(w.times(t)), counted.count)
		return err
	}))
}

// A deletion is nothing to be kept, and neither is an entry of another replica; one that is not
// held cannot keep any.
func TestNotKept(t *testing.T) {
	w := newWorld(t)
	gone := entry(own, "k", 1)
	gone.Hash, gone.Size = blobs.EmptyHash, 0
	w.put(t, gone)
	other := entry(own, "k", 1)
	other.Replica = replica.ID{8}
	w.put(t, other)
	other.Replica = replica.ID{9}
	require.ErrorIs(t, w.Keep(t.Context(), replica.ID{9}), replica.ErrNotFound)
	w.put(t, other)
	require.Empty(t, w.Kept())
	w.requireRecords(t, 1)
}

// Of one key and author the first and the last few are kept, of one author and of all so many; but
// those of an author whose key is here have room whatever others do.
func TestBounds(t *testing.T) {
	w := newWorld(t)
	w.most = limits{place: 4, author: 10, all: 30}
	for n := range 1000 {
		w.put(t, entry(theirs, "k", n))
	}
	require.Equal(t, []int{0, 997, 998, 999}, w.times(t))
	for n := range 1000 {
		w.put(t, entry(theirs, fmt.Sprint("of ", n), n))
	}
	require.Len(t, w.times(t), 10)
	require.Equal(t, []int{0, 997, 998, 999}, w.times(t, "k"))
	for n := range 100 {
		w.put(t, entry(replica.SecretKeyFromSeed([32]byte{3, byte(n)}), "k", n))
	}
	require.Len(t, w.times(t), 30)
	for n := range 100 {
		w.put(t, entry(own, fmt.Sprint(n), n))
	}
	require.Len(t, w.times(t), 40)
	w.put(t, entry(theirs, "k", 1000))
	require.Equal(t, 1000, w.times(t)[39], "that takes the room of another one")
	w.requireRecords(t, 40+1+1+20+1)
}

// A replica that is left leaves nothing, even if the program ends in the middle, or it is joined
// again before the rest is gone.
func TestLeft(t *testing.T) {
	for _, how := range []string{"to the end", "cut off", "joined again"} {
		t.Run(how, func(t *testing.T) {
			w := newWorld(t)
			w.put(t, entry(own, "k", 1))
			w.put(t, entry(theirs, "k", 2))
			require.NoError(t, w.kv.Update(t.Context(), func(tx kv.Txn) error {
				return w.Leave(tx, id)
			}))
			w.put(t, entry(theirs, "k", 3)) // of a session that goes on
			switch how {
			case "to the end":
				require.NoError(t, w.Left(t.Context(), id))
			case "cut off":
				w.reopen(t)
			case "joined again":
				require.NoError(t, w.Keep(t.Context(), id))
				require.Empty(t, w.times(t))
				w.requireRecords(t, 1)
				w.put(t, entry(theirs, "k", 4))
				require.Equal(t, []int{4}, w.times(t))
				return
			}
			w.put(t, entry(theirs, "k", 4))
			require.False(t, w.Any(id))
			w.requireRecords(t, 0)
		})
	}
}

// Golden: the records never change their form.
func TestGolden(t *testing.T) {
	w := newWorld(t)
	e := entry(own, "k", 1)
	w.put(t, e)
	raw, err := e.AppendBinary(nil)
	require.NoError(t, err)
	a := own.Author()
	got := map[string]string{}
	require.NoError(t, w.kv.View(t.Context(), func(rd kv.Reader) error {
		for p, err := range rd.Scan(kv.Prefix([]byte("n")), kv.ScanOptions{}) {
			if err != nil {
				return err
			}
			got[hex.EncodeToString(p.Key)] = hex.EncodeToString(p.Value)
		}
		return nil
	}))
	replicaHex, authorHex := hex.EncodeToString(id[:]), hex.EncodeToString(a[:])
	const placeOfK, n = "5cbcb0cee824b91866cd67f57a6643dd", "0000000000000001"
	require.Equal(t, map[string]string{
		"6e70" + replicaHex:                            "01" + n + "0000000000000001",
		"6e61" + replicaHex + authorHex:                "00000001",
		"6e65" + replicaHex + placeOfK + authorHex + n: hex.EncodeToString(raw),
	}, got)
}

// A damaged record is reported, and no reader of records fails otherwise.
func TestDamagedRecords(t *testing.T) {
	for _, b := range [][]byte{nil, {1}, make([]byte, 17), make([]byte, 18)} {
		_, err := parseTally(b)
		require.ErrorIs(t, err, errMalformed)
		_, err = parseEntry(b)
		require.ErrorIs(t, err, errMalformed)
	}
	rapid.Check(t, func(t *rapid.T) {
		b := rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "record")
		if got, err := parseTally(b); err == nil {
			require.Equal(t, b, got.marshal())
		}
	})
	w := newWorld(t)
	require.NoError(t, w.kv.Update(t.Context(), func(tx kv.Txn) error {
		return tx.Set(keptKey(id), []byte{2})
	}))
	require.ErrorIs(t, w.kv.Update(t.Context(), func(tx kv.Txn) error {
		return w.Put(tx, nil, entry(own, "k", 1))
	}), errMalformed)
	require.ErrorIs(t, New(w.cfg).Load(t.Context()), errMalformed)
}
