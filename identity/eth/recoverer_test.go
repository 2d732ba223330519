package eth

import (
	"math/big"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/internal/testkit"
)

func keyOf(t testing.TB, b ...byte) Key {
	var secret [32]byte
	copy(secret[32-len(b):], b)
	k, err := KeyFromSecret(secret)
	require.NoError(t, err)
	return k
}

// knows returns a Recoverer with a table of a key.
func knows(k Key) *Recoverer {
	r := &Recoverer{}
	for range worthIt {
		d := Keccak256([]byte("x"))
		if err := r.Verify(d, k.Sign(d), k.Address()); err != nil {
			panic(err)
		}
	}
	if r.tableOf(k.Address()) == nil {
		panic("there is no table")
	}
	return r
}

// What a table verifies is what the key is recovered from, and nothing else, whatever is changed in
// a signature.
func TestRecoverer(t *testing.T) {
	testkit.OneGoroutine(t)
	rnd := rand.New(rand.NewPCG(1, 2))
	order := secp256k1.Params().N
	for range 20 {
		secret := make([]byte, 32)
		for i := range secret {
			secret[i] = byte(rnd.Uint32())
		}
		k := keyOf(t, secret...)
		r := knows(k)
		for range 20 {
			var d [32]byte
			for i := range d {
				d[i] = byte(rnd.Uint32())
			}
			switch rnd.IntN(6) {
			case 0:
				d = [32]byte{}
			case 1:
				d = [32]byte{31: byte(rnd.IntN(3))}
			case 2: // more than the order
				for i := range d {
					d[i] = 0xff
				}
			}
			sig := k.Sign(d)
			require.NoError(t, r.Verify(d, sig, k.Address()))
			for range 20 {
				bad := sig
				switch rnd.IntN(5) {
				case 0:
					bad[64] ^= 7 // 27 and 28
				case 1:
					bad[64] = byte(rnd.Uint32())
				case 2: // the other s
					s := new(big.Int).Sub(order, new(big.Int).SetBytes(sig[32:64]))
					s.FillBytes(bad[32:64])
				case 3:
					clear(bad[rnd.IntN(2)*32:][:32])
				default:
					bad[rnd.IntN(64)] ^= 1 << rnd.IntN(8)
				}
				got, err := RecoverAddress(d, bad)
				same := err == nil && got == k.Address()
				require.Equal(t, same, r.Verify(d, bad, k.Address()) == nil)
			}
		}
	}
}

// Numbers at the edges of the digits of a table: all multiples are those of the curve.
func TestMultiples(t *testing.T) {
	testkit.OneGoroutine(t)
	k := keyOf(t, 7)
	m := newMultiples(k.key.PubKey())
	var q secp256k1.JacobianPoint
	k.key.PubKey().AsJacobian(&q)
	check := func(n *secp256k1.ModNScalar) {
		var want, got secp256k1.JacobianPoint
		secp256k1.ScalarMultNonConst(n, &q, &want)
		m.addMul(n, &got)
		require.True(t, want.EquivalentNonConst(&got), "%x", n.Bytes())
	}
	for i := range 256 {
		for _, d := range []int64{-1, 0, 1} {
			x := new(big.Int).Add(new(big.Int).Lsh(big.NewInt(1), uint(i)), big.NewInt(d))
			var n secp256k1.ModNScalar
			n.SetByteSlice(x.FillBytes(make([]byte, 32)))
			check(&n)
			check(n.Negate())
		}
	}
	for _, b := range []byte{0x00, 0xff, 0x84, 0x21, 0x10, 0x42, 0x7b, 0xef} {
		var n secp256k1.ModNScalar
		var all [32]byte
		for i := range all {
			all[i] = b
		}
		n.SetBytes(&all)
		check(&n)
	}
}

// A signer whose table was dropped is known as before.
func TestManySigners(t *testing.T) {
	// For the race detector there are fewer signers, still more than have room, and most of the
	// signatures that are worth a table have been counted.
	each := testkit.Few(maxTables/2+20, maxTables/4+20)
	counted := testkit.Few(0, worthIt-2)
	r := &Recoverer{counted: map[Address]int{}}
	signerOf := func(g, i int) Key { return keyOf(t, byte(g+1), byte(i), 1) }
	for g := range 4 {
		for i := range each {
			r.counted[signerOf(g, i).Address()] = counted
		}
	}
	d := Keccak256([]byte("text"))
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range each {
				k := signerOf(g, i)
				sig := k.Sign(d)
				for range worthIt + 2 - counted {
					if err := r.Verify(d, sig, k.Address()); err != nil {
						t.Error(err)
					}
				}
				if r.Verify(d, sig, Address{1}) == nil {
					t.Error("of another address")
				}
			}
		})
	}
	wg.Wait()
	require.Len(t, r.tables, maxTables)
	n := 0
	for s := r.oldest; n == 0 || s != r.oldest; s = s.next {
		require.Same(t, s, r.tables[s.address])
		require.Same(t, s, s.next.prev)
		n++
	}
	require.Equal(t, maxTables, n)
	require.LessOrEqual(t, len(r.counted), maxCounted)
}

func FuzzRecoverer(f *testing.F) {
	k := keyOf(f, 9)
	r := knows(k)
	d := Keccak256([]byte("text"))
	sig := k.Sign(d)
	f.Add(d[:], sig[:])
	f.Fuzz(func(t *testing.T, digest, signature []byte) {
		var d [32]byte
		var sig Signature
		copy(d[:], digest)
		copy(sig[:], signature)
		got, err := RecoverAddress(d, sig)
		require.Equal(t, err == nil && got == k.Address(), r.Verify(d, sig, k.Address()) == nil)
	})
}

func BenchmarkRecoverer(b *testing.B) {
	k := keyOf(b, 9)
	d := Keccak256([]byte("text"))
	sig := k.Sign(d)
	b.Run("table", func(b *testing.B) {
		r := knows(k)
		for b.Loop() {
			_ = r.Verify(d, sig, k.Address())
		}
	})
	b.Run("recover", func(b *testing.B) {
		for b.Loop() {
			_, _ = RecoverAddress(d, sig)
		}
	})
	b.Run("make", func(b *testing.B) {
		for b.Loop() {
			newMultiples(k.key.PubKey())
		}
	})
}
