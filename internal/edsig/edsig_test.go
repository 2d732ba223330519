package edsig

import (
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/rand"
	"testing"

	"github.com/oasisprotocol/curve25519-voi/curve"
	"github.com/stretchr/testify/require"
)

func drawn(t testing.TB) (ed25519.PrivateKey, [32]byte) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	return private, [32]byte(public)
}

// The list of weak keys has all encodings of the points of small order, and nothing else.
func TestWeakKeysAreAll(t *testing.T) {
	require.Len(t, weak, 14)
	for key := range weak {
		var p curve.EdwardsPoint
		c := curve.CompressedEdwardsY(key)
		_, err := p.SetCompressedY(&c)
		require.NoError(t, err)
		require.True(t, p.IsSmallOrder())
	}
	for _, p := range curve.EIGHT_TORSION {
		var c curve.CompressedEdwardsY
		c.SetEdwardsPoint(p)
		require.True(t, Weak([32]byte(c)))
	}
	for i := range byte(20) {
		_, public := drawn(t)
		require.False(t, Weak(public))
		require.False(t, Weak([32]byte{31: i | 0x40}))
	}
}

// A weak key signs everything under ZIP-215 and nothing under the stricter rules; whatever way is
// taken to verify, the outcome is the same.
func TestAllWaysAgree(t *testing.T) {
	private, public := drawn(t)
	msg := []byte("a message")
	sig := Sign(private, msg)
	require.Equal(t, ed25519.Sign(private, msg), sig[:])
	wrong := sig
	wrong[40] ^= 1
	identity := [32]byte{1} // the neutral element: R = A = 1, s = 0
	anybody := [64]byte{1}
	noPoint := [32]byte{2}
	for name, c := range map[string]struct {
		public            [32]byte
		sig               [64]byte
		zip215, noWeakKey bool
	}{
		"right":      {public, sig, true, true},
		"wrong":      {public, wrong, false, false},
		"weak":       {identity, anybody, true, false},
		"no point":   {noPoint, sig, false, false},
		"other's":    {identity, sig, false, false},
		"beyond l":   {public, [64]byte{63: 0xff}, false, false},
		"zeros":      {public, [64]byte{}, false, false},
		"zero point": {[32]byte{}, sig, false, false},
	} {
		for i, rules := range []Rules{ZIP215, NoWeakKeys} {
			want := []bool{c.zip215, c.noWeakKey}[i]
			require.Equal(t, want, rules.Verify(c.public, msg, c.sig), "%s, rules %d", name, i)
			keys := NewKeys(rules, 2)
			for range 2 { // the second time the key is ready
				require.Equal(t, want, keys.Verify(c.public, msg, c.sig), "%s, rules %d", name, i)
			}
			b := keys.Batch(3)
			b.Add(public, msg, sig)
			b.Add(c.public, msg, c.sig)
			b.Add(public, msg, sig)
			require.Equal(t, want, b.Verify(), "%s in a batch, rules %d", name, i)
		}
	}
}

// No more keys are kept than was said, and one that has gone is made ready again.
func TestKeysAreBounded(t *testing.T) {
	keys := NewKeys(NoWeakKeys, 2)
	for range 5 {
		private, public := drawn(t)
		require.True(t, keys.Verify(public, nil, Sign(private, nil)))
		require.LessOrEqual(t, keys.ready.Len(), 2)
	}
	require.Equal(t, 1, func() int {
		k := NewKeys(NoWeakKeys, 0)
		private, public := drawn(t)
		require.True(t, k.Verify(public, nil, Sign(private, nil)))
		return k.ready.Len()
	}())
}

// Two who exchange the Montgomery forms of their keys share a secret.
func TestX25519(t *testing.T) {
	private, public := drawn(t)
	scalar, same := X25519Secret([32]byte(private.Seed()))
	require.Equal(t, public, same)
	point, ok := X25519Public(public)
	require.True(t, ok)
	_, ok = X25519Public([32]byte{2})
	require.False(t, ok)
	requireKeyPair(t, scalar, point)
}

func requireKeyPair(t *testing.T, scalar, point [32]byte) {
	t.Helper()
	key, err := ecdh.X25519().NewPrivateKey(scalar[:])
	require.NoError(t, err)
	require.Equal(t, point[:], key.PublicKey().Bytes())
}
