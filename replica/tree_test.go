package replica

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"lukechampine.com/blake3"
	"pgregory.net/rapid"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/internal/edsig"
	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/kv/kvtest"
	"github.com/skerry-sync/skerry/kv/pebble"
	"github.com/skerry-sync/skerry/reconcile"
)

// wholesome requires that everything kept beside the entries of a replica agrees with them.
func wholesome(t require.TestingT, s *Store, id ID) CheckReport {
	rep, err := s.Check(bg, id, false, nil)
	require.NoError(t, err)
	require.Empty(t, rep.Faults)
	require.Zero(t, rep.Bad)
	f, err := s.Fingerprint(bg, id)
	require.NoError(t, err)
	require.Equal(t, rep.Fingerprint, f)
	return rep
}

// Whatever is written in whatever order, indexes, counts and the tree agree with the entries, and
// two stores with the same entries have the same fingerprint.
func TestRecordsAgree(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c := newClock()
		a, b := newStore(rt, c), newStore(rt, c)
		defer a.kv.Close()
		defer b.kv.Close()
		id := hold(rt, a, testKey(1), Write)
		hold(rt, b, testKey(1), Sync)
		for range rapid.IntRange(1, 6).Draw(rt, "batches") {
			c.t = c.t.Add(time.Second)
			var changes []Change
			for range rapid.IntRange(1, 40).Draw(rt, "changes") {
				changes = append(
					changes,
					change(keyGen.Draw(rt, "key"), rapid.SampledFrom([]string{"", "x", "y"}).Draw(rt, "value")),
				)
			}
			_, err := a.Write(bg, id, testKey(rapid.ByteRange(2, 4).Draw(rt, "author")), changes)
			require.NoError(rt, err)
		}
		rep := wholesome(rt, a, id)
		entries := rapid.Permutation(
			collect(rt, a.Entries(bg, id, Query{Tombstones: true})),
		).Draw(rt, "order")
		grants, err := a.Grants(bg, id)
		require.NoError(rt, err)
		_, err = b.InsertStatements(bg, id, allStatements(grants))
		require.NoError(rt, err)
		for len(entries) > 0 {
			n := rapid.IntRange(1, len(entries)).Draw(rt, "batch")
			_, err := b.Insert(bg, id, entries[:n], Origin{Peer: "a"})
			require.NoError(rt, err)
			entries = entries[n:]
		}
		require.Equal(rt, rep, wholesome(rt, b, id))
	})
}

// Check names every record that is wrong, and repair writes it anew.
func TestCheckRepairs(t *testing.T) {
	testkit.OneGoroutine(t)
	s := newStore(t, newClock())
	id := hold(t, s, testKey(1), Write)
	for i := range 300 {
		write(t, s, id, testKey(byte(2+i%2)), fmt.Sprintf("key %d", i), "v")
	}
	want := wholesome(t, s, id)
	r, err := s.Get(bg, id)
	require.NoError(t, err)
	for _, kind := range perEntry {
		if kind == keyEntry {
			continue
		}
		for name, breakIt := range map[string]func(tx kv.Txn, key []byte) error{
			"gone":    func(tx kv.Txn, key []byte) error { return tx.Delete(key) },
			"garbled": func(tx kv.Txn, key []byte) error { return tx.Set(key, []byte("not what it was")) },
		} {
			t.Run(kind+" "+name, func(t *testing.T) {
				require.NoError(t, s.kv.Update(bg, func(tx kv.Txn) error {
					var last []byte
					for p, err := range tx.Scan(
						kv.Prefix(numberKey(kind, r.number)), kv.ScanOptions{KeysOnly: true},
					) {
						if err != nil {
							return err
						}
						last = bytes.Clone(p.Key)
					}
					return breakIt(tx, last)
				}))
				rep, err := s.Check(bg, id, false, nil)
				require.NoError(t, err)
				require.NotEmpty(t, rep.Faults)
				require.False(t, rep.Repaired)
				require.Equal(t, want.Fingerprint, rep.Fingerprint, "that is computed from the entries")
				rep, err = s.Check(bg, id, true, nil)
				require.NoError(t, err)
				require.True(t, rep.Repaired)
				require.Equal(t, want, wholesome(t, s, id))
			})
		}
	}
	_, err = s.Check(bg, ID{9}, false, nil)
	require.ErrorIs(t, err, ErrNotFound)
	entries := collect(t, s.Entries(bg, id, Query{Limit: 1}))
	at, _ := entryKey(r.number, entries[0].Key, entries[0].Author)
	entries[0].Signature[0]++
	require.NoError(t, s.kv.Update(bg, func(tx kv.Txn) error {
		return tx.Set(at, entries[0].marshalValue())
	}))
	rep, err := s.Check(bg, id, false, nil)
	require.NoError(t, err)
	require.EqualValues(t, 1, rep.Bad)
}

