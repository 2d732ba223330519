package localfirst_test

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/skerry-sync/skerry/localfirst"
	"github.com/skerry-sync/skerry/versions/merge"
)

type stamped struct {
	At   time.Time
	Text string
}

func at(second int64, text string) stamped { return stamped{time.Unix(second, 0), text} }

func latest() localfirst.MergeFunc[stamped] {
	return localfirst.Latest(func(s stamped) time.Time { return s.At })
}

func sets() localfirst.MergeFunc[[]string] { return localfirst.MergeSets(cmp.Compare[string]) }

func same[T comparable](a, b T) bool { return a == b }

func labels() localfirst.MergeFunc[map[string]string] {
	return localfirst.MergeMaps[string](same[string], nil)
}

// resolves checks a merge that needs no person, and that it changes none of its inputs.
func resolves[T any](
	t require.TestingT, f localfirst.MergeFunc[T], base *T, local, remote, want T,
) {
	got, resolved, err := f("key", base, local, remote)
	require.NoError(t, err)
	require.True(t, resolved)
	require.Equal(t, want, got)
}

func TestPreferences(t *testing.T) {
	base := "b"
	for _, b := range []*string{nil, &base} {
		resolves(t, localfirst.PreferLocal[string](), b, "l", "r", "l")
		resolves(t, localfirst.PreferRemote[string](), b, "l", "r", "r")
		_, resolved, err := localfirst.NeverMerge[string]()("key", b, "l", "r")
		require.NoError(t, err)
		require.False(t, resolved)
	}
}

func TestLatest(t *testing.T) {
	base := at(9, "base")
	for _, b := range []*stamped{nil, &base} {
		resolves(t, latest(), b, at(1, "l"), at(2, "r"), at(2, "r"))
		resolves(t, latest(), b, at(2, "l"), at(1, "r"), at(2, "l"))
		resolves(t, latest(), b, at(1, "l"), at(1, "r"), at(1, "l"))
	}
}

func TestMergeSets(t *testing.T) {
	for _, tt := range []struct {
		name                string
		base, local, remote string
		want                string
	}{
		{"both added", "a", "a c", "a b", "a b c"},
		{"both removed", "a b c", "b c", "a b", "b"},
		{"one added, one removed", "a", "", "a b", "b"},
		{"removed on both sides", "a b", "b", "b", "b"},
		{"nothing is left", "a b", "a", "b", ""},
		{"twice is once", "", "b a b", "a", "a b"},
		{"no base", "-", "a c", "b a", "a b c"},
		{"no base, one empty", "-", "", "b", "b"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			base := strings.Fields(tt.base)
			b := &base
			if tt.base == "-" {
				b = nil
			}
			resolves(t, sets(), b, strings.Fields(tt.local), strings.Fields(tt.remote),
				strings.Fields(tt.want))
		})
	}
}

func TestMergeMaps(t *testing.T) {
	type labelMap = map[string]string
	for _, tt := range []struct {
		name                string
		base, local, remote labelMap
		want                labelMap
	}{
		{"each side's change", labelMap{"a": "1", "b": "1"}, labelMap{"a": "2", "b": "1"},
			labelMap{"a": "1", "b": "3"}, labelMap{"a": "2", "b": "3"}},
		{"each side's deletion", labelMap{"a": "1", "b": "1", "c": "1"}, labelMap{"a": "1", "c": "1"},
			labelMap{"b": "1", "c": "1"}, labelMap{"c": "1"}},
		{"each side's new one", labelMap{}, labelMap{"a": "1"}, labelMap{"b": "1"},
			labelMap{"a": "1", "b": "1"}},
		{"a change stands against a deletion", labelMap{"a": "1", "b": "1"}, labelMap{"a": "2"},
			labelMap{"b": "2"}, labelMap{"a": "2", "b": "2"}},
		{"the later change", labelMap{"a": "1"}, labelMap{"a": "2"}, labelMap{"a": "3"},
			labelMap{"a": "2"}},
		{"the same change", labelMap{"a": "1"}, labelMap{"a": "2"}, labelMap{"a": "2"},
			labelMap{"a": "2"}},
		{"no base", nil, labelMap{"a": "1", "b": "1"}, labelMap{"b": "2", "c": "2"},
			labelMap{"a": "1", "b": "1", "c": "2"}},
		{"no base, nothing there", nil, nil, nil, labelMap{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := &tt.base
			if tt.base == nil {
				b = nil
			}
			resolves(t, labels(), b, tt.local, tt.remote, tt.want)
		})
	}
}

