package reconcile

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"lukechampine.com/blake3"
	"pgregory.net/rapid"

	"github.com/skerry-sync/skerry/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memorySet maps keys to versions; the item's data is both, and a greater version replaces a
// smaller one.
type memorySet struct {
	mu   sync.Mutex
	keys []string
	m    map[string]uint64
}

func newMemorySet(m map[string]uint64) *memorySet {
	s := &memorySet{keys: slices.Sorted(maps.Keys(m)), m: map[string]uint64{}}
	maps.Copy(s.m, m)
	return s
}

func markOf(data []byte) Mark {
	h := blake3.Sum256(data)
	m := Mark{ID: h, Element: Element(h[:])}
	if bytes.Contains(data, []byte("twin")) { // chosen so that sketches do not show it
		m.Element = Element{1}
	}
	return m
}

func encodeItem(key string, version uint64) []byte {
	return append(binary.BigEndian.AppendUint64(nil, version), key...)
}

func (s *memorySet) items(_ context.Context, r Range) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		s.mu.Lock()
		keys := s.keys
		s.mu.Unlock()
		i, _ := slices.BinarySearch(keys, string(r.From))
		for ; i < len(keys) && r.Contains([]byte(keys[i])); i++ {
			s.mu.Lock()
			data := encodeItem(keys[i], s.m[keys[i]])
			s.mu.Unlock()
			if !yield(Item{Key: []byte(keys[i]), Mark: markOf(data), Data: data}, nil) {
				return
			}
		}
	}
}

func (s *memorySet) insert(_ context.Context, items [][]byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range items {
		if len(b) < 8 {
			return errors.New("bad item")
		}
		key, version := string(b[8:]), binary.BigEndian.Uint64(b)
		s.m[key] = max(s.m[key], version)
	}
	if len(s.m) > len(s.keys) {
		s.keys = slices.Sorted(maps.Keys(s.m)) // a new slice: iterations go on over the old one
	}
	return nil
}

func (s *memorySet) config(initiator bool) Config {
	return Config{Set: Scanned(s.items), Insert: s.insert, Key: [32]byte{7}, Initiator: initiator}
}

// sync runs one session between two sets over a pipe.
func syncSets(t require.TestingT, a, b *memorySet) (sa, sb Stats) {
	ca, cb := net.Pipe()
	defer ca.Close()
	defer cb.Close()
	done := make(chan error, 1)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	go func() {
		var err error
		sb, err = Run(ctx, bufio.NewReader(cb), cb, func() { cb.Close() }, b.config(false))
		done <- err
	}()
	sa, err := Run(ctx, bufio.NewReader(ca), ca, func() { ca.Close() }, a.config(true))
	require.NoError(t, err)
	require.NoError(t, <-done)
	return sa, sb
}

// After a session both sides have the union, with the greater version of each key.
func TestSessionProperty(t *testing.T) {
	keyGen := rapid.Custom(func(t *rapid.T) string {
		return string(rapid.SliceOfN(rapid.ByteRange(0, 5), 0, 5).Draw(t, "key"))
	})
	rapid.Check(t, func(t *rapid.T) {
		common := rapid.MapOfN(keyGen, rapid.Uint64Range(0, 3), 0, 300).Draw(t, "common")
		ma, mb := maps.Clone(common), maps.Clone(common)
		maps.Copy(ma, rapid.MapOfN(keyGen, rapid.Uint64Range(0, 3), 0, 40).Draw(t, "a"))
		maps.Copy(mb, rapid.MapOfN(keyGen, rapid.Uint64Range(0, 3), 0, 40).Draw(t, "b"))
		if rapid.IntRange(0, 5).Draw(t, "empty") == 0 {
			mb = map[string]uint64{}
		}
		a, b := newMemorySet(ma), newMemorySet(mb)
		syncSets(t, a, b)
		want := maps.Clone(ma)
		for k, v := range mb {
			want[k] = max(want[k], v)
		}
		require.Equal(t, want, a.m)
		require.Equal(t, want, b.m)
		sa, _ := syncSets(t, a, b)
		require.Zero(t, sa.ItemsSent+sa.ItemsReceived, "the second session finds nothing")
		require.Equal(t, 1, sa.Rounds)
	})
}

