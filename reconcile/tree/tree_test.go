package tree

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"lukechampine.com/blake3"
	"pgregory.net/rapid"

	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/kv/pebble"
	"github.com/skerry-sync/skerry/reconcile"
)

// set is a set with a tree in a store: an item is its key and a version, and a key is its own
// bound, but for a last byte.
type set struct {
	kv    kv.Store
	tree  Tree
	items map[string]uint64
}

func newSet(t testing.TB) *set {
	store, err := pebble.Open("", pebble.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	return emptySet(store)
}

func emptySet(store kv.Store) *set {
	s := &set{kv: store, items: map[string]uint64{}}
	s.tree = Tree{Prefix: []byte("t"), Items: scanItems, Bound: func(key []byte) []byte {
		if bytes.HasPrefix(key, []byte("unbound")) {
			return nil
		}
		return key[:len(key)-1]
	}}
	return s
}

func markOf(key string, version uint64) reconcile.Mark {
	h := blake3.Sum256(binary.BigEndian.AppendUint64([]byte(key), version))
	return reconcile.Mark{ID: h, Element: reconcile.Element(h[16:])}
}

func scanItems(rd kv.Reader, r reconcile.Range) iter.Seq2[Item, error] {
	span := kv.Range{From: append([]byte("i"), r.From...), To: append([]byte("i"), r.To...)}
	if len(r.To) == 0 {
		span.To = kv.After([]byte("i"))
	}
	return func(yield func(Item, error) bool) {
		for p, err := range rd.Scan(span, kv.ScanOptions{}) {
			if err != nil {
				yield(Item{}, err)
				return
			}
			key := p.Key[1:]
			if !yield(Item{key, markOf(string(key), binary.BigEndian.Uint64(p.Value))}, nil) {
				return
			}
		}
	}
}

// put gives keys new versions; version 0 removes.
func (s *set) put(t require.TestingT, changes map[string]uint64) {
	ctx := context.Background()
	var list []Change
	require.NoError(t, s.kv.Update(ctx, func(tx kv.Txn) error {
		list = nil
		for _, key := range slices.Sorted(maps.Keys(changes)) {
			c := Change{Key: []byte(key)}
			if old, ok := s.items[key]; ok {
				m := markOf(key, old)
				c.Remove = &m
			}
			at := append([]byte("i"), key...)
			if v := changes[key]; v > 0 {
				m := markOf(key, v)
				c.Add = &m
				if err := tx.Set(at, binary.BigEndian.AppendUint64(nil, v)); err != nil {
					return err
				}
			} else if err := tx.Delete(at); err != nil {
				return err
			}
			list = append(list, c)
		}
		return s.kv.View(ctx, func(rd kv.Reader) error { return s.tree.Apply(rd, tx, list) })
	}))
	for key, v := range changes {
		if v > 0 {
			s.items[key] = v
		} else {
			delete(s.items, key)
		}
	}
}

func (s *set) view(t require.TestingT, fn func(rd kv.Reader) error) {
	require.NoError(t, s.kv.View(context.Background(), fn))
}

func (s *set) sum(from, to string) (sum reconcile.Summary) {
	for key, v := range s.items {
		if key >= from && (to == "" || key < to) {
			sum.Add(markOf(key, v))
		}
	}
	return sum
}

// sameSum is require.Equal without two pages of numbers.
func sameSum(t require.TestingT, want, got reconcile.Summary) {
	require.Equal(t, want.Count, got.Count)
	require.True(t, want == got, "sums of %d items differ", got.Count)
}

func sameRecords(t require.TestingT, want, got map[string]string) {
	require.Len(t, got, len(want))
	for k := range want {
		require.True(t, want[k] == got[k], "record %q", k)
	}
}

func (s *set) verify(t require.TestingT) {
	s.view(t, func(rd kv.Reader) error {
		total, err := s.tree.Verify(rd)
		if err == nil {
			sameSum(t, s.sum("", ""), total)
		}
		return err
	})
}

// records returns the tree as it is stored.
func (s *set) records(t require.TestingT) map[string]string {
	m := map[string]string{}
	s.view(t, func(rd kv.Reader) error {
		for p, err := range rd.Scan(kv.Prefix(s.tree.Prefix), kv.ScanOptions{}) {
			if err != nil {
				return err
			}
			m[string(p.Key)] = string(p.Value)
		}
		return nil
	})
	return m
}

// rebuilt returns the tree that Build makes of the same items.
func (s *set) rebuilt(t require.TestingT) map[string]string {
	ctx := context.Background()
	other := emptySet(s.kv)
	other.tree.Prefix = []byte("u")
	s.view(t, func(rd kv.Reader) error {
		return s.kv.Batch(ctx, func(w kv.Writer) error {
			if err := other.tree.Erase(rd, w); err != nil {
				return err
			}
			return other.tree.Build(rd, w)
		})
	})
	m := map[string]string{}
	for k, v := range other.records(t) {
		m["t"+k[1:]] = v
	}
	return m
}

// pool has keys of every level up to 3, so that a few of them make a tall tree.
var pool = sync.OnceValue(func() (keys []string) {
	have := map[int]int{}
	for i := range 300_000 {
		key := fmt.Sprintf("%x", blake3.Sum256(binary.BigEndian.AppendUint64(nil, uint64(i))))[:8]
		if l := levelOf([]byte(key)); have[l] < 60 {
			have[l]++
			keys = append(keys, key+"\x00", key+"\x01")
		}
	}
	return keys
})

func drawKey(t *rapid.T) string {
	switch rapid.IntRange(0, 3).Draw(t, "kind") {
	case 0:
		return fmt.Sprintf(
			"%c%d\x00", 'a'+rapid.IntRange(0, 3).Draw(t, "letter"), rapid.IntRange(0, 400).Draw(t, "number"),
		)
	case 1:
		return fmt.Sprintf("unbound%d", rapid.IntRange(0, 30).Draw(t, "number"))
	}
	return rapid.SampledFrom(pool()).Draw(t, "key")
}

// After any changes, in any batches, the tree is the one that the items alone would give, and
// answers like a scan.
func TestTreeProperty(t *testing.T) {
	store, err := pebble.Open("", pebble.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	rapid.Check(t, func(t *rapid.T) {
		s := emptySet(store)
		defer func() {
			require.NoError(t, store.Batch(context.Background(), func(w kv.Writer) error {
				return store.View(context.Background(), func(rd kv.Reader) error {
					for p, err := range rd.Scan(kv.Range{}, kv.ScanOptions{KeysOnly: true}) {
						if err := firstOf(err, w.Delete(bytes.Clone(p.Key))); err != nil {
							return err
						}
					}
					return nil
				})
			}))
		}()
		removed := false
		for range rapid.IntRange(0, 8).Draw(t, "batches") {
			changes := map[string]uint64{}
			for range rapid.IntRange(1, 60).Draw(t, "changes") {
				v := rapid.Uint64Range(0, 5).Draw(t, "version")
				changes[drawKey(t)] = v
				removed = removed || v == 0
			}
			s.put(t, changes)
		}
		if len(s.items) > 0 {
			s.verifyUnlessRemoved(t, removed)
		}
		bounds := [][]byte{nil}
		for range rapid.IntRange(0, 8).Draw(t, "bounds") {
			key := drawKey(t)
			bounds = append(bounds, []byte(key[:rapid.IntRange(1, len(key)).Draw(t, "length")]))
		}
		slices.SortFunc(bounds, bytes.Compare)
		bounds = slices.CompactFunc(bounds, bytes.Equal)
		if rapid.Bool().Draw(t, "end") && len(bounds) > 2 {
			bounds = bounds[1:]
		} else {
			bounds = append(bounds, nil)
		}
		k := rapid.IntRange(2, 20).Draw(t, "k")
		s.view(t, func(rd kv.Reader) error {
			if _, err := s.tree.Height(rd); err != nil {
				require.ErrorIs(t, err, ErrNoTree)
				require.Empty(t, s.items)
				return nil
			}
			sums, err := s.tree.Summaries(rd, bounds)
			for i := range sums {
				sameSum(t, s.sum(string(bounds[i]), string(bounds[i+1])), sums[i])
			}
			if err != nil {
				return err
			}
			r := reconcile.Range{From: bounds[0], To: bounds[len(bounds)-1]}
			parts, err := s.tree.Split(rd, r, k)
			if err != nil {
				return err
			}
			require.LessOrEqual(t, len(parts), k)
			if whole := s.sum(string(r.From), string(r.To)); whole.Count > 1 {
				require.Greater(t, len(parts), 1, "or a session would never end")
			}
			require.Equal(t, r.From, parts[0].From)
			require.Equal(t, r.To, parts[len(parts)-1].To)
			for i, p := range parts {
				if i > 0 {
					require.Equal(t, parts[i-1].To, p.From)
				}
				require.True(t, len(p.To) == 0 ||
					bytes.Compare(p.From, p.To) < 0, "%q %q of %q", p.From, p.To, bounds)
				sameSum(t, s.sum(string(p.From), string(p.To)), p.Summary)
			}
			return nil
		})
	})
}

func firstOf(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

func (s *set) verifyUnlessRemoved(t *rapid.T, removed bool) {
	s.verify(t)
	if !removed { // a last key and a bound may outlive their item
		sameRecords(t, s.rebuilt(t), s.records(t))
	}
}

func bigSet(t testing.TB, n int, order func(keys []string)) *set {
	s := newSet(t)
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprintf(
			"%x", blake3.Sum256(binary.BigEndian.AppendUint64(nil, uint64(i))),
		)[:11] + "\x00"
	}
	order(keys)
	for batch := range slices.Chunk(keys, 700) {
		changes := map[string]uint64{}
		for _, k := range batch {
			changes[k] = 1
		}
		s.put(t, changes)
	}
	return s
}

// The order in which items come does not matter.
func TestOrderDoesNotMatter(t *testing.T) {
	const n = 12_000
	sorted := bigSet(t, n, slices.Sort)
	shuffled := bigSet(t, n, func(k []string) {
		rand.Shuffle(len(k), func(i, j int) { k[i], k[j] = k[j], k[i] })
	})
	sameRecords(t, sorted.records(t), shuffled.records(t))
	sameRecords(t, sorted.rebuilt(t), sorted.records(t))
	sorted.verify(t)
	sorted.view(t, func(rd kv.Reader) error {
		h, err := sorted.tree.Height(rd)
		require.GreaterOrEqual(t, h, 2)
		return err
	})
}

// Somebody who chooses keys that are never bounds does not get nodes of any size.
func TestCrowdedNodesAreCut(t *testing.T) {
	for _, name := range []string{"up", "down", "random"} {
		t.Run(name, func(t *testing.T) {
			var keys []string
			for i := 0; len(keys) < 6000; i++ {
				if k := fmt.Sprintf("%08d", i); levelOf([]byte(k)) == 0 {
					keys = append(keys, k+"\x00")
				}
			}
			switch name {
			case "down":
				slices.Reverse(keys)
			case "random":
				rand.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
			}
			s := newSet(t)
			for batch := range slices.Chunk(keys, 100) {
				changes := map[string]uint64{}
				for _, k := range batch {
					changes[k] = 1
				}
				s.put(t, changes)
			}
			s.verify(t)
			for k, v := range s.records(t) {
				if k[1] == nodes && k[2] == 1 {
					n, err := parseNode(nil, []byte(v))
					require.NoError(t, err)
					require.LessOrEqual(t, n.sum.Count, uint64(crowded<<fanoutLog+100))
				}
			}
		})
	}
}

// Verify names what is wrong, whatever that is.
func TestVerifyFindsFaults(t *testing.T) {
	s := bigSet(t, 3000, slices.Sort)
	s.verify(t)
	ctx := context.Background()
	records := s.records(t)
	height := int(records["t\x00"][1])
	rng := rand.New(rand.NewPCG(1, 2))
	for key, value := range records {
		faults := []string{"", "shifted"}
		switch key[1] {
		case top:
			faults = faults[:1]
		case nodes:
			faults = []string{"", value[:len(value)-1], "flipped", "shifted"}
			// the first node of a level, which is not the last but on the top level
			if len(key) == len("t")+2 {
				faults = append(faults, value[:reconcile.SummarySize-1])
				if int(key[2]) < height {
					faults = append(faults, value[:reconcile.SummarySize]+"\xff")
				}
			}
		}
		for _, broken := range faults {
			require.NoError(t, s.kv.Update(ctx, func(tx kv.Txn) error {
				switch broken {
				case "":
					return tx.Delete([]byte(key))
				case "flipped":
					b := []byte(value)
					b[rng.IntN(reconcile.SummarySize)] ^= 1 << rng.IntN(8)
					return tx.Set([]byte(key), b)
				case "shifted":
					return tx.Set([]byte(key+"\x01"), []byte(value))
				}
				return tx.Set([]byte(key), []byte(broken))
			}))
			s.view(t, func(rd kv.Reader) error {
				_, err := s.tree.Verify(rd)
				if key == "t\x00" {
					require.ErrorIs(t, err, ErrNoTree)
					return nil
				}
				var fault *Fault
				require.ErrorAs(t, err, &fault, "%q %q", key, broken[:min(len(broken), 7)])
				return nil
			})
			require.NoError(t, s.kv.Update(ctx, func(tx kv.Txn) error {
				if err := tx.Delete([]byte(key + "\x01")); err != nil {
					return err
				}
				return tx.Set([]byte(key), []byte(value))
			}))
		}
	}
	s.verify(t)
}

// Golden: what is stored never changes its meaning.
func TestRecordGolden(t *testing.T) {
	s := newSet(t)
	s.put(t, map[string]uint64{"ab": 1, "cd": 2})
	records := s.records(t)
	require.Equal(t, "\x01\x01", records["t\x00"])
	require.Equal(t, "", records["t\x01\x01"])
	require.Len(t, records, 3)
	h := blake3.Sum256([]byte(records["t\x02\x01"]))
	require.Equal(t, "69d4a1a0b53fd9cc", fmt.Sprintf("%x", h[:8]))
}

func BenchmarkApply(b *testing.B) {
	for _, order := range []string{"ascending", "random"} {
		for _, batch := range []int{1, 1024} {
			b.Run(fmt.Sprintf("%s/batch=%d", order, batch), func(b *testing.B) {
				store, err := pebble.Open(b.TempDir(), pebble.Options{})
				require.NoError(b, err)
				defer store.Close()
				s := emptySet(store)
				at := uint64(0)
				add := func(n int) {
					changes := map[string]uint64{}
					for range n {
						at++
						k := fmt.Sprintf("%012d\x00", at)
						if order == "random" {
							k = fmt.Sprintf("%016x\x00", rand.Uint64())
						}
						changes[k] = 1
					}
					s.put(b, changes)
				}
				for range 200 {
					add(1024)
				}
				b.ResetTimer()
				for done := 0; done < b.N; done += batch {
					add(min(batch, b.N-done))
				}
			})
		}
	}
}
