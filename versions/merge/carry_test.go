package merge_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/skerry-sync/skerry/versions/merge"
)

func TestCarry(t *testing.T) {
	for _, tt := range []struct {
		name             string
		text, known, now string
		byID             string
		want             string
	}{
		{"nothing is changed", `{ "a":1.0,"x":2 }`, `{"a":1}`, `{"a":1}`, "", `{ "a":1.0,"x":2 }`},
		{"a member is changed", `{"x":[1, 2],"a":1,"y":null}`, `{"a":1}`, `{"a":2}`, "",
			`{"x":[1, 2],"a":2,"y":null}`},
		{"a member is new", `{"x":1}`, `{}`, `{"b":{},"a":1}`, "", `{"x":1,"b":{},"a":1}`},
		{"a member is deleted", `{"a":{"x":1},"y":2}`, `{"a":{}}`, `{}`, "", `{"y":2}`},
		{"nothing is left", `{"a":1}`, `{"a":1}`, `{}`, "", `{}`},
		{"objects in objects", `{"a":{"b":1,"x":1}}`, `{"a":{"b":1}}`, `{"a":{"b":2}}`, "",
			`{"a":{"b":2,"x":1}}`},
		{"digits that the writer has no room for", `{"n":9007199254740993,"a":1}`,
			`{"n":9007199254740992,"a":1}`, `{"n":9007199254740992,"a":2}`, "",
			`{"n":9007199254740993,"a":2}`},
		{"a member that the writer hides while it is zero", `{"o":{"x":1}}`, `{}`, `{"o":{"a":1}}`, "",
			`{"o":{"x":1,"a":1}}`},
		{"another kind of value", `{"a":{"x":1}}`, `{"a":{}}`, `{"a":[1]}`, "", `{"a":[1]}`},
		{"a name in another case", `{"Title":"a","x":1}`, `{"title":"a"}`, `{"title":"b"}`, "",
			`{"title":"b","x":1}`},
		{"a name in two cases", `{"title":"a","TITLE":"b"}`, `{"title":"b"}`, `{"title":"c"}`, "",
			`{"title":"c"}`},
		{"a name in two other cases", `{"Title":"a","TITLE":"b","x":1}`, `{"title":"b"}`,
			`{"title":"c"}`, "", `{"title":"c","x":1}`},
		{"a deleted name in another case", `{"Title":"a","x":1}`, `{"title":"a"}`, `{}`, "", `{"x":1}`},
		{"a map whose keys differ in case", `{"a":1,"A":2}`, `{"a":1,"A":2}`, `{"a":1,"A":3}`, "",
			`{"a":1,"A":3}`},
		{"a map that gets a key in another case", `{"a":1}`, `{"a":1}`, `{"A":3}`, "", `{"A":3}`},
		{"an item is changed", `[{"a":1,"x":1},{"a":2,"x":2}]`, `[{"a":1},{"a":2}]`, `[{"a":1},{"a":3}]`,
			"", `[{"a":1,"x":1},{"a":3,"x":2}]`},
		{"items change places", `[{"a":1,"x":1},{"a":2,"x":2}]`, `[{"a":1},{"a":2}]`,
			`[{"a":2},{"a":1}]`, "", `[{"a":2,"x":2},{"a":1,"x":1}]`},
		{"an item is deleted", `[{"a":1,"x":1},{"a":2,"x":2}]`, `[{"a":1},{"a":2}]`, `[{"a":2}]`, "",
			`[{"a":2,"x":2}]`},
		{"an item is new", `[{"a":1,"x":1}]`, `[{"a":1}]`, `[{"a":0},{"a":1}]`, "",
			`[{"a":0},{"a":1,"x":1}]`},
		{"equal items keep their order", `[{"x":1},{"x":2}]`, `[{},{}]`, `[{},{},{}]`, "",
			`[{"x":1},{"x":2},{}]`},
		{"which was changed is not to be known", `[{"a":1,"x":1},{"a":2,"x":2}]`, `[{"a":1},{"a":2}]`,
			`[{"a":3}]`, "", `[{"a":3}]`},
		{"by id", `[{"id":1,"a":1,"x":1},{"id":2,"a":1,"x":2}]`, `[{"id":1,"a":1},{"id":2,"a":1}]`,
			`[{"id":2,"a":5},{"id":3,"a":6}]`, "id", `[{"id":2,"a":5,"x":2},{"id":3,"a":6}]`},
		{"by an id that some items lack", `[{"id":1,"x":1},{"x":2}]`, `[{"id":1},{}]`,
			`[{"a":1},{"id":1,"a":1}]`, "id", `[{"x":2,"a":1},{"id":1,"x":1,"a":1}]`},
		{"an id comes twice", `[{"id":1,"x":1}]`, `[{"id":1}]`, `[{"id":1},{"id":1}]`, "id",
			`[{"id":1,"x":1},{"id":1}]`},
		{"an array that the writer reads in part", `[1,2,3]`, `[1,2]`, `[1,3]`, "", `[1,3]`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := merge.Carry([]byte(tt.text), []byte(tt.known), []byte(tt.now), tt.byID)
			require.NoError(t, err)
			require.Equal(t, tt.want, string(got))
		})
	}
	for _, bad := range [][3]string{{`{`, `1`, `2`}, {`1`, `{`, `2`}, {`1`, `2`, ``}} {
		_, err := merge.Carry([]byte(bad[0]), []byte(bad[1]), []byte(bad[2]), "")
		require.Equal(t, &merge.Conflict{Reason: merge.NotJSON}, err)
	}
	_, err := merge.Carry([]byte(`1`), nil, []byte(`1`), "")
	require.Equal(t, &merge.Conflict{Reason: merge.NotJSON}, err)
}

