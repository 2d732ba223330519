package record

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// drawVector returns any set over a few devices.
func drawVector(t *rapid.T, name string) (v Vector) {
	for _, n := range rapid.SliceOfNDistinct(rapid.ByteRange(0, 5), 0, 5, rapid.ID).Draw(t, name) {
		v = v.With(dot(n, rapid.Uint64Range(1, 5).Draw(t, "counter")))
	}
	return v
}

// Vectors are sets: their union and what they cover is what sets of versions say.
func TestVectors(t *testing.T) {
	set := func(v Vector) map[Dot]bool {
		all := map[Dot]bool{}
		for n := range byte(6) {
			for c := uint64(1); c <= 6; c++ {
				if v.Covers(dot(n, c)) {
					all[dot(n, c)] = true
				}
			}
		}
		return all
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawVector(t, "a"), drawVector(t, "b")
		sa, sb, both := set(a), set(b), set(a.Union(b))
		meets := false
		for d := range sa {
			require.True(t, both[d])
			meets = meets || sb[d]
		}
		for d := range sb {
			require.True(t, both[d])
		}
		for d := range both {
			require.True(t, sa[d] || sb[d])
		}
		require.Equal(t, meets, a.Meets(b))
		require.Equal(t, len(both) == len(sa), a.CoversAll(b))
		require.Equal(t, a.Union(b), b.Union(a))
		require.False(t, a.Covers(dot(1, 0)), "no version has the counter 0")
		x := dot(rapid.ByteRange(0, 5).Draw(t, "x"), rapid.Uint64Range(1, 5).Draw(t, "counter"))
		require.Equal(t, a.Union(Vector{x}), append(Vector(nil), a...).With(x))
	})
}

// One author's incarnations do not fill a vector, and keep nobody else's out.
func TestBounded(t *testing.T) {
	var v Vector
	of := func(author, n byte) Device {
		d := device(author)
		d.Incarnation[0] = n
		return d
	}
	for author := range byte(3) {
		for n := range byte(40) {
			v = v.With(Dot{of(author, n), 1})
		}
	}
	v = v.With(dot(9, 4))
	keep := of(1, 39)
	got := v.Bounded(keep)
	require.Len(t, got, 3*perAuthor+1)
	require.True(t, got.Covers(Dot{keep, 1}))
	require.True(t, got.Covers(dot(9, 4)))
	require.True(t, v.CoversAll(got))
	require.Equal(t, got, got.Bounded(keep))
	few := Vector{dot(1, 1), dot(2, 2)}
	require.Equal(t, few, few.Bounded(device(1)))
}
