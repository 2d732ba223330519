package clock

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Two peers at least, and more than half of those that answer, must say that a clock is wrong, in
// the same direction. One that agrees is enough to confirm it, if it is not outvoted.
func TestJudge(t *testing.T) {
	const h = time.Hour
	for _, c := range []struct {
		ahead        []time.Duration
		wrong, right bool
		by           time.Duration
	}{
		{nil, false, false, 0},
		{[]time.Duration{0}, false, true, 0},
		{[]time.Duration{h}, false, false, h},
		{[]time.Duration{h, h}, true, false, h},
		{[]time.Duration{-h, -2 * h, -3 * h}, true, false, -2 * h},
		{[]time.Duration{h, -h}, false, false, h},
		{[]time.Duration{h, h, 0}, true, false, h},
		{[]time.Duration{h, 0, 0}, false, true, h},
		{[]time.Duration{h, h, 0, 0}, false, false, h},
		{[]time.Duration{h, h, -h, -h, -h}, true, false, -h},
		{[]time.Duration{h, h, -h, -h, 0}, false, false, h},
		{[]time.Duration{9 * time.Minute, -9 * time.Minute}, false, true, 0},
		{[]time.Duration{11 * time.Minute, 11 * time.Minute}, true, false, 11 * time.Minute},
	} {
		j := judge(c.ahead)
		require.Equal(t, c.wrong, j.Wrong(), "%v", c.ahead)
		require.Equal(t, c.right, j.Right(), "%v", c.ahead)
		require.Equal(t, c.by, j.Ahead, "%v", c.ahead)
		require.Equal(t, c.wrong, j.String() != "", "%v", c.ahead)
	}
	require.Equal(t, "this machine's clock is 1h0m0s ahead of that of 2 of 3 known peers",
		judge([]time.Duration{-h, -h, 0}).String())
	require.Equal(t, "this machine's clock is 1h0m0s behind that of 2 of 2 known peers",
		judge([]time.Duration{h, h}).String())
}
