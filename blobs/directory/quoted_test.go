package directory

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// What an error shows of a name that somebody else has chosen is bounded, and whole letters.
func TestErrorsShowLittleOfLongNames(t *testing.T) {
	for _, name := range []string{
		strings.Repeat("a", MaxPath), strings.Repeat("\x01", MaxPath), strings.Repeat("語", MaxPath/3),
		"a" + strings.Repeat("語", MaxPath/3-1),
	} {
		text := (&NameError{name, "link to " + quoted(name) + " leads out of the directory"}).Error()
		require.Less(t, len(text), 1300)
		require.True(t, utf8.ValidString(text))
		require.NotContains(t, text, string(utf8.RuneError))
		require.Contains(t, text, "bytes)")
	}
	require.Equal(t, `refused name "a/../b": why`, (&NameError{"a/../b", "why"}).Error())
}