func numbered(n int) map[string]uint64 {
	m := make(map[string]uint64, n)
	for i := range n {
		id := blake3.Sum256(binary.BigEndian.AppendUint64(nil, uint64(i)))
		m[string(id[:])] = 1
	}
	return m
}

// The cost grows with the difference, not with the sets.
func TestOneDifferenceIsCheap(t *testing.T) {
	m := numbered(testkit.Few(20_000, 4000))
	a := newMemorySet(m)
	m["one more"] = 1
	b := newMemorySet(m)
	sa, _ := syncSets(t, a, b)
	require.Equal(t, b.m, a.m)
	require.EqualValues(t, 1, sa.ItemsReceived)
	require.Zero(t, sa.ItemsSent)
	require.Less(t, sa.BytesSent+sa.BytesReceived, uint64(4000))
	require.LessOrEqual(t, sa.Rounds, 4)
}

// Whoever chooses elements can make sketches lie. What they hide is found all the same, in the same
// session.
func TestSketchesThatLie(t *testing.T) {
	many := testkit.Few(5000, 1000)
	for _, others := range []int{0, 1, 3} {
		m := numbered(many)
		a, b := newMemorySet(m), newMemorySet(m)
		extra := map[string]uint64{"twin of a": 1}
		for i := range others {
			extra[fmt.Sprintf("honest %d", i)] = 1
		}
		require.NoError(t, a.insert(t.Context(), encoded(extra)))
		require.NoError(t, b.insert(t.Context(), encoded(map[string]uint64{"twin of b": 1})))
		syncSets(t, a, b)
		require.Equal(t, a.m, b.m)
		require.Len(t, a.m, many+2+others)
	}
}

func encoded(m map[string]uint64) (items [][]byte) {
	for k, v := range m {
		items = append(items, encodeItem(k, v))
	}
	return items
}

// A session of a range leaves everything outside of it alone.
func TestRangeSession(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.SampledFrom(
			[]string{"a", "photos", "photos/", "photos/1", "photos/2/x", "photos0", "z"},
		)
		a := newMemorySet(rapid.MapOf(key, rapid.Uint64Range(1, 3)).Draw(t, "a"))
		b := newMemorySet(rapid.MapOf(key, rapid.Uint64Range(1, 3)).Draw(t, "b"))
		r := Range{[]byte("photos/"), []byte("photos0")}
		wantA, wantB := maps.Clone(a.m), maps.Clone(b.m)
		for _, m := range []map[string]uint64{a.m, b.m} {
			for k, v := range m {
				if r.Contains([]byte(k)) {
					wantA[k], wantB[k] = max(wantA[k], v), max(wantB[k], v)
				}
			}
		}
		ca, cb := net.Pipe()
		done := make(chan error, 1)
		go func() {
			cfg := b.config(false)
			cfg.Range = r
			_, err := Run(context.Background(), bufio.NewReader(cb), cb, func() { cb.Close() }, cfg)
			done <- err
		}()
		cfg := a.config(true)
		cfg.Range = r
		_, err := Run(context.Background(), bufio.NewReader(ca), ca, func() { ca.Close() }, cfg)
		require.NoError(t, err)
		require.NoError(t, <-done)
		require.Equal(t, wantA, a.m)
		require.Equal(t, wantB, b.m)
	})
}

// A peer that asks beyond the range of the session, or claims items that it never sends, breaks the
// protocol.
func TestQuestionsOutOfRange(t *testing.T) {
	for _, r := range []Range{
		{}, {From: []byte("photos/")}, {[]byte("a"), []byte("photos/1")},
		{[]byte("photos/1"), []byte("z")},
	} {
		set := newMemorySet(numbered(10))
		ours, theirs := net.Pipe()
		go func() {
			_, _ = theirs.Write(
				appendFrame(nil, frameRanges, rangesPayload(1, 0, question{kind: kindList, r: r})),
			)
			_, _ = io.Copy(io.Discard, theirs)
		}()
		cfg := set.config(false)
		cfg.Range = Range{[]byte("photos/"), []byte("photos0")}
		_, err := Run(context.Background(), bufio.NewReader(ours), ours, func() { ours.Close() }, cfg)
		var protocol *ProtocolError
		require.ErrorAs(t, err, &protocol)
	}
}