// Without its tree a replica is neither taken for empty nor written to.
func TestMissingTree(t *testing.T) {
	s := newStore(t, newClock())
	id := hold(t, s, testKey(1), Write)
	write(t, s, id, testKey(2), "k", "v")
	want := wholesome(t, s, id)
	r, err := s.Get(bg, id)
	require.NoError(t, err)
	require.NoError(t, s.kv.Update(bg, func(tx kv.Txn) error {
		return tx.Delete(append(numberKey(keyTree, r.number), 0))
	}))
	_, err = s.Fingerprint(bg, id)
	require.ErrorIs(t, err, ErrNoTree)
	_, err = s.EntrySet(id).Split(bg, reconcile.All, 2)
	require.ErrorIs(t, err, ErrNoTree)
	_, err = s.Write(bg, id, testKey(2), []Change{change("other", "v")})
	require.ErrorIs(t, err, ErrNoTree)
	rep, err := s.Check(bg, id, true, nil)
	require.NoError(t, err)
	require.True(t, rep.Repaired)
	require.Equal(t, want, wholesome(t, s, id))
}

// An inserter stores the good ones of what it gets, names the first bad one, and loses nothing that
// was added.
func TestInserter(t *testing.T) {
	source, s := newStore(t, newClock()), newStore(t, newClock())
	id := hold(t, source, testKey(1), Write)
	hold(t, s, testKey(1), Read)
	var items [][]byte
	var ok int
	var changes []Change
	for i := range 3000 {
		changes = append(changes, change(fmt.Sprintf("%04d", i), "v"))
	}
	entries, err := source.Write(bg, id, testKey(2), changes)
	require.NoError(t, err)
	for i, e := range entries {
		if i == 2500 {
			e.Signature[3]++
		} else if i < 2500 {
			ok++
		}
		b, err := e.AppendBinary(nil)
		require.NoError(t, err)
		items = append(items, b)
	}
	grants, err := source.Grants(bg, id)
	require.NoError(t, err)
	_, err = s.InsertStatements(bg, id, allStatements(grants))
	require.NoError(t, err)

	ctx, cancel := context.WithCancel(bg)
	x := s.NewInserter(ctx, id, Origin{Peer: "peer"})
	require.NoError(t, x.Add(items[:10]))
	require.NoError(t, x.Flush())
	c, err := s.Counts(bg, id)
	require.NoError(t, err)
	require.EqualValues(t, 10, c.Entries)
	require.NoError(t, x.Add(items[:1000]))
	cancel() // the session has ended; what came is stored all the same
	for at := 1000; at < len(items) && err == nil; at += 100 {
		err = x.Add(items[at : at+100])
	}
	out, closeErr := x.Close()
	var bad *EntryError
	require.ErrorAs(t, closeErr, &bad)
	require.ErrorIs(t, closeErr, ErrBadSignature)
	require.Equal(t, "2500", string(bad.Key))
	require.Equal(t, 10, out.Known)
	c, err = s.Counts(bg, id)
	require.NoError(t, err)
	require.GreaterOrEqual(t, c.Entries, uint64(ok))
	wholesome(t, s, id)

	x = s.NewInserter(bg, id, Origin{Peer: "peer"})
	_ = x.Add([][]byte{[]byte("rubbish"), items[2999]})
	_, err = x.Close()
	require.ErrorIs(t, err, ErrMalformed)
	x = s.NewInserter(bg, ID{9}, Origin{Peer: "peer"})
	require.NoError(t, x.Add(items[:1]))
	require.ErrorIs(t, x.Flush(), ErrWrongReplica)
	_, err = x.Close()
	require.ErrorIs(t, err, ErrWrongReplica)
}