// known is what an app of today understands, and newer what one of tomorrow does.
type known struct {
	ID    int              `json:"id"`
	Title string           `json:"title,omitempty"`
	By    map[string]known `json:"by,omitempty"`
	Items []known          `json:"items,omitempty"`
}

type newer struct {
	Color string           `json:"color,omitempty"`
	ID    int              `json:"id"`
	Title string           `json:"title,omitempty"`
	By    map[string]newer `json:"by,omitempty"`
	Items []newer          `json:"items,omitempty"`
}

func drawn(t *rapid.T, depth int) (n newer) {
	n.Color = rapid.SampledFrom([]string{"", "red", "blue"}).Draw(t, "color")
	n.ID = rapid.IntRange(0, 3).Draw(t, "id")
	n.Title = rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "title")
	if depth == 0 {
		return n
	}
	for range rapid.IntRange(0, 3).Draw(t, "items") {
		n.Items = append(n.Items, drawn(t, depth-1))
	}
	for range rapid.IntRange(0, 2).Draw(t, "members") {
		if n.By == nil {
			n.By = map[string]newer{}
		}
		n.By[rapid.SampledFrom([]string{"a", "A", "id", "~"}).Draw(t, "key")] = drawn(t, depth-1)
	}
	return n
}

func marshal(t require.TestingT, v any) []byte {
	b, err := json.Marshal(v)
	require.NoError(t, err)
	return b
}

// colors counts the members that known does not have.
func (n newer) colors() map[string]int {
	all := map[string]int{}
	if n.Color != "" {
		all[n.Color]++
	}
	for _, in := range n.Items {
		for c, times := range in.colors() {
			all[c] += times
		}
	}
	for _, in := range n.By {
		for c, times := range in.colors() {
			all[c] += times
		}
	}
	return all
}

// What a writer reads of a text that was carried is what it wrote; nothing is there that was in
// neither; and a writer that changes nothing, or one title, loses nothing.
func TestCarryLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		stands := drawn(t, 2)
		text := marshal(t, stands)
		var was, now known
		require.NoError(t, json.Unmarshal(text, &was))
		require.NoError(t, json.Unmarshal(marshal(t, drawn(t, 2)), &now))
		byID := rapid.SampledFrom([]string{"", "id"}).Draw(t, "by")
		got, err := merge.Carry(text, marshal(t, was), marshal(t, now), byID)
		require.NoError(t, err)
		var read known
		require.NoError(t, json.Unmarshal(got, &read))
		require.Equal(t, string(marshal(t, now)), string(marshal(t, read)))
		var after newer
		require.NoError(t, json.Unmarshal(got, &after))
		had := stands.colors()
		for c, n := range after.colors() {
			require.LessOrEqual(t, n, had[c], "color %s", c)
		}

		got, err = merge.Carry(text, marshal(t, was), marshal(t, was), byID)
		require.NoError(t, err)
		require.Equal(t, string(text), string(got))

		edited := was
		edited.Title += "!"
		got, err = merge.Carry(text, marshal(t, was), marshal(t, edited), byID)
		require.NoError(t, err)
		want := stands
		want.Title += "!"
		after = newer{}
		require.NoError(t, json.Unmarshal(got, &after))
		require.Equal(t, string(marshal(t, want)), string(marshal(t, after)))
	})
}

func FuzzCarry(f *testing.F) {
	f.Add([]byte(`{"a":{"x":1},"B":[{"id":1,"x":1}]}`), []byte(`{"a":{},"b":[{"id":1}]}`),
		[]byte(`{"a":{"c":1},"b":[{"id":2},{"id":1,"c":0}]}`))
	f.Add([]byte(`[[1.0,{}],"\ud800"]`), []byte(`[[1,{}],"a"]`), []byte(`[[1,{"\u0061":1}]]`))
	f.Fuzz(func(t *testing.T, text, known, now []byte) {
		for _, byID := range []string{"", "id"} {
			got, err := merge.Carry(text, known, now, byID)
			if err != nil {
				require.IsType(t, &merge.Conflict{}, err)
				continue
			}
			require.True(t, json.Valid(got), "%s", got)
			again, err := merge.Carry(got, now, now, byID)
			require.NoError(t, err)
			require.Equal(t, string(got), string(again))
		}
	})
}
