package merge_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/internal/cost"
	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/versions/merge"
)

func TestJSON(t *testing.T) {
	const big = "123456789012345678901234567890.12345678901234567890"
	for _, tt := range []struct {
		name                string // a sentence about the values
		base, local, remote string
		want                string
		why                 merge.Reason
		at                  string
	}{
		{name: "members that one side changed are that side's", base: `{"a":1,"b":2,"c":3}`,
			local: `{"a":10,"b":2,"c":3}`, remote: `{"a":1,"b":2,"c":30}`, want: `{"a":10,"b":2,"c":30}`},
		{name: "members that both changed alike", base: `{"a":1,"b":2}`, local: `{"a":5,"b":3}`,
			remote: `{"a":5,"b":2,"c":0}`, want: `{"a":5,"b":3,"c":0}`},
		{name: "members that both changed differently", base: `{"a":{"b~/":1}}`,
			local: `{"a":{"b~/":2}}`, remote: `{"a":{"b~/":3}}`, why: merge.BothChanged, at: "/a/b~0~1"},
		{name: "deletions of what the other side left", base: `{"a":1,"b":2,"c":3}`,
			local: `{"b":2,"c":3}`, remote: `{"a":1,"b":2}`, want: `{"b":2}`},
		{name: "all members are gone", base: `{"a":1,"b":2}`, local: `{"b":2}`, remote: `{"a":1}`,
			want: `{}`},
		{name: "a deletion of what the other side changed", base: `{"a":1,"b":2}`, local: `{"b":2}`,
			remote: `{"a":3,"b":2}`, why: merge.BothChanged, at: "/a"},
		{name: "null is not a deletion", base: `{"a":1,"b":2}`, local: `{"a":null,"b":2}`,
			remote: `{"b":2}`, why: merge.BothChanged, at: "/a"},
		{name: "both added an object under one name", base: `{}`, local: `{"a":{"x":1}}`,
			remote: `{"a":{"y":2}}`, want: `{"a":{"x":1,"y":2}}`},
		{name: "both made an object of a number", base: `{"a":1}`, local: `{"a":{"x":1}}`,
			remote: `{"a":{"y":2}}`, want: `{"a":{"x":1,"y":2}}`},
		{name: "an object and a number", base: `{"a":1}`, local: `{"a":{"x":1}}`, remote: `{"a":2}`,
			why: merge.BothChanged, at: "/a"},
		{name: "new members come in the order of their keys, old ones in the base's",
			base: `{"z":1,"b":2}`, local: `{"z":1,"y":1,"b":2,"a":1}`, remote: `{"c":3,"z":0,"b":2}`,
			want: `{"z":0,"b":2,"a":1,"c":3,"y":1}`},
		{name: "numbers keep their digits", base: `{"a":1,"b":` + big + `}`,
			local: `{"a":2,"b":` + big + `}`, remote: `{"a":1,"b":` + big + `1}`,
			want: `{"a":2,"b":` + big + `1}`},
		{name: "numbers that float64 cannot tell apart are different", base: `{"a":9007199254740992}`,
			local: `{"a":9007199254740993}`, remote: `{"a":9007199254740992,"b":1}`,
			want: `{"a":9007199254740993,"b":1}`},
		{name: "equal numbers are not a change", base: `{"a":100,"b":0.5,"c":-0,"d":1E400}`,
			local:  `{"a":1e+2,"b":0.50,"c":-0.0,"d":10e399}`,
			remote: `{"a":7,"b":8,"c":9,"d":5}`, want: `{"a":7,"b":8,"c":9,"d":5}`},
		{name: "zero and less than zero are different", base: `{"a":0}`, local: `{"a":-0}`,
			remote: `{"a":1}`, why: merge.BothChanged, at: "/a"},
		{name: "exponents of any length", base: `{"a":1e99999999999999999999}`,
			local: `{"a":1e99999999999999999998}`, remote: `{"a":1e99999999999999999999,"b":1}`,
			want: `{"a":1e99999999999999999998,"b":1}`},
		{name: "strings are equal whatever their escapes", base: `{"a":"A\/\n😀","b":1}`,
			local: `{"a":"\u0041/\u000a\ud83d\ude00","b":2}`, remote: `{"a":"x","b":1}`,
			want: `{"a":"x","b":2}`},
		{name: "keys are equal whatever their escapes", base: `{"a":1,"b":1}`,
			local: `{"\u0061":2,"b":1}`, remote: `{"a":1,"b":3}`, want: `{"a":2,"b":3}`},
		{name: "all escapes", base: `{"a":"\b\f\n\r\t\"\\\/","b":1}`,
			local:  `{"a":"\u0008\u000C\u000a\u000d\u0009\u0022\u005c\u002f","b":2}`,
			remote: `{"a":"x","b":1}`, want: `{"a":"x","b":2}`},
		{name: "new keys come in the order of what they say", base: `{"z":1}`,
			local: `{"z":1,"\u0062":1,"c":2}`, remote: `{"z":1,"a":1,"\u0063":2}`,
			want: `{"z":1,"a":1,"\u0062":1,"c":2}`},
		{name: "lone surrogates stay", base: `{"a":"\ud800","b":1}`, local: `{"a":"\ud801","b":1}`,
			remote: `{"a":"\ud800","b":2}`, want: `{"a":"\ud801","b":2}`},
		{name: "true is not 1", base: `{"a":1}`, local: `{"a":true}`, remote: `{"a":"true"}`,
			why: merge.BothChanged, at: "/a"},
		{name: "the same with other spaces is the same", base: `{"a": [1, 2], "b": 1}`,
			local: `{"a":[1,2],"b":2}`, remote: `{"a":[1,2,3],"b":1}`, want: `{"a":[1,2,3],"b":2}`},
		{name: "a result that one side has already is that side, as it is written",
			base: `{"a":1,"b":2}`, local: "{\"b\": 3,\n\"a\": 4}", remote: `{"a":4,"b":2}`,
			want: "{\"b\": 3,\n\"a\": 4}"},
		{name: "values that only differ in how they are written", base: `[1]`, local: `[1.0]`,
			remote: `[10e-1]`, want: `[1.0]`},
		{name: "nor the spaces around them", base: `[1]`, local: `[2] `, remote: ` [2.0]`,
			want: `[2] `},
		{name: "nor spaces alone", base: `[1]`, local: `[2] `, remote: ` [2]`, want: ` [2]`},
		{name: "what a side wrote anew is as it wrote it", base: `{"a":1,"b":1,"c":1}`,
			local: `{"a":1.00,"b":2,"c":1}`, remote: `{"a":1,"b":1,"c":2}`,
			want: `{"a":1.00,"b":2,"c":2}`},
		{name: "no base is like an empty object", base: "", local: `{"a":1,"b":2}`,
			remote: `{"a":1,"c":3}`, want: `{"a":1,"b":2,"c":3}`},
		{name: "no base and different members", base: "", local: `{"a":1}`, remote: `{"a":2}`,
			why: merge.BothChanged, at: "/a"},
		{name: "two strings", base: `"a"`, local: `"b"`, remote: `"c"`, why: merge.BothChanged},

		{name: "items apart", base: `["a","b","c"]`, local: `["A","b","c"]`, remote: `["a","b","c","d"]`,
			want: `["A","b","c","d"]`},
		{name: "items side by side", base: `["a","b","c"]`, local: `["A","b","c"]`,
			remote: `["a","B","c"]`, why: merge.BothChanged},
		{name: "both sides added the same item", base: `["a","b"]`, local: `["A","b","x"]`,
			remote: `["a","b","x"]`, want: `["A","b","x"]`},
		{name: "items of both sides at one place", base: `{"l":["a"]}`, local: `{"l":["a","b"]}`,
			remote: `{"l":["a","c"]}`, why: merge.BothChanged, at: "/l"},
		{name: "a list that both sides empty in part", base: `["a","b","c"]`, local: `["b","c"]`,
			remote: `["a","b"]`, want: `["b"]`},
		{name: "a list of which both sides keep another item", base: `["a","x","b"]`, local: `["a"]`,
			remote: `["b"]`, why: merge.BothChanged},
		{name: "a list that is empty then", base: `{"l":["a","b"],"m":1}`, local: `{"l":[],"m":1}`,
			remote: `{"l":["a","b"],"m":2}`, want: `{"l":[],"m":2}`},
		{name: "objects in a list are items", base: `[{"a":1},{"b":1},{"c":1}]`,
			local: `[{"a":2},{"b":1},{"c":1}]`, remote: `[{"a":1},{"b":1},{"c":1},{"d":1}]`,
			want: `[{"a":2},{"b":1},{"c":1},{"d":1}]`},
		{name: "a point is one value", base: `[1,2,3]`, local: `[9,2,3]`, remote: `[1,2,9]`,
			why: merge.BothChanged},
		{name: "so is a list with a number", base: `["a","b","c"]`, local: `["A","b","c"]`,
			remote: `["a","b","c",1]`, why: merge.BothChanged},
		{name: "rows are one value", base: `[["a"],["b"],["c"]]`, local: `[["A"],["b"],["c"]]`,
			remote: `[["a"],["b"],["C"]]`, why: merge.BothChanged},
		{name: "an array that only one side changed", base: `{"p":[1,2],"q":1}`,
			local: `{"p":[1,3],"q":1}`, remote: `{"p":[1,2],"q":2}`, want: `{"p":[1,3],"q":2}`},
		{name: "an array and an object", base: `[]`, local: `["a"]`, remote: `{}`,
			why: merge.BothChanged},

		{name: "not JSON", base: `{}`, local: `{"a":1}`, remote: `{"a":1`, why: merge.NotJSON},
		{name: "a base that is not JSON", base: `-`, local: `{"a":1}`, remote: `{}`,
			why: merge.NotJSON},
		{name: "a member that comes twice", base: `{}`, local: `{"a":1,"\u0061":2}`, remote: `{"b":1}`,
			why: merge.NotJSON},
		{name: "text that is not UTF-8", base: `{}`, local: `{"a":1}`, remote: "{\"a\":\"\xff\"}",
			why: merge.NotJSON},
		{name: "nothing at all", base: `{}`, local: `{"a":1}`, why: merge.NotJSON},
		{name: "two reasons", base: `{}`, local: `{"a":1`, remote: strings.Repeat("[", merge.MaxDepth+1) +
			strings.Repeat("]", merge.MaxDepth+1), why: merge.NotJSON},
		{name: "a byte order mark", base: `{}`, local: `{"a":1}`, remote: "\xef\xbb\xbf{\"b\":1}",
			why: merge.NotJSON},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.base == "" {
				checkNoBase(t, tt.local, tt.remote, tt.want, tt.why, tt.at)
				return
			}
			check(t, merge.JSON, tt.base, tt.local, tt.remote, tt.want, tt.why, tt.at)
		})
	}
}

