package merge_test

import (
	"encoding/json"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/versions/merge"
)

func TestSet(t *testing.T) {
	for _, tt := range []struct {
		name                string
		base, local, remote string
		want                string
	}{
		{"both added", `["a"]`, `["a","c"]`, `["a","b"]`, `["a","b","c"]`},
		{"both removed", `["a","b","c"]`, `["b","c"]`, `["a","b"]`, `["b"]`},
		{"one added, one removed", `["a"]`, `[]`, `["a","b"]`, `["b"]`},
		{"nothing is left", `["a","b"]`, `["a"]`, `["b"]`, `[]`},
		{"a result that one side has is that side", `["b","a"]`, `["b", "x", "c"]`, `["x","a","b"]`,
			`["b", "x", "c"]`},
		{"the same sets in different orders", `["a"]`, `["b","a"]`, `["a","b"]`, `["a","b"]`},
		{"the same sets in different spaces", `["a"]`, `["b"] `, ` ["b"]`, ` ["b"]`},
		{"an item twice is there once", `["a","a"]`, `["a","a","b"]`, `["a","c","c"]`, `["a","b","c"]`},
		{"items of any kind", `[1,{"a":1,"b":2}]`, `[1.0,{"b":2,"a":1},[2]]`, `[{"a":1,"b":2},null]`,
			`[[2],null,{"a":1,"b":2}]`},
		{"items without spaces", `[]`, `[{"a": 1}]`, `[[1, 2]]`, `[[1,2],{"a":1}]`},
		{"the shortest way to write one", `[]`, `[1.0,1,2]`, `[1.00,3]`, `[1,2,3]`},
		{"a base that is no array", `1`, `["a"]`, `["b"]`, `["a","b"]`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			check(t, merge.Set, tt.base, tt.local, tt.remote, tt.want, "", "")
		})
	}
	got, err := merge.Set(nil, []byte(`["b"]`), []byte(`["a"]`))
	require.NoError(t, err)
	require.Equal(t, `["a","b"]`, string(got), "no base")
	check(t, merge.Set, `[]`, `[1]`, `{}`, "", merge.NotSet, "")
	check(t, merge.Set, `[]`, `[1]`, `[`, "", merge.NotJSON, "")
}

func TestCounters(t *testing.T) {
	for _, tt := range []struct {
		name                string
		base, local, remote string
		want                string
		why                 merge.Reason
	}{
		{name: "two devices count", base: `{"a":[5,0]}`, local: `{"a":[6,0]}`,
			remote: `{"a":[5,0],"b":[0,2]}`, want: `{"a":[6,0],"b":[0,2]}`},
		{name: "what one device has seen of the other counts once", base: `{}`,
			local: `{"a":[6,1],"b":[2,2]}`, remote: `{"a":[5,3],"b":[3,1]}`,
			want: `{"a":[6,3],"b":[3,2]}`},
		{name: "to the end", base: `{}`, local: `{"a":[18446744073709551615,0]}`,
			remote: `{"a":[0,18446744073709551615]}`,
			want:   `{"a":[18446744073709551615,18446744073709551615]}`},
		{name: "over the end", base: `{}`, local: `{"a":[18446744073709551616,0]}`, remote: `{"b":[1,0]}`,
			why: merge.NotCounter},
		{name: "a negative tally", base: `{}`, local: `{"a":[1,0]}`, remote: `{"a":[0,-1]}`,
			why: merge.NotCounter},
		{name: "a fraction", base: `{}`, local: `{"a":[1,0]}`, remote: `{"a":[0,1.0]}`,
			why: merge.NotCounter},
		{name: "three tallies", base: `{}`, local: `{"a":[1,0]}`, remote: `{"a":[0,1,2]}`,
			why: merge.NotCounter},
		{name: "a bare number", base: `5`, local: `6`, remote: `{}`, why: merge.NotCounter},
		{name: "a bare tally", base: `{}`, local: `{"a":1}`, remote: `{"b":[1,0]}`,
			why: merge.NotCounter},
		{name: "a name that is no UTF-8", base: `{}`, local: `{"\ud800":[1,0]}`, remote: `{"b":[1,0]}`,
			why: merge.NotCounter},
		{name: "no JSON", base: `{}`, local: `{"a":[1,0]`, remote: `{"b":[1,0]}`, why: merge.NotJSON},
		{name: "a base that is no counter says nothing", base: `-`, local: `{"a":[1,0]}`,
			remote: `{"b":[1,0]}`, want: `{"a":[1,0],"b":[1,0]}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			check(t, merge.Counters, tt.base, tt.local, tt.remote, tt.want, tt.why, "")
		})
	}
}

func TestCounter(t *testing.T) {
	var c merge.Counter
	require.Zero(t, c.Value().Sign())
	require.NoError(t, c.Add("b", 5))
	require.NoError(t, c.Add("a", -7))
	require.NoError(t, c.Add("b", -1))
	require.NoError(t, c.Add("c", math.MinInt64))
	require.Equal(t, "-9223372036854775811", c.Value().String())
	text, err := json.Marshal(c)
	require.NoError(t, err)
	require.Equal(t, `{"a":[0,7],"b":[5,1],"c":[0,9223372036854775808]}`, string(text))

	require.NoError(t, c.Add("c", math.MinInt64+1))
	require.Error(t, c.Add("c", -1), "2^64")
	require.ErrorContains(t, c.Add("\xff", 1), "not UTF-8")
	after, err := json.Marshal(c)
	require.NoError(t, err)
	require.Equal(t, `{"a":[0,7],"b":[5,1],"c":[0,18446744073709551615]}`, string(after))

	var read merge.Counter
	require.NoError(t, json.Unmarshal(after, &read))
	require.Equal(t, c, read)
	require.NoError(t, json.Unmarshal(text, &read))
	require.Equal(t, "-9223372036854775811", read.Value().String())
	require.Error(t, json.Unmarshal([]byte(`{"a":[1]}`), &read))
	require.Error(t, json.Unmarshal([]byte(`{"a":[1,0],"a":[1,0]}`), &read))
	require.Equal(t, "-9223372036854775811", read.Value().String(), "as it was")
}