var errEntry = errors.New("this entry is for a person")

func TestMergeMapsByEntry(t *testing.T) {
	texts := localfirst.MergeText()
	f := localfirst.MergeMaps(same[string],
		func(key string, base *string, local, remote string) (string, bool, error) {
			if key == "fails" {
				return "", false, errEntry
			}
			return texts(key, base, local, remote)
		})
	base := map[string]string{"a": "1\n2\n3\n", "fails": ""}
	local := map[string]string{"a": "0\n1\n2\n3\n", "fails": ""}
	remote := map[string]string{"a": "1\n2\n3\n4\n", "fails": ""}
	resolves(t, f, &base, local, remote, map[string]string{"a": "0\n1\n2\n3\n4\n", "fails": ""})
	_, resolved, err := f("key", nil, local, remote)
	require.False(t, resolved, "entries without a base")
	require.IsType(t, &merge.Conflict{}, err)
	local["fails"], remote["fails"] = "l", "r"
	_, resolved, err = f("key", &base, local, remote)
	require.False(t, resolved)
	require.ErrorIs(t, err, errEntry)
}

func TestFirstOf(t *testing.T) {
	f := localfirst.FirstOf(localfirst.MergeText(), localfirst.PreferLocal[string]())
	base := "a\nb\nc\n"
	resolves(t, f, &base, "A\nb\nc\n", "a\nb\nC\n", "A\nb\nC\n")
	resolves(t, f, &base, "a\nl\nc\n", "a\nr\nc\n", "a\nl\nc\n")
	resolves(t, f, nil, "l", "r", "l")

	f = localfirst.FirstOf(localfirst.NeverMerge[string](), localfirst.MergeText())
	v, resolved, err := f("key", nil, "l", "r")
	require.False(t, resolved)
	require.IsType(t, &merge.Conflict{}, err)
	require.Equal(t, "l", v)
}

func TestMergeText(t *testing.T) {
	base := ""
	resolves(t, localfirst.MergeText(), nil, "", "r", "r")
	resolves(t, localfirst.MergeText(), &base, "l", "", "l")
	_, resolved, err := localfirst.MergeText()("key", nil, "l", "r")
	require.False(t, resolved)
	require.Equal(t, &merge.Conflict{Reason: merge.BothChanged, At: "after line 0"}, err)
	_, resolved, err = localfirst.MergeText()("key", &base, "l", "\xff")
	require.False(t, resolved)
	require.Equal(t, "the string is not UTF-8", err.Error())
}

func TestMergeJSON(t *testing.T) {
	f := localfirst.MergeJSON(localfirst.JSONCodec[note](), merge.Options{ByID: "id"})
	base := note{Title: "t", Parts: []part{{1, "a"}, {2, "b"}}}
	local := note{Title: "t!", Parts: []part{{1, "A"}, {2, "b"}, {3, "c"}}}
	remote := note{Title: "t", Tags: []string{"x"}, Parts: []part{{1, "a"}, {2, "B"}}}
	resolves(t, f, &base, local, remote,
		note{Title: "t!", Tags: []string{"x"}, Parts: []part{{1, "A"}, {2, "B"}, {3, "c"}}})
	resolves(t, f, nil, note{Title: "t", Sizes: map[string]int{"a": 1}},
		note{Title: "t", Sizes: map[string]int{"b": 1}},
		note{Title: "t", Sizes: map[string]int{"a": 1, "b": 1}})
	_, resolved, err := f("key", nil, note{Title: "l"}, note{Title: "r"})
	require.False(t, resolved)
	require.Equal(t, &merge.Conflict{Reason: merge.BothChanged, At: "/title"}, err)

	type text = localfirst.JSONText[note]
	unknown := localfirst.MergeJSON(localfirst.JSONTextCodec[note](), merge.Options{})
	was := text(`{"title":"t","color":"red"}`)
	resolves(t, unknown, &was, `{"title":"l","color":"red"}`, `{"title":"t","color":"blue"}`,
		text(`{"title":"l","color":"blue"}`))
}

