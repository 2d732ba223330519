package reconcile

import (
	"encoding/binary"
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// plainProduct multiplies by the definition, with big integers for polynomials.
func plainProduct(a, b gf) gf {
	toInt := func(x gf) *big.Int {
		e := x.element()
		return new(big.Int).SetBytes(e[:])
	}
	x, y, r := toInt(a), toInt(b), new(big.Int)
	for i := range 128 {
		if y.Bit(i) == 1 {
			r.Xor(r, new(big.Int).Lsh(x, uint(i)))
		}
	}
	m := new(big.Int).SetBit(big.NewInt(0x87), 128, 1)
	for i := r.BitLen() - 1; i >= 128; i-- {
		if r.Bit(i) == 1 {
			r.Xor(r, new(big.Int).Lsh(m, uint(i-128)))
		}
	}
	var e Element
	r.FillBytes(e[:])
	return gfFrom(e)
}

func drawGF(t *rapid.T, name string) gf {
	return gf{rapid.Uint64().Draw(t, name+" lo"), rapid.Uint64().Draw(t, name+" hi")}
}

func TestFieldAgainstPlainCode(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawGF(t, "a"), drawGF(t, "b")
		require.Equal(t, plainProduct(a, b), a.times(b))
		require.Equal(t, plainProduct(a, a), a.squared())
		if !a.isZero() {
			require.Equal(t, gf{lo: 1}, a.times(a.inverse()))
		}
		require.Equal(t, a, gfFrom(a.element()))
	})
}

func randomElements(rng *rand.Rand, n int) []Element {
	out := make([]Element, n)
	for i := range out {
		binary.BigEndian.PutUint64(out[i][:], rng.Uint64())
		binary.BigEndian.PutUint64(out[i][8:], rng.Uint64())
	}
	return out
}

// A sketch gives back up to seven elements exactly, and knows when there are more.
func TestSketchDecodes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		n := rapid.IntRange(1, capacity).Draw(t, "sums")
		d := rapid.IntRange(0, capacity+4).Draw(t, "elements")
		want := randomElements(rng, d)
		if rapid.Bool().Draw(t, "alike") { // as entries of one time are
			for i := range want {
				copy(want[i][:12], "the same tim")
			}
		}
		var a, b Sketch
		for _, e := range randomElements(rng, 5) { // what both sides have
			a.toggle(e)
			b.toggle(e)
		}
		for i, e := range want {
			if i%2 == 0 {
				a.toggle(e)
			} else {
				b.toggle(e)
			}
		}
		a.merge(&b)
		got, ok := a.decode(n)
		require.Equal(t, d < n, ok)
		if ok {
			byBytes := func(x, y Element) int { return slices.Compare(x[:], y[:]) }
			slices.SortFunc(got, byBytes)
			slices.SortFunc(want, byBytes)
			require.Equal(t, len(want), len(got))
			require.True(t, slices.Equal(want, got))
		}
	})
}

// Golden: sums never change their meaning.
func TestSketchGolden(t *testing.T) {
	var s Sketch
	s.toggle(Element{0: 1, 15: 2})
	s.toggle(Element{7: 9})
	require.Equal(
		t,
		"0200000000000000090000000000000108000000000000007f2b010000154e052000000000000000bd900935d7955310",
		fmt.Sprintf("%x", s.appendSums(nil, 3)),
	)
}

// Sums of anything at all decode to nothing, or to elements that have these sums.
func FuzzSketch(f *testing.F) {
	f.Add(make([]byte, sketchSumSize), 1)
	f.Add([]byte("0123456789abcdef0123456789abcdef0123456789abcdef"), 3)
	f.Fuzz(func(t *testing.T, b []byte, n int) {
		if n < 1 || n > capacity || len(b) < n*sketchSumSize {
			return
		}
		var s, again Sketch
		s.setSums(b[:n*sketchSumSize])
		elements, ok := s.decode(n)
		if !ok {
			return
		}
		for _, e := range elements {
			again.toggle(e)
		}
		require.Equal(t, b[:n*sketchSumSize], again.appendSums(nil, n))
	})
}

func BenchmarkSketchToggle(b *testing.B) {
	var s Sketch
	for i := range b.N {
		s.toggle(Element{0: byte(i), 8: 1})
	}
}

func BenchmarkSketchDecode(b *testing.B) {
	for _, d := range []int{1, 2, 3, 7} {
		b.Run(fmt.Sprintf("elements=%d", d), func(b *testing.B) {
			var s Sketch
			for _, e := range randomElements(rand.New(rand.NewPCG(1, 2)), d) {
				s.toggle(e)
			}
			for range b.N {
				if _, ok := s.decode(capacity); !ok {
					b.Fatal("not decoded")
				}
			}
		})
	}
}
