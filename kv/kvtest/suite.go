// Package kvtest is the conformance suite of kv.Store. Every backend runs it against itself; a
// guarantee that is not tested here is not one that callers may rely on.
package kvtest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/kv"
)

// Run tests the stores that open makes; each call of open must give an empty store.
func Run(t *testing.T, open func(t testing.TB) kv.Store) {
	t.Run("get set delete", func(t *testing.T) { testGetSetDelete(t, open(t)) })
	t.Run("limits", func(t *testing.T) { testLimits(t, open(t)) })
	t.Run("scan matches a sorted map", func(t *testing.T) { testScanModel(t, open) })
	t.Run("scan sees own writes and stops early", func(t *testing.T) { testScanOwnWrites(t, open(t)) })
	t.Run("snapshot is stable", func(t *testing.T) { testSnapshot(t, open(t)) })
	t.Run("failed update leaves nothing", func(t *testing.T) { testRollback(t, open(t)) })
	t.Run("counter under concurrent updates", func(t *testing.T) { testCounter(t, open(t)) })
	t.Run("no write skew", func(t *testing.T) { testWriteSkew(t, open(t)) })
	t.Run("transfers keep the sum", func(t *testing.T) { testTransfers(t, open(t)) })
	t.Run("batch", func(t *testing.T) { testBatch(t, open(t)) })
	t.Run("sync by many", func(t *testing.T) { testSync(t, open(t)) })
	t.Run("compaction keeps what is there", func(t *testing.T) { testCompact(t, open(t)) })
	t.Run("cancelled and closed", func(t *testing.T) { testCancelledAndClosed(t, open(t)) })
	t.Run("close waits for readers", func(t *testing.T) { testCloseWaits(t, open(t)) })
}

func set(t require.TestingT, s kv.Store, pairs ...string) {
	require.NoError(t, s.Update(context.Background(), func(tx kv.Txn) error {
		for i := 0; i < len(pairs); i += 2 {
			if err := tx.Set([]byte(pairs[i]), []byte(pairs[i+1])); err != nil {
				return err
			}
		}
		return nil
	}))
}

func get(t require.TestingT, s kv.Store, key string) (value string, found bool) {
	require.NoError(t, s.View(context.Background(), func(r kv.Reader) error {
		v, err := r.Get([]byte(key))
		if errors.Is(err, kv.ErrNotFound) {
			return nil
		}
		value, found = string(v), err == nil
		return err
	}))
	return value, found
}

func collect(r kv.Reader, rng kv.Range, o kv.ScanOptions) ([]string, error) {
	var out []string
	for p, err := range r.Scan(rng, o) {
		if err != nil {
			return nil, err
		}
		if o.KeysOnly {
			out = append(out, string(p.Key))
		} else {
			out = append(out, string(p.Key)+"="+string(p.Value))
		}
	}
	return out, nil
}

func testGetSetDelete(t *testing.T, s kv.Store) {
	ctx := context.Background()
	set(t, s, "a", "1", "b", "", "c", "3")
	v, ok := get(t, s, "a")
	require.True(t, ok)
	require.Equal(t, "1", v)
	v, ok = get(t, s, "b")
	require.True(t, ok, "an empty value is a value")
	require.Empty(t, v)
	_, ok = get(t, s, "d")
	require.False(t, ok)

	require.NoError(t, s.Update(ctx, func(tx kv.Txn) error {
		if err := tx.Delete([]byte("a")); err != nil {
			return err
		}
		has, err := tx.Has([]byte("a"))
		require.False(t, has, "a transaction sees its own deletion")
		if err != nil {
			return err
		}
		return tx.Delete([]byte("never there"))
	}))
	_, ok = get(t, s, "a")
	require.False(t, ok)

	require.NoError(t, s.View(ctx, func(r kv.Reader) error {
		var peeked string
		require.NoError(t, r.Peek([]byte("c"), func(v []byte) error { peeked = string(v); return nil }))
		require.Equal(t, "3", peeked)
		require.ErrorIs(t, r.Peek([]byte("zz"), func([]byte) error {
			t.Error("called")
			return nil
		}), kv.ErrNotFound)
		mine := errors.New("mine")
		require.ErrorIs(t, r.Peek([]byte("c"), func([]byte) error { return mine }), mine)
		return nil
	}))

	big := bytes.Repeat([]byte{7}, kv.MaxValueSize)
	require.NoError(t, s.Update(ctx, func(tx kv.Txn) error { return tx.Set([]byte("big"), big) }))
	v, _ = get(t, s, "big")
	require.Equal(t, big, []byte(v))
}