func TestMergeCounters(t *testing.T) {
	counted := func(laptop, phone int64) (c merge.Counter) {
		require.NoError(t, c.Add("laptop", laptop))
		require.NoError(t, c.Add("phone", phone))
		return c
	}
	base := counted(1, 1)
	resolves(t, localfirst.MergeCounters(), &base, counted(5, 1), counted(1, 3), counted(5, 3))
	resolves(t, localfirst.MergeCounters(), nil, counted(5, 1), counted(1, 3), counted(5, 3))
}

// Of several entries that cannot be merged, the same is named each time.
func TestMergeMapsNamesOneReason(t *testing.T) {
	f := localfirst.MergeMaps(same[string], func(key string, _ *string, _, _ string,
	) (string, bool, error) {
		return "", key == "", errors.New("entry " + key)
	})
	l, r := map[string]string{}, map[string]string{}
	for _, key := range strings.Split("hgfedcba", "") {
		l[key], r[key] = "l", "r"
	}
	for range 20 {
		_, resolved, err := f("key", nil, l, r)
		require.False(t, resolved)
		require.EqualError(t, err, "entry a")
	}
}

// Laws. Each device has copies of its own, and calls the function in an order of its own.

// law checks that two devices get the same, that inputs stay as they are, and, if it is claimed,
// that the sides may change places and that three values may be merged in any order.
func law[T any](
	t *rapid.T, f localfirst.MergeFunc[T], draw func(name string) T, clone func(T) T,
	commutative, associative bool,
) {
	a, b, c := draw("a"), draw("b"), draw("c")
	var base *T
	if rapid.Bool().Draw(t, "with a base") {
		v := draw("base")
		base = &v
	}
	was := [3]T{clone(a), clone(b), clone(c)}
	merged := func(base *T, l, r T) T {
		v, resolved, err := f("key", base, l, r)
		require.NoError(t, err)
		require.True(t, resolved)
		return v
	}
	ab := merged(base, a, b)
	require.Equal(t, ab, merged(base, clone(a), clone(b)), "on another device")
	if commutative {
		require.Equal(t, ab, merged(base, b, a), "exchanged")
	}
	if associative {
		require.Equal(t, merged(nil, merged(nil, a, b), c), merged(nil, a, merged(nil, b, c)))
		require.Equal(t, merged(nil, a, b), merged(nil, merged(nil, a, b), b), "again")
	}
	require.Equal(t, was, [3]T{a, b, c}, "inputs")
}

func asIs[T any](v T) T { return v }

func TestMergeLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		words := rapid.SliceOfN(rapid.SampledFrom(strings.Split("abcde", "")), 0, 6)
		law(t, sets(), func(name string) []string { return words.Draw(t, name) },
			slices.Clone[[]string], true, true)
		mapped := rapid.MapOfN(rapid.SampledFrom(strings.Split("abcd", "")),
			rapid.SampledFrom(strings.Split("123", "")), 0, 4)
		drawMap := func(name string) map[string]string { return mapped.Draw(t, name) }
		law(t, labels(), drawMap, maps.Clone[map[string]string], false, true)
		greater := localfirst.MergeMaps(same[string],
			func(_ string, _ *string, l, r string) (string, bool, error) { return max(l, r), true, nil })
		law(t, greater, drawMap, maps.Clone[map[string]string], true, true)
		times := rapid.Int64Range(0, 3)
		law(t, latest(), func(name string) stamped {
			return at(times.Draw(t, name), rapid.SampledFrom([]string{"x", "y"}).Draw(t, name+" text"))
		}, asIs, false, true)
		law(t, latest(), func(name string) stamped {
			second := times.Draw(t, name)
			return at(second, time.Unix(second, 0).String()) // one value for each time
		}, asIs, true, true)
		law(t, localfirst.PreferLocal[int64](), func(name string) int64 { return times.Draw(t, name) },
			asIs, false, true)
		law(t, localfirst.PreferRemote[int64](),
			func(name string) int64 { return times.Draw(t, name) }, asIs, false, true)
		tally := rapid.Int64Range(-5, 5)
		law(t, localfirst.MergeCounters(), func(name string) (c merge.Counter) {
			for _, device := range []string{"laptop", "phone"} {
				require.NoError(t, c.Add(device, tally.Draw(t, name)))
			}
			return c
		}, asIs, true, true)
	})
}

