package seal

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/internal/testkit"
)

// Contents seals as a Writer does, and opens what that has sealed; not what was changed or cut.
func TestContents(t *testing.T) {
	c := key.Contents(7)
	sizes := []int{0, 1, 100, SegmentSize - 1, SegmentSize, SegmentSize + 1, 3 * SegmentSize}
	for _, size := range sizes {
		content := testkit.Random(uint64(size), size)
		want := sealed(t, key, 7, content)
		got, err := c.SealBytes([]byte("before"), content)
		require.NoError(t, err)
		require.Equal(t, "before", string(got[:6]))
		require.Equal(t, want, got[6:], size)
		open, err := c.OpenBytes(want)
		require.NoError(t, err)
		require.Equal(t, content, append([]byte{}, open...), size)

		for _, other := range []*Contents{key.Contents(8), ReadKey{9}.Contents(7)} {
			_, err = other.OpenBytes(want)
			require.ErrorIs(t, err, ErrSealed)
		}
		for _, end := range []int{0, 4, HeadSize, HeadSize + tagSize, len(want) - 1,
			HeadSize + SegmentSize + tagSize} {
			if end < len(want) {
				_, err = c.OpenBytes(want[:end])
				require.ErrorIs(t, err, ErrSealed, fmt.Sprint(size, " cut at ", end))
			}
		}
		for at := 0; at < len(want); at += 1 + len(want)/100 {
			want[at] ^= 1
			_, err = c.OpenBytes(want)
			require.ErrorIs(t, err, ErrSealed, fmt.Sprint(size, " changed at ", at))
			want[at] ^= 1
		}
	}
}
