package downloads

import (
	"math"
	"sync"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/node/wanted"
)

// A limit of bytes from one peer is kept also by a single batch, whatever its entries claim.
func TestAffordable(t *testing.T) {
	sizes := func(all ...uint64) (out []piece) {
		for _, n := range all {
			out = append(out, piece{Content: wanted.Content{Size: n}})
		}
		return out
	}
	none := sizes()
	check := func(batch []piece, limit, taken uint64, now, later, never []piece) {
		a, b, c := affordable(batch, limit, taken)
		require.Equal(t, [][]piece{now, later, never}, [][]piece{a, b, c})
	}
	check(sizes(60, 1000, 40, 1), 100, 0, sizes(60, 40), sizes(1), sizes(1000))
	check(sizes(60, math.MaxUint64, 10), 100, 90, sizes(10), none, sizes(60, math.MaxUint64))
	check(sizes(1), 100, 100, none, none, sizes(1))
	check(sizes(1), 100, 101, none, none, sizes(1))
}

// What several fetches take from one peer at the same time is all counted.
func TestAllThatIsTakenCounts(t *testing.T) {
	const p, fetches, times, bytes = peer.ID("p"), 8, 50, 3
	d := newWorld(t, Config{PeerStorage: 1})
	var work sync.WaitGroup
	for range fetches {
		work.Go(func() {
			for range times {
				d.addTaken(p, bytes)
			}
		})
	}
	work.Wait()
	require.EqualValues(t, fetches*times*bytes, d.Taken(t.Context(), p))
}

// A peer that has given as much as it may is not asked beside another one for large content.
func TestWhoHasGivenAllIsNotAskedBeside(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{PeerStorage: 10 * largeContent})
		for i, p := range []peer.ID{"lead", "another", "full"} {
			w.offer(p, i)
		}
		w.addTaken("full", 10*largeContent)
		w.addTaken("another", 9*largeContent)
		large := []piece{{Content: wanted.Content{Size: largeContent}}}
		require.NoError(t, w.fetch(t.Context(), "lead", large))
		require.ElementsMatch(t, []peer.ID{"lead", "another"}, w.peers.beside)
		small := []piece{{Content: wanted.Content{Size: largeContent - 1}}}
		require.NoError(t, w.fetch(t.Context(), "lead", small))
		require.Empty(t, w.peers.beside)
	})
}

// Whether a peer may give a batch goes by what it has given before.
func TestWhoMayGive(t *testing.T) {
	const limit = 100
	batch := []piece{{Content: wanted.Content{Size: 60}}, {Content: wanted.Content{Size: 30}}}
	for taken, may := range map[uint64]bool{0: true, 10: true, 11: false, limit: false} {
		d := newWorld(t, Config{PeerStorage: limit})
		d.addTaken("p", taken)
		require.Equal(t, may, d.mayGive(t.Context(), "p", batch), taken)
		require.True(t, d.mayGive(t.Context(), "another", batch))
	}
	d := newWorld(t, Config{})
	d.addTaken("p", 1<<40)
	require.True(t, d.mayGive(t.Context(), "p", batch), "there is no limit")
}
