package replicas

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/store"
)

func TestCursorMarshal(t *testing.T) {
	c := cursor{
		time: 5000, missing: []place{{4999, [8]byte{1, 2, 3, 4, 5, 6, 7, 8}}},
		digests: []digest{{1}, {2}, {3}},
	}
	require.Equal(t, []int64{5000, 4000, 1000}, rungs(c.time))
	require.Equal(t, "AQAAAAAAABOJAQAAAAAAABOHAQIDBAUGBwgBAAAAAAAAAAIAAAAAAAAAAwAAAAAAAAA", c.String())
	got, err := parseCursor(c.String())
	require.NoError(t, err)
	require.Equal(t, c, got)
	require.Len(t, rungs(maxTime), 23)
	require.Equal(t, []int64{0}, rungs(0))
	require.Empty(t, rungs(-1))
}

// However long a text is, it is read once, whether or not it is a cursor.
func TestCursorOfAnyLength(t *testing.T) {
	steps := func(n int) float64 {
		text := strings.Repeat("AQAA", n)
		return testing.AllocsPerRun(10, func() {
			_, err := parseCursor(text)
			require.ErrorIs(t, err, store.ErrCursor)
		})
	}
	require.Equal(t, steps(1000), steps(100_000))
}

func FuzzParseCursor(f *testing.F) {
	f.Add("AQAAAAAAABOJAQAAAAAAABOHAQIDBAUGBwgBAAAAAAAAAAIAAAAAAAAAAwAAAAAAAAA")
	f.Add("AQAAAAAAAAAAAA")
	f.Add("AwAAAAAAAAAAAA")
	f.Add("AX0000000000AA")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := parseCursor(text)
		switch {
		case err != nil:
			require.ErrorIs(t, err, store.ErrCursor)
		case text == "":
			require.Equal(t, cursor{time: -1}, c)
		default:
			require.Equal(t, text, c.String())
		}
	})
}
