package replicas

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCursorMarshal(t *testing.T) {
	c := cursor{time: 5000, missing: []place{{4999, [8]byte{1, 2, 3, 4, 5, 6, 7, 8}}}, digests: []digest{{1}, {2}, {3}}}
	require.Equal(t, []int64{5000, 4000, 1000}, rungs(c.time))
	require.Equal(t, "AQAAAAAAABOIAQAAAAAAABOHAQIDBAUGBwgBAAAAAAAAAAIAAAAAAAAAAwAAAAAAAAA", c.String())
	got, err := parseCursor(c.String())
	require.NoError(t, err)
	require.Equal(t, c, got)
	require.Len(t, rungs(maxTime), 23)
}

func FuzzParseCursor(f *testing.F) {
	f.Add("AQAAAAAAABOIAQAAAAAAABOHAQIDBAUGBwgBAAAAAAAAAAIAAAAAAAAAAwAAAAAAAAA")
	f.Add("AQAAAAAAAAAAAA")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := parseCursor(text)
		if err == nil && text != "" {
			require.Equal(t, text, c.String())
		}
	})
}
