package api

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

func FuzzKey(f *testing.F) {
	for _, s := range []string{"", "plain", "hex:00ff", "hex:zz", "\xff", "a\nb", "ünicode"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 1000 {
			return
		}
		back, err := ParseKey(Key(b).String())
		require.NoError(t, err)
		require.True(t, bytes.Equal(b, back))
		j, err := json.Marshal(Key(b))
		require.NoError(t, err)
		var k Key
		require.NoError(t, json.Unmarshal(j, &k))
		require.True(t, bytes.Equal(b, k))
	})
}
