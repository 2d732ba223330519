package record

import (
	"bytes"
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/replica"
)

// The keys of a batch are read as they were written, and nothing else is.
func TestManifest(t *testing.T) {
	keys := [][]byte{[]byte("a"), {}, []byte("b/\x00")}
	b := AppendManifest(nil, keys)
	const want = "736b6572727920626174636820310a" + "03" + "0161" + "00" + "03622f00"
	require.Equal(t, want, hex.EncodeToString(b))
	got, err := ParseManifest(b)
	require.NoError(t, err)
	require.Equal(t, keys, got)
	for i := range b {
		_, err := ParseManifest(b[:i])
		require.ErrorIs(t, err, ErrMalformed, i)
	}
	for name, b := range map[string][]byte{
		"more":          append(bytes.Clone(b), 0),
		"another magic": append([]byte("skerry batch 2\n"), b[len(manifestMagic):]...),
		"a long key":    AppendManifest(nil, [][]byte{make([]byte, replica.MaxKey+1)}),
		"too many":      AppendManifest(nil, make([][]byte, MaxParts+1)),
		"too long":      make([]byte, MaxManifest+1),
	} {
		_, err := ParseManifest(b)
		require.ErrorIs(t, err, ErrMalformed, name)
	}
}

func FuzzParseManifest(f *testing.F) {
	f.Add(AppendManifest(nil, [][]byte{[]byte("a"), []byte("bc")}))
	f.Fuzz(func(t *testing.T, b []byte) {
		keys, err := ParseManifest(b)
		if err != nil {
			require.ErrorIs(t, err, ErrMalformed)
			return
		}
		require.Equal(t, b, AppendManifest(nil, keys), "one manifest has one form")
	})
}
