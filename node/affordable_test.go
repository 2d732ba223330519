package node

import (
	"math"
	"sync"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"
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

// What several fetches take from one peer at the same time is all counted.
func TestAllThatIsTakenCounts(t *testing.T) {
	const p, fetches, times, bytes = peer.ID("p"), 8, 50, 3
	n := simOpen(t)
	n.cfg.Limits.PeerStorage = 1
	var work sync.WaitGroup
	for range fetches {
		work.Go(func() {
			for range times {
				n.addTaken(p, bytes)
			}
		})
	}
	work.Wait()
	require.EqualValues(t, fetches*times*bytes, n.taken(t.Context(), p))
}
