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
	require.Equal(t, sizes(60, 40), affordable(sizes(60, 1000, 40, 1), 100, 0))
	require.Equal(t, sizes(10), affordable(sizes(60, math.MaxUint64, 10), 100, 90))
	require.Empty(t, affordable(sizes(1), 100, 100))
	require.Empty(t, affordable(sizes(1), 100, 101))
}
