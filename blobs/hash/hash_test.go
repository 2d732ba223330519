package hash

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A hash has one text, which is read in capitals, too.
func TestText(t *testing.T) {
	h := Hash{0xab, 1, 31: 0xff}
	text := "ab01" + strings.Repeat("0", 58) + "ff"
	require.Equal(t, text, h.String())
	require.Equal(t, "ab01000000", h.Short())
	for _, s := range []string{text, strings.ToUpper(text)} {
		back, err := Parse(s)
		require.NoError(t, err)
		require.Equal(t, h, back)
	}
	b, err := json.Marshal(h)
	require.NoError(t, err)
	require.Equal(t, `"`+text+`"`, string(b))
	var back Hash
	require.NoError(t, json.Unmarshal(b, &back))
	require.Equal(t, h, back)
}

func TestTextThatIsNoHash(t *testing.T) {
	for _, bad := range []string{
		"", "xyz", strings.Repeat("g", 64), strings.Repeat("a", 63), strings.Repeat("a", 65),
		strings.Repeat("a", 63) + "g", strings.Repeat("a", 66),
	} {
		h, err := Parse(bad)
		require.ErrorIs(t, err, ErrNotHash, bad)
		require.Zero(t, h, bad)
		require.ErrorIs(t, h.UnmarshalText([]byte(bad)), ErrNotHash)
	}
}