// Of a set, an item is in the result if it is on both sides, or one side added it: the rule, said
// again in another way. Of a map, no entry is lost that nobody has deleted.
func TestUnionsKeepAll(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		words := rapid.SliceOfN(rapid.SampledFrom(strings.Split("abcde", "")), 0, 6)
		base, local, remote := words.Draw(t, "base"), words.Draw(t, "local"), words.Draw(t, "remote")
		got, _, err := sets()("key", &base, local, remote)
		require.NoError(t, err)
		m := func(s []string) map[string]string {
			all := map[string]string{}
			for _, item := range s {
				all[item] = "here"
			}
			return all
		}
		before := m(base)
		entries, _, err := labels()("key", &before, m(local), m(remote))
		require.NoError(t, err)
		for _, item := range strings.Split("abcde", "") {
			l, r := slices.Contains(local, item), slices.Contains(remote, item)
			want := l && r || (l || r) && !slices.Contains(base, item)
			require.Equal(t, want, slices.Contains(got, item), item)
			require.Equal(t, want, entries[item] != "", item)
		}
		require.True(t, slices.IsSorted(got))
	})
}

// Text and JSON may be left to a person. What is merged is the same in either direction.
func FuzzMerges(f *testing.F) {
	f.Add("a\nb\nc\n", "A\nb\nc\n", "a\nb\nC\n", true)
	f.Add(`{"title":"a","x":[1]}`, `{"title":"b","x":[1]}`, `{"title":"a","x":{}}`, true)
	f.Add(`{"l":[5,0]}`, `{"l":[6,0]}`, `{"l":[5,0],"p":[0,1]}`, false)
	f.Add("\xff", "", "\x00", true)
	f.Fuzz(func(t *testing.T, base, local, remote string, withBase bool) {
		both(t, localfirst.StringCodec(), localfirst.MergeText(), base, local, remote, withBase, true)
		type text = localfirst.JSONText[any]
		texts := localfirst.JSONTextCodec[any]()
		both(t, texts, localfirst.MergeJSON(texts, merge.Options{}), text(base), text(local),
			text(remote), withBase, true)
		both(t, texts, localfirst.MergeJSON(texts, merge.Options{ByID: "id", PreferLocal: true}),
			text(base), text(local), text(remote), withBase, false)
		both(t, texts, localfirst.MergeWith(texts, merge.Counters), text(base), text(local),
			text(remote), withBase, true)
		lines := func(s string) []string { return strings.Split(s, "\n") }
		both(t, localfirst.JSONCodec[[]string](), sets(), lines(base), lines(local), lines(remote),
			withBase, true)
	})
}

func both[T any](
	t *testing.T, c localfirst.Codec[T], f localfirst.MergeFunc[T], base, local, remote T,
	withBase, commutative bool,
) {
	var b *T
	if withBase {
		b = &base
	}
	got, resolved, err := f("key", b, local, remote)
	again, resolvedAgain, errAgain := f("key", b, local, remote)
	require.Equal(t, err, errAgain)
	require.Equal(t, resolved, resolvedAgain)
	require.Equal(t, got, again)
	if !resolved {
		return
	}
	require.NoError(t, err)
	_, err = c.Encode(got)
	require.NoError(t, err)
	if commutative {
		back, resolved, err := f("key", b, remote, local)
		require.NoError(t, err)
		require.True(t, resolved)
		require.Equal(t, got, back)
	}
}