func testLimits(t *testing.T, s kv.Store) {
	ctx := context.Background()
	long := bytes.Repeat([]byte{0xfe}, kv.MaxKeySize)
	require.NoError(t, s.Update(ctx, func(tx kv.Txn) error { return tx.Set(long, []byte("x")) }))
	v, _ := get(t, s, string(long))
	require.Equal(t, "x", v)
	for name, key := range map[string][]byte{
		"too long": append(long, 1), "empty": {}, "reserved": {0, 1},
	} {
		require.Error(t, s.Update(ctx, func(tx kv.Txn) error { return tx.Set(key, nil) }), name)
		require.Error(t, s.Batch(ctx, func(w kv.Writer) error { return w.Set(key, nil) }), name)
	}
	require.Error(t, s.Update(ctx, func(tx kv.Txn) error {
		return tx.Set([]byte("v"), make([]byte, kv.MaxValueSize+1))
	}))
}

// testScanModel compares scans with a sorted map, over keys that share prefixes and contain the
// bytes 0x00 and 0xff.
func testScanModel(t *testing.T, open func(testing.TB) kv.Store) {
	s := open(t)
	keyGen := rapid.Custom(func(t *rapid.T) string {
		tail := rapid.SliceOfN(
			rapid.SampledFrom([]byte{0, 1, 'a', 'b', 0xfe, 0xff}), 0, 4,
		).Draw(t, "tail")
		return "m" + string(tail)
	})
	rapid.Check(t, func(rt *rapid.T) {
		ctx := context.Background()
		require.NoError(rt, s.Update(ctx, func(tx kv.Txn) error { // empty the model's keys
			var old [][]byte
			for p, err := range tx.Scan(kv.Prefix([]byte("m")), kv.ScanOptions{KeysOnly: true}) {
				if err != nil {
					return err
				}
				old = append(old, bytes.Clone(p.Key))
			}
			for _, k := range old {
				if err := tx.Delete(k); err != nil {
					return err
				}
			}
			return nil
		}))
		model := rapid.MapOfN(keyGen, rapid.StringN(0, 8, 8), 0, 30).Draw(rt, "model")
		for k, v := range model {
			set(rt, s, k, v)
		}
		r := kv.Prefix([]byte("m"))
		if rapid.Bool().Draw(rt, "from?") {
			r.From = []byte(keyGen.Draw(rt, "from"))
		}
		if rapid.Bool().Draw(rt, "to?") {
			r.To = []byte(keyGen.Draw(rt, "to"))
		}
		reverse := rapid.Bool().Draw(rt, "reverse")
		var want []string
		for _, k := range slices.Sorted(maps.Keys(model)) {
			if k >= string(r.From) && k < string(r.To) {
				want = append(want, k+"="+model[k])
			}
		}
		if reverse {
			slices.Reverse(want)
		}
		require.NoError(rt, s.View(ctx, func(rd kv.Reader) error {
			got, err := collect(rd, r, kv.ScanOptions{Reverse: reverse})
			require.Equal(rt, want, got)
			return err
		}))
	})
}

func testScanOwnWrites(t *testing.T, s kv.Store) {
	set(t, s, "a", "1", "c", "3")
	require.NoError(t, s.View(context.Background(), func(r kv.Reader) error {
		got, err := collect(r, kv.Range{From: []byte("c"), To: []byte("a")}, kv.ScanOptions{})
		require.Empty(t, got, "a range that ends before it begins")
		return err
	}))
	require.NoError(t, s.Update(context.Background(), func(tx kv.Txn) error {
		require.NoError(t, tx.Set([]byte("b"), []byte("2")))
		require.NoError(t, tx.Delete([]byte("c")))
		got, err := collect(tx, kv.Range{}, kv.ScanOptions{})
		require.Equal(t, []string{"a=1", "b=2"}, got)
		require.NoError(t, err)
		got, err = collect(tx, kv.Range{}, kv.ScanOptions{Reverse: true, KeysOnly: true})
		require.Equal(t, []string{"b", "a"}, got)
		for range tx.Scan(kv.Range{}, kv.ScanOptions{}) {
			break
		}
		return err
	}))
}

func testSnapshot(t *testing.T, s kv.Store) {
	set(t, s, "a", "1")
	require.NoError(t, s.View(context.Background(), func(r kv.Reader) error {
		set(t, s, "a", "2", "b", "2")
		got, err := collect(r, kv.Range{}, kv.ScanOptions{})
		require.Equal(t, []string{"a=1"}, got)
		return err
	}))
	v, _ := get(t, s, "a")
	require.Equal(t, "2", v)
}

func testRollback(t *testing.T, s kv.Store) {
	boom := errors.New("boom")
	err := s.Update(context.Background(), func(tx kv.Txn) error {
		require.NoError(t, tx.Set([]byte("a"), []byte("1")))
		return boom
	})
	require.ErrorIs(t, err, boom)
	_, ok := get(t, s, "a")
	require.False(t, ok)
}

