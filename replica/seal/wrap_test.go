package seal

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWrap(t *testing.T) {
	key, context := NewReadKey(), []byte("what it is for")
	var seed [32]byte
	_, _ = rand.Read(seed[:])
	author := [32]byte(ed25519.NewKeyFromSeed(seed[:]).Public().(ed25519.PublicKey))
	w, err := key.Wrap(author, context)
	require.NoError(t, err)
	again, err := key.Wrap(author, context)
	require.NoError(t, err)
	require.NotEqual(t, w, again, "each has a key of its own")
	got, err := Unwrap(w, seed, context)
	require.NoError(t, err)
	require.Equal(t, [32]byte(key), [32]byte(got))

	_, err = Unwrap(w, seed, []byte("something else"))
	require.ErrorIs(t, err, ErrSealed)
	_, err = Unwrap(w, [32]byte{1}, context)
	require.ErrorIs(t, err, ErrSealed)
	for i := range w {
		bad := w
		bad[i] ^= 1
		_, err := Unwrap(bad, seed, context)
		require.ErrorIs(t, err, ErrSealed, i)
	}
	_, err = Unwrap(Wrapped{}, seed, context) // a point of small order
	require.ErrorIs(t, err, ErrSealed)
	_, err = key.Wrap([32]byte{1}, context) // the neutral element
	require.ErrorIs(t, err, ErrNoRecipient)
	_, err = key.Wrap([32]byte{2}, context) // no point at all
	require.ErrorIs(t, err, ErrNoRecipient)
}

func TestOlderKeys(t *testing.T) {
	older, newer := NewReadKey(), NewReadKey()
	o, err := newer.SealOlder(older)
	require.NoError(t, err)
	got, err := newer.OpenOlder(o)
	require.NoError(t, err)
	require.Equal(t, [32]byte(older), [32]byte(got))
	_, err = older.OpenOlder(o)
	require.ErrorIs(t, err, ErrSealed)
	for i := range o {
		bad := o
		bad[i] ^= 1
		_, err := newer.OpenOlder(bad)
		require.ErrorIs(t, err, ErrSealed, i)
	}
	require.NotEqual(t, older.Commitment(), newer.Commitment())
}

// Golden: keys that were wrapped can be opened by all later versions.
func TestGoldenKeys(t *testing.T) {
	key, older := ReadKey{1}, ReadKey{2}
	author := [32]byte(ed25519.NewKeyFromSeed(make([]byte, 32)).Public().(ed25519.PublicKey))
	w, err := key.wrapWith([32]byte{3}, author, []byte("context"))
	require.NoError(t, err)
	require.Equal(
		t,
		"2fe57da347cd62431528daac5fbb290730fff684afc4cfc2ed90995f58cb3b7419b184082056f5c054eed677e355037b8b7355bc9509a356c43b78671d80a84b8dbee7bbf1eb9d87d97a1c77522e4036",
		hex.EncodeToString(w[:]),
	)
	o, err := key.SealOlder(older)
	require.NoError(t, err)
	require.Equal(
		t,
		"6aaaf75bf47c95d188511f8f3854bf098d4d3fb81cefef6826498bee4b0e7d894bb41776b90faa4e37e17227cd6dfd7bbd1dbee3138bcea38ab29ae004862f1378fac2069cbe8ce2",
		hex.EncodeToString(o[:]),
	)
	c := key.Commitment()
	require.Equal(
		t, "21f5604319d1232d49b2506e96898ee80b803de0ad1c2cd0e12650ad1212c6e8", hex.EncodeToString(c[:]),
	)
}