// Entries that lie so far apart that a transaction of them would be too big are stored in smaller
// ones.
func TestScatteredEntries(t *testing.T) {
	testkit.OneGoroutine(t)
	db, err := pebble.Open("", pebble.Options{})
	require.NoError(t, err)
	defer db.Close()
	s, err := Open(bg, kvtest.Limit(db, 256<<10), Config{Now: newClock().now})
	require.NoError(t, err)
	id := hold(t, s, testKey(1), Write)
	var changes []Change
	for i := range 20_000 {
		h := blake3.Sum256(binary.BigEndian.AppendUint64(nil, uint64(i)))
		changes = append(changes, change(hex.EncodeToString(h[:8]), "v"))
	}
	for batch := range slices.Chunk(changes, 4000) {
		_, err := s.Write(bg, id, testKey(2), batch)
		require.NoError(t, err)
	}
	require.Less(t, s.atOnce.get(), insertEntries)
	require.EqualValues(t, len(changes), wholesome(t, s, id).Entries)
}

// A peer that sends items while this side makes sure of what it has got loses none of them, and
// harms nothing.
func TestInserterAddsWhileItFlushes(t *testing.T) {
	source, s := newStore(t, newClock()), newStore(t, newClock())
	id := hold(t, source, testKey(1), Write)
	hold(t, s, testKey(1), Write)
	var items [][]byte
	for i := range 600 {
		b, err := write(t, source, id, testKey(2), fmt.Sprint(i), "v")[0].AppendBinary(nil)
		require.NoError(t, err)
		items = append(items, b)
	}
	grants, err := source.Grants(bg, id)
	require.NoError(t, err)
	_, err = s.InsertStatements(bg, id, allStatements(grants))
	require.NoError(t, err)
	x := s.NewInserter(bg, id, Origin{Peer: "peer"})
	done := make(chan error, 1)
	go func() {
		var err error
		for range 20 {
			err = errors.Join(err, x.Flush())
		}
		done <- err
	}()
	for _, b := range items {
		require.NoError(t, x.Add([][]byte{b}))
	}
	require.NoError(t, <-done)
	_, err = x.Close()
	require.NoError(t, err)
	c, err := s.Counts(bg, id)
	require.NoError(t, err)
	require.EqualValues(t, len(items), c.Entries)
}

// torsion are all encodings of the points of small order, canonical or not (ZIP-215).
var torsion = []string{
	"0100000000000000000000000000000000000000000000000000000000000000",
	"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"0000000000000000000000000000000000000000000000000000000000000000",
	"0000000000000000000000000000000000000000000000000000000000000080",
	"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
	"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
	"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
	"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
	"0100000000000000000000000000000000000000000000000000000000000080",
	"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
	"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
	"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
}

// Every entry gets the same verdict alone and in a batch, whatever its neighbours: also those
// signed by points of small order, which the rules of ZIP-215 accept and ours do not, and those
// with a scalar or point out of bounds.
func TestBatchAndSingleAgree(t *testing.T) {
	s := &Store{authorKeys: edsig.NewKeys(edsig.NoWeakKeys, maxAuthorKeys)}
	var entries []Entry
	for _, a := range torsion {
		for _, r := range torsion {
			e := Entry{Key: []byte(a + r)}
			_, err := hex.Decode(e.Author[:], []byte(a))
			require.NoError(t, err)
			_, err = hex.Decode(e.Signature[:32], []byte(r))
			require.NoError(t, err)
			require.ErrorIs(t, e.Verify(), ErrBadSignature, "%s %s", a, r)
			entries = append(entries, e)
		}
	}
	for i := range 200 {
		e := Entry{Key: fmt.Append(nil, i)}
		e.Sign(testKey(byte(i % 5)))
		switch i % 7 {
		case 1:
			e.Signature[i%64] ^= 1
		case 2:
			e.Signature[63] |= 0xe0 // a scalar that is not reduced
		case 3:
			e.Author[0] ^= byte(i) // perhaps no point at all
		case 4:
			e.Key = append(e.Key, '!')
		case 5: // R plus a point of small order is what the cofactor forgives: only of R itself, so this is wrong
			copy(e.Signature[:32], entries[i%len(torsion)].Signature[:32])
		}
		entries = append(entries, e)
	}
	verdicts := func(some []Entry) (right []bool) {
		for i := range some {
			right = append(right, some[i].Verify() == nil)
		}
		return right
	}
	right := make([]bool, len(entries))
	s.verifyBatch(entries, right)
	require.Equal(t, verdicts(entries), right)
	rapid.Check(t, func(t *rapid.T) {
		some := rapid.SliceOfN(rapid.SampledFrom(entries), 1, 40).Draw(t, "entries")
		got := make([]bool, len(some))
		s.verifyBatch(some, got)
		require.Equal(t, verdicts(some), got)
		good, err := s.verifyAll(some)
		var want []Entry
		for _, e := range some {
			if e.Verify() == nil {
				want = append(want, e)
			}
		}
		require.Equal(t, len(want), len(good))
		require.Equal(t, len(want) < len(some), err != nil)
	})
}

