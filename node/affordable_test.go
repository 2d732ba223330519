package node

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

// A limit of bytes from one peer is kept also by a single batch, whatever its entries claim.
func TestAffordable(t *testing.T) {
	sizes := func(all ...uint64) (out []wantedContent) {
		for _, n := range all {
			out = append(out, wantedContent{size: n})
		}
		return out
	}
	none := sizes()
	check := func(batch []wantedContent, limit, taken uint64, now, later, never []wantedContent) {
		a, b, c := affordable(batch, limit, taken)
		require.Equal(t, [][]wantedContent{now, later, never}, [][]wantedContent{a, b, c})
	}
	check(sizes(60, 1000, 40, 1), 100, 0, sizes(60, 40), sizes(1), sizes(1000))
	check(sizes(60, math.MaxUint64, 10), 100, 90, sizes(10), none, sizes(60, math.MaxUint64))
	check(sizes(1), 100, 100, none, none, sizes(1))
	check(sizes(1), 100, 101, none, none, sizes(1))
}
