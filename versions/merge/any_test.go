package merge_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/versions/merge"
)

// What the contents are decides how they are merged.
func TestAny(t *testing.T) {
	laidOut := "{\n  \"days\": 3,\n  \"title\": \"Trip\",\n  \"who\": \"Ann\"\n}\n"
	for _, tt := range []struct {
		name                string
		base, local, remote string
		want                string
		why                 merge.Reason
	}{
		{
			"JSON on one line is merged member by member",
			`{"a":1,"b":1}` + "\n", `{"a":2,"b":1}`, `{"a":1,"b":2}`, `{"a":2,"b":2}`, "",
		},
		{
			"JSON on several lines keeps its form", laidOut,
			"{\n  \"days\": 4,\n  \"title\": \"Trip\",\n  \"who\": \"Ann\"\n}\n",
			"{\n  \"days\": 3,\n  \"title\": \"Trip\",\n  \"who\": \"Bea\"\n}\n",
			"{\n  \"days\": 4,\n  \"title\": \"Trip\",\n  \"who\": \"Bea\"\n}\n", "",
		},
		{
			"a person who laid it out decides what lines do not", laidOut,
			"{\n  \"days\": 3,\n  \"title\": \"Trip\",\n  \"who\": \"Ann\",\n  \"x\": 1\n}\n",
			"{\n  \"days\": 3,\n  \"title\": \"Trip\",\n  \"who\": \"Ann\",\n  \"y\": 1\n}\n",
			"", merge.BothChanged,
		},
		{
			"text is merged line by line",
			"a\nb\nc\n", "a1\nb\nc\n", "a\nb\nc1\n", "a1\nb\nc1\n", "",
		},
		{
			"JSON that becomes text is text",
			`{"a":1}`, `{"a":2}`, "not JSON any more", "", merge.BothChanged,
		},
		{
			"a number changed twice is a conflict, not two lines",
			"1", "2", "3", "", merge.BothChanged,
		},
		{
			"what is no text is a conflict",
			"a\x00", "b\x00", "c\x00", "", merge.NotText,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, swapped := range []bool{false, true} {
				local, remote := tt.local, tt.remote
				if swapped {
					local, remote = remote, local
				}
				got, err := merge.Func(merge.Any).Keyed(
					[]byte("key"), []byte(tt.base), []byte(local), []byte(remote),
				)
				if tt.why != "" {
					var c *merge.Conflict
					require.ErrorAs(t, err, &c)
					require.Equal(t, tt.why, c.Reason)
					continue
				}
				require.NoError(t, err)
				require.Equal(t, tt.want, string(got))
			}
		})
	}
}

// The lists that docs/versions.md draws are merged as they are drawn there.
func TestDrawnLists(t *testing.T) {
	list := func(lines ...string) []byte { return []byte(strings.Join(lines, "\n") + "\n") }
	merged := func(base, local, remote []byte) []byte {
		got, err := merge.Any(base, local, remote)
		require.NoError(t, err)
		return got
	}
	base := list("flour", "milk", "eggs")
	phone := list("flour, 500 g", "milk", "eggs")
	require.Equal(t, string(list("flour, 500 g", "milk", "eggs", "butter")),
		string(merged(base, list("flour", "milk", "eggs", "butter"), phone)))
	require.Equal(t, string(list("flour, 500 g", "milk", "6 eggs", "tea")),
		string(merged(base, list("flour", "milk", "6 eggs", "tea"), phone)))
	_, err := merge.Any(base, list("flour", "oat milk", "eggs"), list("flour", "milk, 1 l", "eggs"))
	require.EqualError(t, err, "cannot merge: line 2: both sides changed it, in different ways")

	base = list("flour", "milk", "eggs", "tea", "salt")
	two := merged(base, list("flour", "milk", "eggs", "tea", "sea salt"),
		list("flour, 500 g", "milk", "eggs", "tea", "salt"))
	require.Equal(t, string(list("flour, 500 g", "milk", "eggs", "tea", "sea salt")), string(two))
	require.Equal(t, string(list("flour, 500 g", "milk", "6 eggs", "tea", "sea salt")),
		string(merged(base, two, list("flour", "milk", "6 eggs", "tea", "salt"))))
}

// Objects that two devices made without each other are merged if nothing in them is in conflict;
// texts are not.
func TestAnyWithoutBase(t *testing.T) {
	got, err := merge.Any(nil, []byte(`{"a":1}`), []byte(`{"b":2}`))
	require.NoError(t, err)
	require.JSONEq(t, `{"a":1,"b":2}`, string(got))
	_, err = merge.Any(nil, []byte("a\n"), []byte("b\n"))
	require.Error(t, err)
}
