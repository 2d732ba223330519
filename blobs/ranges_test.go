package blobs

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestRangesAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(label string) (Ranges, map[uint64]bool) {
			m := map[uint64]bool{}
			var rs []Range
			for range rapid.IntRange(0, 5).Draw(t, label) {
				r := Range{rapid.Uint64Range(0, 30).Draw(t, "s"), rapid.Uint64Range(0, 30).Draw(t, "e")}
				rs = append(rs, r)
				for i := r.Start; i < r.End; i++ {
					m[i] = true
				}
			}
			return NewRanges(rs...), m
		}
		a, ma := draw("a")
		b, mb := draw("b")
		check := func(name string, got Ranges, want func(i uint64) bool) {
			require.Equal(t, NewRanges(got...), got, "%s is in normal form", name)
			for i := range uint64(32) {
				require.Equal(t, want(i), got.Overlaps(Range{i, i + 1}), "%s at %d", name, i)
			}
		}
		check("union", a.Union(b), func(i uint64) bool { return ma[i] || mb[i] })
		check("intersect", a.Intersect(b), func(i uint64) bool { return ma[i] && mb[i] })
		check("without", a.Without(b), func(i uint64) bool { return ma[i] && !mb[i] })
		require.EqualValues(t, len(ma), a.Count())

		wire, err := a.AppendBinary(nil)
		require.NoError(t, err)
		back, err := ReadRanges(bytes.NewReader(wire))
		require.NoError(t, err)
		require.Equal(t, a, back)
	})
}

func FuzzReadRanges(f *testing.F) {
	for _, r := range []Ranges{nil, Everything, {{0, 1}, {5, 9}}, {{3, maxPosition}}} {
		b, err := r.AppendBinary(nil)
		require.NoError(f, err)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ReadRanges(bytes.NewReader(b))
		if err != nil {
			require.ErrorIs(t, err, ErrBadRanges)
			return
		}
		require.Equal(t, NewRanges(r...), r, "only the normal form is accepted")
	})
}