func checkNoBase(t *testing.T, local, remote, want string, why merge.Reason, at string) {
	f := func(_, local, remote []byte) ([]byte, error) { return merge.JSON(nil, local, remote) }
	check(t, f, "", local, remote, want, why, at)
}

func TestMap(t *testing.T) {
	for _, tt := range []struct {
		name                string
		base, local, remote string
		want                string
	}{
		{"the later change stands", `{"a":1,"b":1}`, `{"a":2,"b":1}`, `{"a":3,"b":2}`, `{"a":2,"b":2}`},
		{"a change stands against a deletion", `{"a":1,"b":1}`, `{"b":5}`, `{"a":2}`, `{"a":2,"b":5}`},
		{"a deletion stands against nothing", `{"a":1,"b":1}`, `{"b":1}`, `{"a":1,"b":1,"c":1}`,
			`{"b":1,"c":1}`},
		{"objects within are merged", `{"o":{"x":1,"y":1}}`, `{"o":{"x":2,"y":1}}`,
			`{"o":{"x":3,"y":2}}`, `{"o":{"x":2,"y":2}}`},
		{"arrays that can be merged are", `{"l":["a","b","c"]}`, `{"l":["a","b","C"]}`,
			`{"l":["A","b","c"]}`, `{"l":["A","b","C"]}`},
		{"of others the later stands", `{"l":["a"],"m":1}`, `{"l":["a","b"],"m":1}`,
			`{"l":["a","c"],"m":2}`, `{"l":["a","b"],"m":2}`},
		{"a value of another kind is a change", `{"a":1}`, `{"a":{"x":1}}`, `{"a":[1],"b":2}`,
			`{"a":{"x":1},"b":2}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := merge.Map([]byte(tt.base), []byte(tt.local), []byte(tt.remote))
			require.NoError(t, err)
			require.Equal(t, tt.want, string(got))
		})
	}
	got, err := merge.Map(nil, []byte(`{"a":1,"b":1}`), []byte(`{"a":2,"c":3}`))
	require.NoError(t, err)
	require.Equal(t, `{"a":1,"b":1,"c":3}`, string(got))
	_, err = merge.Map([]byte("1"), []byte("2"), []byte("{}"))
	is, _ := reason(t, err)
	require.Equal(t, merge.NotMap, is)
	_, err = merge.Map([]byte("1"), []byte("{}"), []byte("2"))
	is, _ = reason(t, err)
	require.Equal(t, merge.NotMap, is)
}

// list writes items whose ids are the letters, in which a letter in upper case has been changed.
func list(letters string) string {
	var items []string
	for _, c := range letters {
		id := strings.ToLower(string(c))
		items = append(items, fmt.Sprintf(`{"id":%q,"v":%q}`, id, string(c)))
	}
	return "[" + strings.Join(items, ",") + "]"
}

func TestByID(t *testing.T) {
	byID := merge.Options{ByID: "id"}.JSON
	prefer := merge.Options{ByID: "id", PreferLocal: true}.JSON
	for _, tt := range []struct {
		name                string
		base, local, remote string // a letter for each item: see list
		want, preferred     string // preferred is want, if empty
		at                  string
	}{
		{name: "items side by side", base: "abc", local: "Abc", remote: "aBc", want: "ABc"},
		{name: "new items at one place, remote's first", base: "ab", local: "abx", remote: "aby",
			want: "abyx"},
		{name: "new items in front", base: "ab", local: "xab", remote: "yzab", want: "yzxab"},
		{name: "new items in an empty list", base: "", local: "x", remote: "y", want: "yx"},
		{name: "new items stay behind the same item", base: "abcd", local: "axbcyd",
			remote: "abzcdu", want: "axbzcydu"},
		{name: "the same new item", base: "ab", local: "axb", remote: "abx", want: "abx"},
		{name: "deletions", base: "abcd", local: "acd", remote: "abc", want: "ac"},
		{name: "all deleted", base: "ab", local: "a", remote: "b", want: ""},
		{name: "new behind a deleted one", base: "abcd", local: "abxcd", remote: "acd",
			want: "axcd"},
		{name: "a deleted item that the other side changed", base: "abc", local: "ac", remote: "aBcd",
			at: "/1", preferred: "aBcd"},
		{name: "a changed item that the other side deleted", base: "abc", local: "aBc", remote: "acd",
			at: "/1", preferred: "aBcd"},
		{name: "a move on one side, a change on the other", base: "abcd", local: "dabc",
			remote: "aBcde", want: "deaBc"},
		{name: "a move by remote, new items by local", base: "abcd", local: "abxcd",
			remote: "dcba", want: "dcbxa"},
		{name: "new items of both sides at one place, and a move by local", base: "abcd",
			local: "dabxc", remote: "abycd", want: "dabyxc"},
		{name: "the same move", base: "abc", local: "cabx", remote: "caB", want: "caBx"},
		{name: "different moves", base: "abc", local: "cab", remote: "bac", at: "",
			preferred: "cab"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, l, r := []byte(list(tt.base)), []byte(list(tt.local)), []byte(list(tt.remote))
			got, err := byID(b, l, r)
			if tt.preferred == "" {
				require.NoError(t, err)
				require.Equal(t, list(tt.want), string(got))
				tt.preferred = tt.want
			} else {
				is, at := reason(t, err)
				require.Equal(t, merge.BothChanged, is)
				require.Equal(t, tt.at, at)
			}
			got, err = prefer(b, l, r)
			require.NoError(t, err)
			require.Equal(t, list(tt.preferred), string(got))
		})
	}
}

func TestByIDElsewhere(t *testing.T) {
	byID := merge.Options{ByID: "id"}.JSON
	for _, tt := range []struct {
		name                string
		base, local, remote string
		want                string
		why                 merge.Reason
		at                  string
	}{
		{name: "members of one item", base: `{"l":[{"id":1,"a":1,"b":1}]}`,
			local:  `{"l":[{"id":1,"a":2,"b":1}]}`,
			remote: `{"l":[{"id":1,"a":1,"b":2}]}`, want: `{"l":[{"id":1,"a":2,"b":2}]}`},
		{name: "a conflict within an item", base: `{"l":[{"id":0},{"id":1,"a":1}]}`,
			local: `{"l":[{"id":0},{"id":1,"a":2}]}`, remote: `{"l":[{"id":0},{"id":1,"a":3}]}`,
			why: merge.BothChanged, at: "/l/1/a"},
		{name: "a conflict within a new item", base: `[]`, local: `[{"id":0},{"id":1,"a":2}]`,
			remote: `[{"id":1,"a":3}]`, why: merge.BothChanged, at: "/1/a"},
		{name: "numbers as ids are equal however they are written", base: `[{"id":1,"a":1,"b":1}]`,
			local: `[{"id":1.0,"a":2,"b":1}]`, remote: `[{"id":1,"a":1,"b":2}]`,
			want: `[{"id":1.0,"a":2,"b":2}]`},
		{name: "an item without id", base: `[{"id":1},{"id":2}]`, local: `[{"id":1,"a":1},{"id":2}]`,
			remote: `[{"id":1},{"x":2}]`, why: merge.BothChanged},
		{name: "an id twice", base: `[{"id":1},{"id":2}]`, local: `[{"id":1,"a":1},{"id":2}]`,
			remote: `[{"id":1},{"id":1}]`, why: merge.BothChanged},
		{name: "an object as id", base: `[{"id":{}},{"id":2}]`, local: `[{"id":{},"a":1},{"id":2}]`,
			remote: `[{"id":{}},{"id":2,"b":1}]`, why: merge.BothChanged},
		{name: "items without ids that are apart", base: `["a","b","c"]`, local: `["A","b","c"]`,
			remote: `["a","b","C"]`, want: `["A","b","C"]`},
		{name: "no array in the base", base: `{"l":1}`, local: `{"l":[{"id":1}]}`,
			remote: `{"l":[{"id":2}]}`, want: `{"l":[{"id":2},{"id":1}]}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := byID([]byte(tt.base), []byte(tt.local), []byte(tt.remote))
			if tt.why != "" {
				is, at := reason(t, err)
				require.Equal(t, tt.why, is)
				require.Equal(t, tt.at, at)
				return
			}
			require.NoError(t, err)
			require.Equal(t, tt.want, string(got))
		})
	}
}