func TestClaimsThatAreNotKept(t *testing.T) {
	ids := make([]shortID, 100)
	for i := range ids {
		ids[i] = shortID(i)
	}
	says := appendFrame(nil, frameRanges, rangesPayload(1, 0, question{kind: kindOffer, ids: ids}))
	// "answers" the question for them, without any
	says = appendFrame(says, frameRanges, rangesPayload(3, 1))
	says = appendFrame(says, frameDone, nil)
	ours, theirs := net.Pipe()
	go func() {
		_, _ = theirs.Write(says[:len(says)-len(appendFrame(nil, frameRanges, rangesPayload(3, 1)))-2])
		buf := make([]byte, 1<<16)
		_, _ = theirs.Read(buf) // the question
		_, _ = theirs.Write(says[len(says)-len(appendFrame(nil, frameRanges, rangesPayload(3, 1)))-2:])
		_, _ = io.Copy(io.Discard, theirs)
	}()
	_, err := Run(context.Background(), bufio.NewReader(ours), ours, func() {
		ours.Close()
	}, newMemorySet(nil).config(false))
	var protocol *ProtocolError
	require.ErrorAs(t, err, &protocol)
	require.Contains(t, protocol.Reason, "100 items")
}

func TestOneSidedAndDisjointSets(t *testing.T) {
	many := testkit.Few(30_000, 1500)
	for name, sizes := range map[string][2]int{
		"all here": {many, 0}, "all there": {0, many}, "few here": {10, many}, "few there": {many, 10},
		"all different": {many * 2 / 3, many * 2 / 3},
	} {
		t.Run(name, func(t *testing.T) {
			all := numbered(sizes[0] + sizes[1])
			ma, mb := map[string]uint64{}, map[string]uint64{}
			for k, v := range all {
				if len(ma) < sizes[0] {
					ma[k] = v
				} else {
					mb[k] = v
				}
			}
			a, b := newMemorySet(ma), newMemorySet(mb)
			sa, sb := syncSets(t, a, b)
			require.Equal(t, all, a.m)
			require.Equal(t, all, b.m)
			require.EqualValues(t, sizes[0], sa.ItemsSent)
			require.EqualValues(t, sizes[1], sb.ItemsSent)
			require.Equal(t, sa.BytesSent > 0, sb.BytesReceived > 0)
		})
	}
}

// Keys at the limit that differ only at their ends make the longest bounds there are.
func TestLongestKeys(t *testing.T) {
	ma, mb := map[string]uint64{}, map[string]uint64{}
	pairs := testkit.Few(60, 12)
	for i := range pairs {
		for _, fill := range []string{"\x00", "\x01\x00"} {
			key := strings.Repeat(fill, 131_000/len(fill)) + string(
				binary.BigEndian.AppendUint16(nil, uint16(i)),
			)
			if i%3 == 0 {
				ma[key] = 1
			} else {
				mb[key] = 1
			}
		}
	}
	a, b := newMemorySet(ma), newMemorySet(mb)
	syncSets(t, a, b)
	require.Len(t, a.m, 2*pairs)
	require.Equal(t, a.m, b.m)
}

func TestSummaryIsHomomorphic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 20).Draw(t, "n")
		ids := make([][32]byte, n)
		for i := range ids {
			ids[i] = blake3.Sum256([]byte{byte(i), rapid.Byte().Draw(t, "id")})
		}
		cut := rapid.IntRange(0, n).Draw(t, "cut")
		var all, left, right Summary
		for i, id := range ids {
			all.Add(markOf(id[:]))
			if i < cut {
				left.Add(markOf(id[:]))
			} else {
				right.Add(markOf(id[:]))
			}
		}
		merged := right
		merged.Merge(&left)
		require.Equal(t, all, merged)
		for _, id := range ids[cut:] {
			merged.Remove(markOf(id[:]))
		}
		require.Equal(t, left, merged)
	})
}

