package replica

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/skerry-sync/skerry/kv"
)

func TestLimitsOfKeys(t *testing.T) {
	s := newStore(t, newClock())
	id := hold(t, s, testKey(1), Write)
	for _, n := range []int{0, 1, 511, 512, 513, 1024, 1025, MaxKey} {
		for _, fill := range []string{"x", "\x00", "\xff"} {
			key := strings.Repeat(fill, n)
			write(t, s, id, testKey(2), key, "v"+fill)
			e, err := s.LatestOf(bg, id, []byte(key))
			require.NoError(t, err, "length %d", n)
			require.Equal(t, key, string(e.Key))
		}
	}
	_, err := s.Write(bg, id, testKey(2), []Change{change(strings.Repeat("x", MaxKey+1), "v")})
	require.ErrorIs(t, err, ErrKeyTooLong)
}

// keyGen draws keys that share long prefixes and cross the edges of the stored pieces.
var keyGen = rapid.Custom(func(t *rapid.T) string {
	head := strings.Repeat(rapid.SampledFrom([]string{"a", "\x00", "\xff"}).Draw(t, "fill"),
		rapid.SampledFrom([]int{0, 1, 510, 511, 512, 513, 1023, 1024, 1025, 1600}).Draw(t, "length"))
	return head + string(
		rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 2, 'a', 0xff}), 0, 3).Draw(t, "tail"),
	)
})

// Every walk over any range, both ways, gives the entries in the order of (key, author).
func TestWalkAgainstSortedList(t *testing.T) {
	type item struct {
		key    string
		author AuthorID
	}
	c := newClock()
	rapid.Check(t, func(rt *rapid.T) {
		s := newStore(rt, c)
		id := hold(rt, s, testKey(1), Write)
		authors := []SecretKey{testKey(2), testKey(3)}
		var model []item
		for range rapid.IntRange(1, 25).Draw(rt, "entries") {
			it := item{keyGen.Draw(rt, "key"), rapid.SampledFrom(authors).Draw(rt, "author").Author()}
			for _, a := range authors {
				if a.Author() == it.author {
					write(rt, s, id, a, it.key, "v")
				}
			}
			model = append(model, it)
		}
		slices.SortFunc(model, func(a, b item) int {
			if x := strings.Compare(a.key, b.key); x != 0 {
				return x
			}
			return bytes.Compare(a.author[:], b.author[:])
		})
		model = slices.Compact(model)
		bound := func(label string) []byte {
			it := rapid.SampledFrom(model).Draw(rt, label)
			o := orderBytes([]byte(it.key), it.author)
			o = o[:rapid.IntRange(0, len(o)).Draw(rt, label+" cut")]
			if rapid.Bool().Draw(rt, label+" more") {
				o = append(o, rapid.Byte().Draw(rt, label+" byte"))
			}
			return o
		}
		r := kv.Range{From: bound("from")}
		if rapid.Bool().Draw(rt, "to?") {
			r.To = bound("to")
		}
		reverse := rapid.Bool().Draw(rt, "reverse")
		var want, got []item
		for _, it := range model {
			o := orderBytes([]byte(it.key), it.author)
			if bytes.Compare(o, r.From) >= 0 && (r.To == nil || bytes.Compare(o, r.To) < 0) {
				want = append(want, it)
			}
		}
		if reverse {
			slices.Reverse(want)
		}
		require.NoError(rt, s.kv.View(bg, func(rd kv.Reader) error {
			held, err := getReplica(rd, id)
			require.NoError(rt, err)
			return walk(rd, held.number, r, reverse, func(key []byte, author AuthorID, _ []byte) bool {
				got = append(got, item{string(key), author})
				return true
			})
		}))
		require.Equal(rt, want, got)

		prefix := keyGen.Draw(rt, "prefix")
		var wantKeys []string
		for _, it := range model {
			if strings.HasPrefix(it.key, prefix) {
				wantKeys = append(wantKeys, it.key)
			}
		}
		require.Equal(rt, wantKeys, keysOf(collect(rt, s.Entries(bg, id, Query{Prefix: []byte(prefix)}))))
		require.NoError(rt, s.Leave(bg, id))
		require.Zero(rt, countRecords(rt, s), "leaving erases everything")
		require.NoError(rt, s.kv.Close())
	})
}

func countRecords(t require.TestingT, s *Store) (n int) {
	require.NoError(t, s.kv.View(bg, func(r kv.Reader) error {
		for p, err := range r.Scan(kv.Prefix([]byte("r")), kv.ScanOptions{KeysOnly: true}) {
			if err != nil {
				return err
			}
			if string(p.Key) != keyNextNumber {
				n++
			}
		}
		return nil
	}))
	return n
}

// By prefix, author and time.
func TestQueries(t *testing.T) {
	c := newClock()
	s := newStore(t, c)
	id := hold(t, s, testKey(1), Write)
	start := c.t
	alice, bob := testKey(2), testKey(3)
	for i, key := range []string{"p/3", "p/1", "q/2", "p/2"} {
		c.t = start.Add(time.Duration(i) * time.Second)
		write(t, s, id, []SecretKey{alice, bob}[i%2], key, key)
	}
	c.t = start.Add(10 * time.Second)
	write(t, s, id, alice, "p/3", "again") // replaces the first: the index must follow
	a := alice.Author()
	for name, tc := range map[string]struct {
		q    Query
		want []string
	}{
		"by key":         {Query{}, []string{"p/1", "p/2", "p/3", "q/2"}},
		"prefix":         {Query{Prefix: []byte("p/")}, []string{"p/1", "p/2", "p/3"}},
		"key":            {Query{Key: []byte("p/2")}, []string{"p/2"}},
		"author":         {Query{Author: &a}, []string{"p/3", "q/2"}},
		"by time":        {Query{ByTime: true}, []string{"p/1", "q/2", "p/2", "p/3"}},
		"latest first":   {Query{ByTime: true, Reverse: true, Limit: 2}, []string{"p/3", "p/2"}},
		"author by time": {Query{ByTime: true, Author: &a}, []string{"q/2", "p/3"}},
		"since": {Query{
			ByTime: true, Since: start.Add(2 * time.Second),
		}, []string{"q/2", "p/2", "p/3"}},
		"until": {Query{ByTime: true, Until: start.Add(2 * time.Second)}, []string{"p/1"}},
		"between, by key": {Query{
			Since: start.Add(time.Second), Until: start.Add(4 * time.Second),
		}, []string{"p/1", "p/2", "q/2"}},
		"prefix by time": {Query{ByTime: true, Prefix: []byte("p/"), Limit: 2}, []string{"p/1", "p/2"}},
		"nothing":        {Query{Prefix: []byte("z")}, nil},
	} {
		require.Equal(t, tc.want, keysOf(collect(t, s.Entries(bg, id, tc.q))), name)
	}
}
