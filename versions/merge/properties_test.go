package merge_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/skerry-sync/skerry/internal/cost"
	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/versions/merge"
)

// Edits that are at least a line apart are all in the result, in their places, and nothing else is.
func TestEditsApartAreMerged(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var base, local, remote, want []string
		before := byte('-') // who edited the line before
		for i := range rapid.IntRange(1, 40).Draw(t, "lines") {
			line := fmt.Sprintf("line %d", i)
			who := rapid.SampledFrom([]byte("---LRB")).Draw(t, "who")
			if who != '-' && before != '-' && who != before {
				who = '-'
			}
			before = who
			edited := []string{line}
			switch rapid.IntRange(0, 3).Draw(t, "edit") {
			case 0:
				edited = nil
			case 1:
				edited = []string{fmt.Sprintf("%s by %c", line, who)}
			case 2:
				edited = append(edited, fmt.Sprintf("after %s by %c", line, who), "")
			case 3:
				edited = append([]string{"}", "}"}, edited...)
			}
			l, r := []string{line}, []string{line}
			if who == 'L' || who == 'B' {
				l = edited
			}
			if who == 'R' || who == 'B' {
				r = edited
			}
			base, local, remote = append(base, line), append(local, l...), append(remote, r...)
			if who == 'R' {
				l = r
			}
			want = append(want, l...)
		}
		b, l, r, w := written(base), written(local), written(remote), written(want)
		for _, sides := range [][2][]byte{{l, r}, {r, l}, {w, l}, {r, w}} {
			got, err := merge.Text(b, sides[0], sides[1])
			require.NoError(t, err)
			require.Equal(t, string(w), string(got))
		}
	})
}

func written(lines []string) []byte {
	var b bytes.Buffer
	for _, l := range lines {
		b.WriteString(l + "\n")
	}
	return b.Bytes()
}

// lawful checks what holds for all texts, also where lines have copies, and returns the result.
func lawful(t require.TestingT, base, local, remote []byte) (merged []byte, ok bool) {
	got, err := merge.Text(base, local, remote)
	back, errBack := merge.Text(base, remote, local)
	require.Equal(t, err, errBack)
	require.Equal(t, string(got), string(back), "in both directions")
	if err != nil {
		require.Nil(t, got)
		require.IsType(t, &merge.Conflict{}, err)
		return nil, false
	}
	b, l, r, m := counted(base), counted(local), counted(remote), counted(got)
	for line, n := range m {
		require.NotZero(t, b[line]+l[line]+r[line], "line %q is in no input", line)
		require.LessOrEqual(t, n, l[line]+r[line], "line %q", line)
	}
	for _, sides := range [][2]map[string]int{{l, r}, {r, l}} {
		for line, n := range sides[0] {
			if b[line] == 0 && sides[1][line] == 0 {
				require.Equal(t, n, m[line], "line %q, which one side added", line)
			}
		}
	}
	return got, true
}

// counted counts each line, without line ends.
func counted(text []byte) map[string]int {
	lines := map[string]int{}
	s := strings.TrimSuffix(strings.ReplaceAll(string(text), "\r\n", "\n"), "\n")
	if s != "" || len(text) > 0 {
		for line := range strings.SplitSeq(s, "\n") {
			lines[line]++
		}
	}
	return lines
}

func TestTextLaws(t *testing.T) {
	merged := 0
	rapid.Check(t, func(t *rapid.T) {
		alphabet := rapid.SampledFrom([]string{"ab", "abcdef{}", "abcdefghijklmnopqrstuvwxyz"}).
			Draw(t, "alphabet")
		lines := rapid.SliceOfN(rapid.SampledFrom(strings.Split(alphabet, "")), 0, 20)
		base := lines.Draw(t, "base")
		side := func(name string) []byte {
			edited := slices.Clone(base)
			for range rapid.IntRange(0, 3).Draw(t, name) {
				at := rapid.IntRange(0, len(edited)).Draw(t, "at")
				to := min(len(edited), at+rapid.IntRange(0, 2).Draw(t, "removed"))
				edited = slices.Replace(edited, at, to, lines.Draw(t, "added")...)
			}
			text := written(edited)
			switch rapid.IntRange(0, 5).Draw(t, "ends") {
			case 0:
				text = bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n"))
			case 1:
				text = bytes.ReplaceAll(text, []byte("a\n"), []byte("a\r\n"))
			case 2:
				text = bytes.TrimSuffix(text, []byte("\n"))
			}
			return text
		}
		if _, ok := lawful(t, written(base), side("local"), side("remote")); ok {
			merged++
		}
	})
	require.NotZero(t, merged)
}