func TestJSONLimits(t *testing.T) {
	testkit.OneGoroutine(t)
	deep := func(n int) []byte { return []byte(strings.Repeat("[", n) + strings.Repeat("]", n)) }
	many := func(n int) []byte { return []byte("[" + strings.Repeat("0,", n-2) + "0]") }
	merged := func(local []byte) merge.Reason {
		_, err := merge.JSON([]byte("1"), local, []byte("2"))
		is, _ := reason(t, err)
		return is
	}
	require.Equal(t, merge.BothChanged, merged(deep(merge.MaxDepth)))
	require.Equal(t, merge.TooLarge, merged(deep(merge.MaxDepth+1)))
	require.Equal(t, merge.NotJSON, merged(deep(100_000)))
	require.Equal(t, merge.NotJSON, merged(nil))
	require.Equal(t, merge.BothChanged, merged(many(merge.MaxParts)))
	require.Equal(t, merge.TooLarge, merged(many(merge.MaxParts+1)))
	half := func(key string) []byte {
		return []byte("{" + key + ":[" + strings.Repeat("0,", merge.MaxParts/2) + "0]}")
	}
	_, err := merge.JSON(nil, half(`"a"`), half(`"b"`))
	is, _ := reason(t, err)
	require.Equal(t, merge.TooLarge, is, "a result that could not be merged again")
}

