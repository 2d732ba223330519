package downloads

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/node/content"
	"github.com/skerry-sync/skerry/node/wanted"
	"github.com/skerry-sync/skerry/replica"
)

// Several peers that each have a part of what is wanted give all of it, and nothing is asked of two
// at once.
func TestWorkersShareTheWork(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{PeerStorage: 1 << 20})
		w.run()
		var changes []replica.Change
		of := map[peer.ID]uint64{}
		for i := range 2 * downloadBatch {
			p := []peer.ID{"a", "b", "c"}[i%3]
			changes = append(changes, w.offer(p, i))
			of[p] += changes[i].Size
		}
		entries := w.put(changes...)
		require.Equal(t, len(entries), w.count())
		limited, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		for i := range entries {
			require.NoError(t, w.wanted.WaitEntry(limited, &entries[i]))
		}
		synctest.Wait()
		require.Zero(t, w.count())
		require.Zero(t, w.Stats().Fetching)
		require.Empty(t, w.peers.twice)
		for p, bytes := range of {
			require.Equal(t, bytes, w.Taken(t.Context(), p), p)
		}
	})
}

// A claim that a fetch proves wrong is not asked for again, and whoever waits for it is told.
func TestWrongClaimsAreNotAskedForAgain(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{})
		lie := w.offer("p", 1)
		lie.Size++
		delete(w.peers.have["p"], lie.Hash)
		w.peers.wrong[lie.Hash] = lie.Size - 1
		w.run()
		e := w.put(lie)[0]
		limited, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		wrong, ok := errors.AsType[*content.SizeError](w.wanted.WaitEntry(limited, &e))
		require.True(t, ok)
		require.Equal(t, &content.SizeError{Hash: e.Hash, Want: e.Size, Have: e.Size - 1}, wrong)
		time.Sleep(time.Hour)
		require.Len(t, w.peers.times("p", lie.Hash), 1)
		require.Equal(t, wanted.Refuted, w.state(&e))
		require.Zero(t, w.count())
		var told []wanted.RefutedClaim
		require.NoError(t, w.wanted.RefutedClaims(t.Context(), w.replica.ID,
			func(c wanted.RefutedClaim) error { told = append(told, c); return nil }))
		require.Equal(t, []wanted.RefutedClaim{
			{Author: w.author.Author(), Key: e.Key, Hash: e.Hash, Claimed: e.Size, Proved: e.Size - 1},
		}, told)
	})
}

// A peer that lacks content is asked for it less and less often, and at once when it is said to
// have got it.
func TestWhoLacksContentIsAskedAgain(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{})
		c := w.offer("p", 1)
		b := w.peers.have["p"][c.Hash]
		delete(w.peers.have["p"], c.Hash)
		w.run()
		e := w.put(c)[0]
		time.Sleep(time.Hour)
		times := w.peers.times("p", c.Hash)
		require.Greater(t, len(times), 10)
		for i := range len(times) - 2 {
			require.GreaterOrEqual(t, times[i+2].Sub(times[i+1]), times[i+1].Sub(times[i]))
		}
		w.peers.mu.Lock()
		w.peers.have["p"][c.Hash] = b
		w.peers.mu.Unlock()
		w.DueAgain("p")
		time.Sleep(2 * time.Second)
		require.Equal(t, wanted.Complete, w.state(&e))
	})
}

// What a peer is too slow to give, another gives; the slow one is not taken for lacking it.
func TestOthersGiveWhatAPeerIsTooSlowFor(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{})
		w.peers.slow["slow"] = true
		c := w.offer("slow", 1)
		w.run()
		e := w.put(c)[0]
		time.Sleep(passTime)
		w.offer("fast", 1)
		w.LookEverywhere()
		time.Sleep(3 * time.Second)
		require.Equal(t, wanted.Complete, w.state(&e))

		c = w.offer("slow", 2)
		w.put(c)
		time.Sleep(time.Minute)
		times := w.peers.times("slow", c.Hash)
		require.Greater(t, len(times), 5)
		for i := range times[1:] {
			require.Less(t, times[i+1].Sub(times[i]), 2*passTime, "the pauses do not grow")
		}
	})
}

// A change of policy is caught up with: what it asks for is fetched, and nothing else is wanted any
// more.
func TestPoliciesAreCaughtUpWith(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		w := newWorld(t, Config{})
		nothing := wanted.Policy{Nothing: true}
		require.NoError(t, w.SetPolicy(t.Context(), w.replica.ID, nothing))
		w.run()
		one, two := w.offer("p", 1), w.offer("p", 2)
		entries := w.put(one, two)
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Zero(t, w.count())
		require.Empty(t, w.peers.asked)
		some := wanted.Policy{Prefixes: [][]byte{one.Key}}
		require.NoError(t, w.SetPolicy(t.Context(), w.replica.ID, some))
		time.Sleep(time.Minute)
		require.Equal(t, wanted.Complete, w.state(&entries[0]))
		require.Equal(t, wanted.Missing, w.state(&entries[1]))

		w.peers.mu.Lock()
		delete(w.peers.have["p"], two.Hash)
		w.peers.mu.Unlock()
		require.NoError(t, w.SetPolicy(t.Context(), w.replica.ID, wanted.Policy{}))
		require.Equal(t, 1, w.count())
		require.NoError(t, w.SetPolicy(t.Context(), w.replica.ID, some))
		require.Zero(t, w.count())

		many := wanted.Policy{Prefixes: make([][]byte, wanted.MaxPrefixes+1)}
		require.ErrorContains(t, w.SetPolicy(t.Context(), w.replica.ID, many), "at most 256")
		require.ErrorIs(t, w.SetPolicy(t.Context(), replica.ID{1}, some), replica.ErrNotFound)
		require.Equal(t, some, w.wanted.Policy(w.replica.ID))
	})
}