// object draws a JSON object of few members, some of them objects.
func object(depth int) *rapid.Generator[map[string]any] {
	return rapid.Custom(func(t *rapid.T) map[string]any {
		o := map[string]any{}
		for _, key := range []string{"a", "b", "c"} {
			switch n := rapid.IntRange(0, 4).Draw(t, key); {
			case n == 4 && depth > 0:
				o[key] = object(depth-1).Draw(t, key)
			case n > 0:
				o[key] = []any{"x", true, nil}[n%3]
			}
		}
		return o
	})
}

// edited draws an object that differs from o in few places.
func edited(t *rapid.T, o map[string]any) map[string]any {
	side := maps.Clone(o)
	for range rapid.IntRange(0, 2).Draw(t, "edits") {
		key := rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "key")
		within, is := side[key].(map[string]any)
		switch rapid.IntRange(0, 3).Draw(t, "edit") {
		case 0:
			delete(side, key)
		case 1:
			side[key] = object(1).Draw(t, "new")
		default:
			side[key] = "x"
			if is {
				side[key] = edited(t, within)
			}
		}
	}
	return side
}

// reference merges objects in the plainest way. It returns false if there is a conflict.
func reference(base, local, remote map[string]any) (merged map[string]any, ok bool) {
	merged = map[string]any{}
	for key := range union(local, remote) {
		b, inBase := base[key]
		l, inLocal := local[key]
		r, inRemote := remote[key]
		asBase := func(v any, there bool) bool { return there == inBase && reflect.DeepEqual(v, b) }
		switch {
		case inLocal == inRemote && reflect.DeepEqual(l, r):
			merged[key] = l
		case asBase(l, inLocal):
			if inRemote {
				merged[key] = r
			}
		case asBase(r, inRemote):
			if inLocal {
				merged[key] = l
			}
		default:
			lo, isL := l.(map[string]any)
			ro, isR := r.(map[string]any)
			bo, _ := b.(map[string]any)
			if !isL || !isR {
				return nil, false
			}
			if merged[key], ok = reference(bo, lo, ro); !ok {
				return nil, false
			}
		}
	}
	return merged, true
}

func union(a, b map[string]any) map[string]any {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}

func TestJSONLaws(t *testing.T) {
	merged := 0
	rapid.Check(t, func(t *rapid.T) {
		base := object(2).Draw(t, "base")
		local, remote := edited(t, base), edited(t, base)
		b, l, r := encoded(t, base), encoded(t, local), encoded(t, remote)
		want, ok := reference(base, local, remote)
		for _, sides := range [][2][]byte{{l, r}, {r, l}} {
			got, err := merge.JSON(b, sides[0], sides[1])
			if !ok {
				require.Error(t, err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, string(encoded(t, want)), string(sorted(t, got)))
			again, err := merge.JSON(b, got, sides[0])
			require.NoError(t, err)
			require.Equal(t, string(sorted(t, got)), string(sorted(t, again)), "with a side again")
		}
		merged++
		_, err := merge.Map(b, l, r)
		require.NoError(t, err)
	})
	require.NotZero(t, merged)
}

func encoded(t require.TestingT, v any) []byte {
	b, err := json.Marshal(v)
	require.NoError(t, err)
	return b
}

// sorted writes JSON with its members in order.
func sorted(t require.TestingT, text []byte) []byte {
	var v any
	require.NoError(t, json.Unmarshal(text, &v))
	return encoded(t, v)
}

func TestSetLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string) []string {
			return rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c", "d", "e"}), 0, 8).Draw(t, name)
		}
		base, local, remote := draw("base"), draw("local"), draw("remote")
		got, err := merge.Set(encoded(t, base), encoded(t, local), encoded(t, remote))
		require.NoError(t, err)
		back, err := merge.Set(encoded(t, base), encoded(t, remote), encoded(t, local))
		require.NoError(t, err)
		require.Equal(t, string(got), string(back))
		var merged []string
		require.NoError(t, json.Unmarshal(got, &merged))
		for _, item := range []string{"a", "b", "c", "d", "e"} {
			in := func(set []string) bool { return slices.Contains(set, item) }
			want := in(local) && in(remote) || in(local) != in(remote) && !in(base)
			require.Equal(t, want, in(merged), item)
		}
	})
}