// Twice as much of what strangers may send costs twice as much.
func TestJSONCost(t *testing.T) {
	testkit.OneGoroutine(t)
	const n = 1000
	repeat := func(open, item, end string) func(n int) string {
		return func(n int) string {
			var b strings.Builder
			for i := range n {
				b.WriteString("," + strings.ReplaceAll(item, "#", fmt.Sprint(i)))
			}
			return open + b.String()[1:] + end
		}
	}
	for name, text := range map[string]func(n int) string{
		"members":           repeat("{", `"k#":#`, "}"),
		"items":             repeat("[", `"#"`, "]"),
		"equal items":       repeat("[", `"a"`, "]"),
		"arrays of strings": repeat("{", `"k#":["a#","b#","c#"]`, "}"),
		"items with ids":    repeat("[", `{"id":#,"a":1}`, "]"),
		"escapes":           repeat(`["`, `\ud83d\n`, `"]`),
	} {
		work := func(n int) func() {
			base := text(n)
			local := strings.NewReplacer(`"a`, `"A`, `:1`, `:2`).Replace(base)
			remote := strings.NewReplacer(`"c`, `"C`, `"9`, `"X`).Replace(base)
			return func() {
				for _, byID := range []string{"", "id"} {
					f := merge.Options{ByID: byID, PreferLocal: true}.JSON
					_, err := f([]byte(base), []byte(local+" "), []byte(remote+"  "))
					require.NoError(t, err)
				}
			}
		}
		once, twice := cost.Bytes(work(n)), cost.Bytes(work(2*n))
		require.LessOrEqual(t, twice, 3*once+1<<18, "%s: %d, then %d bytes", name, once, twice)
	}
}
