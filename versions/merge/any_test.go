package merge_test

import (
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

// Objects that two devices made without each other are merged if nothing in them is in conflict;
// texts are not.
func TestAnyWithoutBase(t *testing.T) {
	got, err := merge.Any(nil, []byte(`{"a":1}`), []byte(`{"b":2}`))
	require.NoError(t, err)
	require.JSONEq(t, `{"a":1,"b":2}`, string(got))
	_, err = merge.Any(nil, []byte("a\n"), []byte("b\n"))
	require.Error(t, err)
}