// Tallies only grow, whatever is merged in whatever order, and nothing counts twice.
func TestCounterLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string) []byte {
			var c merge.Counter
			for _, device := range []string{"a", "b"} {
				require.NoError(t, c.Add(device, rapid.Int64Range(0, 9).Draw(t, name)))
				require.NoError(t, c.Add(device, -rapid.Int64Range(0, 9).Draw(t, name)))
			}
			return encoded(t, c)
		}
		merged := func(x, y []byte) []byte {
			m, err := merge.Counters(nil, x, y)
			require.NoError(t, err)
			return m
		}
		x, y, z := draw("x"), draw("y"), draw("z")
		require.Equal(t, merged(x, y), merged(y, x))
		require.Equal(t, merged(merged(x, y), z), merged(x, merged(y, z)))
		require.Equal(t, merged(x, y), merged(merged(x, y), y))
	})
}

// Twice as many lines cost twice as much, whatever they are and in whatever order they come.
func TestTextCost(t *testing.T) {
	testkit.OneGoroutine(t)
	const n = 3000
	lines := func(n int, line func(i int) string) []byte {
		var text []string
		for i := range n {
			text = append(text, line(i))
		}
		return written(text)
	}
	number := func(i int) string { return fmt.Sprint(i) }
	for name, text := range map[string][3]func(i int) string{
		"edited everywhere": {number, func(i int) string { return fmt.Sprint(i, i%3 == 0) }, number},
		"equal lines":       {func(int) string { return "" }, func(int) string { return "}" }, number},
		"shuffled":          {number, func(i int) string { return fmt.Sprint(i * 7919 % n) }, number},
		"swapped":           {number, func(i int) string { return fmt.Sprint(i ^ 1) }, number},
		"two kinds of lines": {
			func(i int) string { return "ab"[i&1 : i&1+1] },
			func(i int) string { return "ab"[i>>1&1 : i>>1&1+1] },
			func(i int) string { return "ab"[i>>2&1 : i>>2&1+1] },
		},
		"elements": {
			func(i int) string { return fmt.Sprintf("<a%d b='%d'/>", i, i) },
			func(i int) string { return fmt.Sprintf("<a%d b='%d'/>", i, i/2) },
			func(i int) string { return fmt.Sprintf("<a%d>", i) },
		},
	} {
		work := func(n int) func() {
			base, local, remote := lines(n, text[0]), lines(n, text[1]), lines(n, text[2])
			remote = append(remote, "end\n"...)
			return func() { _, _ = merge.Text(base, local, remote) }
		}
		once, twice := cost.Bytes(work(n)), cost.Bytes(work(2*n))
		require.LessOrEqual(t, twice, 3*once+1<<18, "%s: %d, then %d bytes", name, once, twice)
	}
}

// The bytes of many results are what they were in every version before: devices of different
// versions merge the same inputs. Whoever changes the sum changes the protocol.
func TestResultsNeverChange(t *testing.T) {
	testkit.OneGoroutine(t)
	random := rand.New(rand.NewPCG(1, 2))
	sum, merged := sha256.New(), 0
	for range 3000 {
		var base []string
		for range random.IntN(40) {
			base = append(base, string("abcdefghijklmnopqrstuvwxyz{}  "[random.IntN(30)]))
		}
		side := func() []string {
			edited := slices.Clone(base)
			for range random.IntN(3) {
				at := random.IntN(len(edited) + 1)
				edited = slices.Replace(edited, at, min(len(edited), at+random.IntN(4)),
					strings.Split("{xyz}"[:random.IntN(6)], "")...)
			}
			return edited
		}
		local, remote := side(), side()
		for _, f := range []func() ([]byte, error){
			func() ([]byte, error) { return merge.Text(written(base), written(local), written(remote)) },
			func() ([]byte, error) {
				return merge.JSON(encoded(t, base), encoded(t, local), encoded(t, remote))
			},
			func() ([]byte, error) {
				return merge.Set(encoded(t, base), encoded(t, local), encoded(t, remote))
			},
		} {
			got, err := f()
			if err == nil {
				merged++
			}
			fmt.Fprintf(sum, "%q %v\n", got, err)
		}
	}
	require.Greater(t, merged, 4000)
	require.Equal(t, "a2b6014731993a0ecf02f2cefa6aa141d092b47d23b139f774de6ab5f17397c9",
		fmt.Sprintf("%x", sum.Sum(nil)))
}