// An author who signs two entries of one key and time makes no two nodes differ for long: the
// greater hash wins, and sketches, which cannot show the two apart by their time alone, do.
func TestEquivocation(t *testing.T) {
	a, b := newStore(t, newClock()), newStore(t, newClock())
	id := hold(t, a, testKey(1), Write)
	hold(t, b, testKey(1), Write)
	ea := write(t, a, id, testKey(2), "k", "one")[0]
	eb := write(t, b, id, testKey(2), "k", "two")[0]
	require.Equal(t, ea.Timestamp, eb.Timestamp)
	require.NotEqual(t, markOf(ea.Timestamp, ea.ID()).Element, markOf(eb.Timestamp, eb.ID()).Element)
	for _, s := range []*Store{a, b} {
		_, err := s.Insert(bg, id, []Entry{ea, eb}, Origin{Peer: "x"})
		require.NoError(t, err)
	}
	require.Equal(t, wholesome(t, a, id), wholesome(t, b, id))
	require.Len(t, collect(t, a.Entries(bg, id, Query{})), 1)
}

func TestPrefixRange(t *testing.T) {
	s := newStore(t, newClock())
	id := hold(t, s, testKey(1), Write)
	write(
		t, s, id, testKey(2), "photos", "1", "photos/", "2", "photos/a", "3", "photos/\xff", "4",
		"photos0", "5",
	)
	var keys []string
	for it, err := range s.EntrySet(id).Items(bg, PrefixRange([]byte("photos/"))) {
		require.NoError(t, err)
		e, err := ParseEntry(it.Data)
		require.NoError(t, err)
		keys = append(keys, string(e.Key))
	}
	require.Equal(t, []string{"photos/", "photos/a", "photos/\xff"}, keys)
	require.Equal(t, reconcile.Range{}, PrefixRange(nil))
}

// EntrySet answers from the tree what a scan would.
func TestEntrySetAgainstScan(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := newStore(rt, newClock())
		defer s.kv.Close()
		id := hold(rt, s, testKey(1), Write)
		for range rapid.IntRange(0, 60).Draw(rt, "entries") {
			write(rt, s, id, testKey(rapid.ByteRange(2, 3).Draw(rt, "author")), keyGen.Draw(rt, "key"), "v")
		}
		set := s.EntrySet(id)
		scanned := reconcile.Scanned(set.Items)
		from := orderBytes([]byte(keyGen.Draw(rt, "from")), AuthorID{})
		bounds := [][]byte{nil, from, nil}
		want, err := scanned.Summaries(bg, bounds)
		require.NoError(rt, err)
		got, err := set.Summaries(bg, bounds)
		require.NoError(rt, err)
		require.True(rt, want[0] == got[0] && want[1] == got[1])
		var elements []reconcile.Element
		keys := map[string]bool{}
		for it, err := range set.Items(bg, reconcile.All) {
			require.NoError(rt, err)
			if rapid.Bool().Draw(rt, "find") {
				elements = append(elements, it.Element)
				keys[string(it.Key)] = true
			}
		}
		for it, err := range set.Find(bg, reconcile.All, append(elements, reconcile.Element{1})) {
			require.NoError(rt, err)
			require.True(rt, keys[string(it.Key)])
			delete(keys, string(it.Key))
		}
		require.Empty(rt, keys)
	})
}

// BenchmarkVerify compares verifying one by one with batches.
func BenchmarkVerify(b *testing.B) {
	s := &Store{authorKeys: edsig.NewKeys(edsig.NoWeakKeys, maxAuthorKeys)}
	entries := make([]Entry, 4096)
	for i := range entries {
		entries[i] = Entry{Key: fmt.Append(nil, i), Hash: blobs.EmptyHash}
		entries[i].Sign(testKey(1))
	}
	b.Run("single", func(b *testing.B) {
		for i := range b.N {
			if entries[i%len(entries)].Verify() != nil {
				b.Fatal("wrong")
			}
		}
	})
	b.Run("batches", func(b *testing.B) {
		for i := 0; i < b.N; i += len(entries) {
			if _, err := s.verifyAll(entries); err != nil {
				b.Fatal(err)
			}
		}
	})
}