func testCounter(t *testing.T, s kv.Store) {
	const workers, each = 8, 50
	var wg sync.WaitGroup
	errs := make(chan error, workers)
	for range workers {
		wg.Go(func() {
			for range each {
				err := s.Update(context.Background(), func(tx kv.Txn) error {
					var n uint64
					if v, err := tx.Get([]byte("n")); err == nil {
						n = binary.BigEndian.Uint64(v)
					} else if !errors.Is(err, kv.ErrNotFound) {
						return err
					}
					return tx.Set([]byte("n"), binary.BigEndian.AppendUint64(nil, n+1))
				})
				if err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		require.NoError(t, err)
	}
	v, _ := get(t, s, "n")
	require.EqualValues(t, workers*each, binary.BigEndian.Uint64([]byte(v)))
}

// testWriteSkew lets two transactions each clear one of two flags only if the other is still set:
// under serial execution one flag always remains. The missing key is the harder half, since there
// is no record to watch.
func testWriteSkew(t *testing.T, s kv.Store) {
	for round := range 20 {
		a, b := fmt.Appendf(nil, "a%d", round), fmt.Appendf(nil, "b%d", round)
		var both sync.WaitGroup
		both.Add(2)
		clear := func(mine, other []byte) {
			first := true
			_ = s.Update(context.Background(), func(tx kv.Txn) error {
				taken, err := tx.Has(other)
				if first {
					first = false
					both.Done()
					both.Wait() // both have read before either writes
				}
				if err != nil || taken {
					return err
				}
				return tx.Set(mine, []byte("taken"))
			})
		}
		var wg sync.WaitGroup
		wg.Go(func() { clear(a, b) })
		wg.Go(func() { clear(b, a) })
		wg.Wait()
		_, hasA := get(t, s, string(a))
		_, hasB := get(t, s, string(b))
		require.True(t, hasA != hasB, "exactly one may win")
	}
}

// testTransfers moves amounts between accounts, in transactions that read some more of them, by
// scans, too, while others look at the sum of all.
func testTransfers(t *testing.T, s kv.Store) {
	const accounts, workers, each, amount = 12, 6, 120, 1000
	ctx := context.Background()
	key := func(i int) []byte { return fmt.Appendf(nil, "a%02d", i) }
	number := func(b []byte) uint64 { return binary.BigEndian.Uint64(b) }
	require.NoError(t, s.Batch(ctx, func(w kv.Writer) error {
		for i := range accounts {
			if err := w.Set(key(i), binary.BigEndian.AppendUint64(nil, amount)); err != nil {
				return err
			}
		}
		return nil
	}))
	sum := func(r kv.Reader) (total uint64, err error) {
		for p, err := range r.Scan(kv.Prefix([]byte("a")), kv.ScanOptions{}) {
			if err != nil {
				return 0, err
			}
			total += number(p.Value)
		}
		return total, nil
	}
	var wg sync.WaitGroup
	errs := make(chan error, 2*workers)
	for w := range workers {
		rng := rand.New(rand.NewPCG(uint64(w), 0))
		wg.Go(func() {
			for range each {
				from, to, whole := rng.IntN(accounts), rng.IntN(accounts), rng.IntN(8) == 0
				errs <- s.Update(ctx, func(tx kv.Txn) error {
					if whole {
						if total, err := sum(tx); err != nil || total != accounts*amount {
							return errors.Join(err, fmt.Errorf("a transaction sees a sum of %d", total))
						}
					}
					a, err := tx.Get(key(from))
					if err != nil {
						return err
					}
					have := number(a)
					if from == to || have == 0 {
						return nil
					}
					b, err := tx.Get(key(to))
					if err != nil {
						return err
					}
					some := have/2 + 1
					if err := tx.Set(key(from), binary.BigEndian.AppendUint64(nil, have-some)); err != nil {
						return err
					}
					return tx.Set(key(to), binary.BigEndian.AppendUint64(nil, number(b)+some))
				})
			}
		})
		wg.Go(func() {
			for range each {
				errs <- s.View(ctx, func(r kv.Reader) error {
					if total, err := sum(r); err != nil || total != accounts*amount {
						return errors.Join(err, fmt.Errorf("a view sees a sum of %d", total))
					}
					return nil
				})
			}
		})
	}
	go func() {
		wg.Wait()
		close(errs)
	}()
	for err := range errs {
		require.NoError(t, err)
	}
}

func testBatch(t *testing.T, s kv.Store) {
	const n = 60_000 // more than one transaction of a backend holds
	require.NoError(t, s.Batch(context.Background(), func(w kv.Writer) error {
		for i := range n {
			if err := w.Set(fmt.Appendf(nil, "k%06d", i), fmt.Appendf(nil, "v%d", i)); err != nil {
				return err
			}
		}
		return nil
	}))
	require.NoError(t, s.View(context.Background(), func(r kv.Reader) error {
		i := 0
		for p, err := range r.Scan(kv.Range{}, kv.ScanOptions{}) {
			if err != nil {
				return err
			}
			if want := fmt.Sprintf("k%06d=v%d", i, i); want != string(p.Key)+"="+string(p.Value) {
				return fmt.Errorf("pair %d is %s=%s", i, p.Key, p.Value)
			}
			i++
		}
		require.Equal(t, n, i)
		return nil
	}))
	require.NoError(t, s.Batch(context.Background(), func(w kv.Writer) error {
		return w.Delete([]byte("k000000"))
	}))
	_, ok := get(t, s, "k000000")
	require.False(t, ok)
}

func testSync(t *testing.T, s kv.Store) {
	var wg sync.WaitGroup
	errs := make(chan error, 32)
	for i := range 32 {
		wg.Go(func() {
			err := s.Update(context.Background(), func(tx kv.Txn) error {
				return tx.Set(fmt.Appendf(nil, "s%d", i), nil)
			})
			errs <- errors.Join(err, s.Sync(context.Background()))
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		require.NoError(t, err)
	}
}

func testCompact(t *testing.T, s kv.Store) {
	ctx := context.Background()
	count := testkit.Few(300, 30)
	value := bytes.Repeat([]byte("v"), 100_000) // some backends keep long values apart
	for round := range 3 {
		require.NoError(t, s.Batch(ctx, func(w kv.Writer) error {
			for i := range count {
				k := fmt.Appendf(nil, "c%03d", i)
				if i%3 == round {
					if err := w.Delete(k); err != nil {
						return err
					}
					continue
				}
				if err := w.Set(k, append(fmt.Appendf(nil, "%d ", round), value...)); err != nil {
					return err
				}
			}
			return nil
		}))
		require.NoError(t, s.Compact(ctx))
	}
	require.NoError(t, s.View(ctx, func(r kv.Reader) error {
		for i := range count {
			v, err := r.Get(fmt.Appendf(nil, "c%03d", i))
			if i%3 == 2 {
				require.ErrorIs(t, err, kv.ErrNotFound)
				continue
			}
			require.NoError(t, err)
			require.Equal(t, "2 v", string(v[:3]))
		}
		return nil
	}))
}

func testCancelledAndClosed(t *testing.T, s kv.Store) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	nop := func(kv.Txn) error { return nil }
	require.ErrorIs(t, s.Update(ctx, nop), context.Canceled)
	require.ErrorIs(t, s.View(ctx, func(kv.Reader) error { return nil }), context.Canceled)
	require.NoError(t, s.Close())
	require.NoError(t, s.Close(), "closing twice is harmless")
	require.ErrorIs(t, s.Update(context.Background(), nop), kv.ErrClosed)
	require.ErrorIs(t, s.View(context.Background(), func(kv.Reader) error {
		return nil
	}), kv.ErrClosed)
}

// Close waits for a reader, which still gets what it has begun to read; others come too late.
func testCloseWaits(t *testing.T, s kv.Store) {
	ctx := context.Background()
	const count = 1000
	value := bytes.Repeat([]byte{7}, 32<<10) // in all more than stays in memory
	require.NoError(t, s.Batch(ctx, func(w kv.Writer) error {
		for i := range count {
			if err := w.Set(fmt.Appendf(nil, "k%06d", i), value); err != nil {
				return err
			}
		}
		return nil
	}))
	closed := make(chan error, 1)
	require.NoError(t, s.View(ctx, func(r kv.Reader) error {
		for p, err := range r.Scan(kv.Range{}, kv.ScanOptions{}) {
			if err != nil {
				return err
			}
			go func() { closed <- s.Close() }()
			for err := error(nil); !errors.Is(err, kv.ErrClosed); runtime.Gosched() {
				err = s.View(ctx, func(kv.Reader) error { return nil })
			}
			for range testkit.Few(20, 3) { // long enough for a Close that does not wait
				if err := readAll(r, count, value); err != nil {
					return err
				}
			}
			require.Equal(t, value, p.Value)
			break
		}
		require.Empty(t, closed, "the reader is not done")
		return nil
	}))
	require.NoError(t, <-closed)
}

// readAll returns an error unless there are so many pairs, all with that value.
func readAll(r kv.Reader, count int, value []byte) error {
	n := 0
	for p, err := range r.Scan(kv.Range{}, kv.ScanOptions{}) {
		if err != nil {
			return err
		}
		if !bytes.Equal(value, p.Value) {
			return fmt.Errorf("key %q has another value", p.Key)
		}
		n++
	}
	if n != count {
		return fmt.Errorf("%d pairs of %d", n, count)
	}
	return nil
}