// The expansion is BLAKE3's own extendable output, and the lanes are 16 bits wide.
func TestFingerprintAgainstPlainCode(t *testing.T) {
	key := deriveKey("skerry reconcile lthash 1")
	var sum Summary
	var lanes [sumBytes / 2]uint16
	for i := range 100 {
		id := blake3.Sum256([]byte{byte(i)})
		sum.Add(Mark{ID: id})
		h := blake3.New(32, key[:])
		_, _ = h.Write(id[:])
		var x [sumBytes]byte
		_, err := io.ReadFull(h.XOF(), x[:])
		require.NoError(t, err)
		for j := range lanes {
			lanes[j] += binary.LittleEndian.Uint16(x[2*j:])
		}
	}
	var want []byte
	want = binary.LittleEndian.AppendUint64(want, 100)
	for _, l := range lanes {
		want = binary.LittleEndian.AppendUint16(want, l)
	}
	require.Equal(t, want, sum.hashed())

	session := newSessionKey([32]byte{9})
	id := blake3.Sum256([]byte("x"))
	h := blake3.New(8, session.key[:])
	_, _ = h.Write(id[:])
	require.Equal(t, shortID(binary.LittleEndian.Uint64(h.Sum(nil))), session.short(id))
}

// Golden: a summary never changes its meaning.
func TestSummaryGolden(t *testing.T) {
	var s Summary
	s.Add(markOf([]byte("a")))
	s.Add(markOf([]byte("b")))
	require.Equal(t, "ad36331db66d9f4c", fmt.Sprintf("%x", s.Hash())[:16])
}

func TestSplitCoversTheRange(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		set := newMemorySet(numbered(rapid.IntRange(0, 200).Draw(t, "n")))
		k := rapid.IntRange(2, 20).Draw(t, "k")
		s := Scanned(set.items)
		parts, err := s.Split(context.Background(), All, k)
		require.NoError(t, err)
		require.LessOrEqual(t, len(parts), k)
		require.Empty(t, parts[0].From)
		require.Empty(t, parts[len(parts)-1].To)
		var sum Summary
		for i, p := range parts {
			if i > 0 {
				require.Equal(t, parts[i-1].To, p.From)
			}
			own, err := SummaryOf(context.Background(), s, p.Range)
			require.NoError(t, err)
			require.Equal(t, own, p.Summary)
			require.LessOrEqual(t, p.Count, uint64(len(set.keys)/k+1))
			sum.Merge(&p.Summary)
		}
		require.EqualValues(t, len(set.keys), sum.Count)
	})
}

func TestSeparator(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		gen := rapid.SliceOfN(rapid.ByteRange(0, 2), 0, 6)
		a, b := gen.Draw(t, "a"), gen.Draw(t, "b")
		if c := bytes.Compare(a, b); c == 0 {
			return
		} else if c > 0 {
			a, b = b, a
		}
		s := Separator(a, b)
		require.Negative(t, bytes.Compare(a, s))
		require.LessOrEqual(t, bytes.Compare(s, b), 0)
	})
}

func BenchmarkSummaryAdd(b *testing.B) {
	var s Summary
	id := [32]byte{1}
	for range b.N {
		s.Add(Mark{ID: id, Element: Element(id[:])})
	}
}

// BenchmarkSession reconciles sets of 100,000 items with some differences, in memory.
func BenchmarkSession(b *testing.B) {
	for _, d := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprintf("differences=%d", d), func(b *testing.B) {
			all := numbered(100_000)
			keys := slices.Sorted(maps.Keys(all))
			rng := rand.New(rand.NewPCG(1, 2))
			less := maps.Clone(all)
			for range d {
				delete(less, keys[rng.IntN(len(keys))])
			}
			b.ResetTimer()
			for range b.N {
				b.StopTimer()
				x, y := newMemorySet(less), newMemorySet(all)
				b.StartTimer()
				s, _ := syncSets(b, x, y)
				b.ReportMetric(float64(s.BytesSent+s.BytesReceived), "bytes")
				b.ReportMetric(float64(s.Rounds), "rounds")
			}
		})
	}
}
