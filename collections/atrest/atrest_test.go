package atrest

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

type vector struct {
	Secret, Salt, Info, Plaintext string
	Key                           string `json:"key_hex"`
	Stored                        string `json:"stored_base64"`
}

func vectors(t testing.TB) []vector {
	b, err := os.ReadFile(filepath.Join("..", "..", "testdata", "evm", "auth.json"))
	require.NoError(t, err)
	var v struct {
		Rest struct{ Vectors []vector } `json:"encryption_at_rest"`
	}
	require.NoError(t, json.Unmarshal(b, &v))
	require.NotEmpty(t, v.Rest.Vectors)
	return v.Rest.Vectors
}

func key(t testing.TB, secret string) *Key {
	k, err := NewKey(secret, "salt", InfoIdentity)
	require.NoError(t, err)
	return k
}

// What other implementations have written is read.
func TestVectors(t *testing.T) {
	for _, v := range vectors(t) {
		k, err := NewKey(v.Secret, v.Salt, v.Info)
		require.NoError(t, err)
		raw, err := hex.DecodeString(v.Key)
		require.NoError(t, err)
		same, err := newKey(raw)
		require.NoError(t, err)
		require.Equal(t, same.id, k.id)
		got, current, err := Open("any/path", []byte(v.Stored), k)
		require.NoError(t, err)
		require.False(t, current, "it is to be written anew")
		require.Equal(t, v.Plaintext, string(got))
	}
}

// The form that is written stays what it is.
func TestGolden(t *testing.T) {
	const stored = "1.HpwIuCPDnK7MweJY+5DGYYnuu13yLTKe++68kcNdh1aHLGpuoGo="
	got, current, err := Open("notes/a", []byte(stored), key(t, "one"))
	require.NoError(t, err)
	require.True(t, current)
	require.Equal(t, "golden", string(got))
}

func TestSealed(t *testing.T) {
	one, two := key(t, "one"), key(t, "two")
	stored := one.Seal("notes/a", []byte(`{"n":1}`))
	require.NotContains(t, string(stored), `{"n"`)
	require.NotEqual(t, stored, one.Seal("notes/a", []byte(`{"n":1}`)), "each time anew")
	got, current, err := Open("notes/a", stored, one)
	require.NoError(t, err)
	require.True(t, current)
	require.Equal(t, `{"n":1}`, string(got))
	got, current, err = Open("notes/a", stored, two, one)
	require.NoError(t, err)
	require.False(t, current, "of a former secret")
	require.Equal(t, `{"n":1}`, string(got))
	_, _, err = Open("notes/b", stored, one)
	require.ErrorIs(t, err, ErrSealed, "in another's place")
	_, _, err = Open("notes/a", stored, two)
	require.ErrorIs(t, err, ErrSealed)
	_, _, err = Open("notes/a", stored)
	require.ErrorIs(t, err, ErrSealed)
	for i := len(version); i < len(stored)-1; i++ {
		bad := append([]byte(nil), stored...)
		bad[i] ^= 1
		_, _, err := Open("notes/a", bad, one)
		require.Error(t, err, "byte %d", i)
	}
	for _, bad := range []string{"", "1.", "{}", "1.AAAA", "AAAA", "2.AAAA"} {
		_, _, err := Open("notes/a", []byte(bad), one)
		require.ErrorIs(t, err, ErrForm, bad)
	}
	_, err = NewKey("", "salt", InfoServer)
	require.Error(t, err)
}

// Nothing but what a key has sealed is opened.
func FuzzOpen(f *testing.F) {
	k := key(f, "one")
	f.Add("notes/a", k.Seal("notes/a", []byte("x")))
	f.Add("notes/a", []byte(vectors(f)[0].Stored))
	f.Fuzz(func(t *testing.T, path string, stored []byte) {
		plain, current, err := Open(path, stored, k)
		if err != nil {
			return
		}
		again, _, err := Open(path, k.Seal(path, plain), k)
		require.NoError(t, err)
		require.Equal(t, string(plain), string(again))
		require.True(t, current || !IsSealed(stored))
	})
}
