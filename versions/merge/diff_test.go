package merge_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/skerry-sync/skerry/versions/merge"
)

func ExampleDiff() {
	base := "1\n2\n3\n4\n5\n6\n7\n8\n9\n"
	diff, _ := merge.Diff([]byte(base), []byte("0\n1\n2\n3\n4\n5\n6\n7\neight\n9\n"))
	fmt.Print(diff)
	// Output:
	// @@ line 1
	// +0
	//  1
	//  2
	//  3
	// @@ line 6
	//  5
	//  6
	//  7
	// -8
	// +eight
	//  9
}

func TestDiff(t *testing.T) {
	diff := func(base, side string) string {
		d, err := merge.Diff([]byte(base), []byte(side))
		require.NoError(t, err)
		return d
	}
	require.Empty(t, diff("a\nb", "a\nb"))
	require.Empty(t, diff("", ""))
	require.Equal(t, "@@ line 1\n+a\n", diff("", "a"))
	require.Equal(t, "@@ line 1\n-a\n", diff("a\n", ""))
	require.Contains(t, diff("a\n", "a\r\n"), "the lines are equal, and not their ends")
	require.Contains(t, diff("a\n", "a"), "the lines are equal, and not their ends")
	_, err := merge.Diff([]byte("a\x00"), []byte("a"))
	var c *merge.Conflict
	require.True(t, errors.As(err, &c))
	require.Equal(t, merge.NotText, c.Reason)
}

// What a diff says of both texts is in them, in order, and it leaves out no line that only one has.
func TestDiffTellsBothTexts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lines := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c", "", "dd"}), 0, 30)
		base, side := lines.Draw(t, "base"), lines.Draw(t, "side")
		text := func(lines []string) []byte {
			return []byte(strings.Join(append(lines[:len(lines):len(lines)], ""), "\n"))
		}
		d, err := merge.Diff(text(base), text(side))
		require.NoError(t, err)
		var was, now []string
		at := 0
		for _, line := range strings.Split(strings.TrimSuffix(d, "\n"), "\n") {
			if n, ok := strings.CutPrefix(line, "@@ line "); ok {
				var from int
				_, err := fmt.Sscan(n, &from)
				require.NoError(t, err)
				was, now = append(was, side[at:from-1]...), append(now, side[at:from-1]...)
				at = from - 1
				continue
			}
			if line == "" {
				continue
			}
			if line[0] != '-' {
				now = append(now, line[1:])
				at++
			}
			if line[0] != '+' {
				was = append(was, line[1:])
			}
		}
		was, now = append(was, side[at:]...), append(now, side[at:]...)
		require.Equal(t, append([]string{}, base...), append([]string{}, was...))
		require.Equal(t, append([]string{}, side...), append([]string{}, now...))
	})
}
