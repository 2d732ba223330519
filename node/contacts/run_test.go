package contacts

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/node/holders"
	"github.com/skerry-sync/skerry/replica"
)

// A peer that cannot be reached is tried again after longer and longer times, with some chance in
// them, but after at most five minutes and what chance adds.
func TestBackOff(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		w := newWorld(t, time.Now)
		w.start(t)
		w.remember(t, replica.ID{1}, peer.AddrInfo{ID: "other"})
		time.Sleep(3 * time.Hour)
		at := w.net.dialled()
		require.Greater(t, len(at), 3*60/7, "it is tried for ever")
		var gaps []time.Duration
		for i := range at[1:] {
			gaps = append(gaps, at[i+1].Sub(at[i]))
		}
		require.Less(t, gaps[0], 5*time.Second)
		for i, gap := range gaps {
			require.LessOrEqual(t, gap, lastRetry*5/4+tick, i)
			if i >= 9 { // 2 s, doubled until it is more
				require.GreaterOrEqual(t, gap, lastRetry*3/4, i)
			}
		}
		differ := map[time.Duration]bool{}
		for _, gap := range gaps[9:] {
			differ[gap] = true
		}
		require.Greater(t, len(differ), 3, "there is chance in it")
	})
}

// A node that has slept does not wait for its dead connections to be noticed, nor for the times at
// which it would have tried again.
func TestWakesUp(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		const friend = peer.ID("a friend")
		w := newWorld(t, time.Now)
		w.start(t)
		w.net.reach(friend, true)
		w.remember(t, replica.ID{1}, peer.AddrInfo{ID: friend})
		time.Sleep(time.Minute)
		require.True(t, w.IsConnected(friend))

		dials := len(w.net.dialled())
		w.wakeUpFrom(time.Hour)
		time.Sleep(tick + time.Second)
		require.True(t, w.IsConnected(friend), "at once")
		require.Len(t, w.net.dialled(), dials+1)

		// While it slept, the other was gone for long, and would be tried again late.
		w.net.reach(friend, false)
		w.Changed(friend, false)
		time.Sleep(2 * time.Hour)
		w.net.reach(friend, true)
		w.wakeUpFrom(time.Hour)
		time.Sleep(tick + time.Second)
		require.True(t, w.IsConnected(friend), "not after minutes")
	})
}

// What differs gets a session, which is tried again while it fails, and soon if the peer is busy.
// Who turns out not to hold a replica does not count as one that does.
func TestWhatDiffersIsSynced(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		const p = peer.ID("a peer")
		w, id := newWorld(t, time.Now), replica.ID{1}
		var mu sync.Mutex
		var tried []time.Time
		outcome := ErrBusy
		w.does.Compare = func(context.Context, peer.ID) error {
			mu.Lock()
			differ := map[replica.ID]bool{id: outcome != nil}
			mu.Unlock()
			w.Compared(p, []replica.ID{id}, differ, nil, true)
			return nil
		}
		w.does.Sync = func(_ context.Context, p peer.ID, id replica.ID, is holders.Standing) error {
			mu.Lock()
			defer mu.Unlock()
			tried = append(tried, time.Now())
			if outcome == nil {
				w.Shares(p, id)
			}
			return outcome
		}
		set := func(err error) (before int) {
			mu.Lock()
			defer mu.Unlock()
			outcome, before = err, len(tried)
			return before
		}
		w.net.reach(p, true)
		w.remember(t, id, peer.AddrInfo{ID: p})
		w.start(t)
		time.Sleep(time.Minute)
		before := set(errors.New("it fails"))
		require.GreaterOrEqual(t, before, 15, "a busy peer is soon asked again")
		require.Contains(t, w.Snapshot(p).Due, id)
		time.Sleep(10 * time.Minute)
		failed := set(nil) - before // from now on they are the same
		require.GreaterOrEqual(t, failed, 5)
		require.LessOrEqual(t, failed, 12, "less and less often")
		time.Sleep(10 * time.Minute)
		require.Empty(t, w.Snapshot(p).Due)
		require.True(t, w.Holds(p, id))

		set(ErrNotShared)
		w.Compared(p, []replica.ID{id}, map[replica.ID]bool{id: true}, nil, true)
		time.Sleep(time.Second)
		require.False(t, w.Holds(p, id))
		require.Empty(t, w.ConnectedSharing(id))
	})
}

// A peer of which nothing is known is asked once, when it comes; one that is refused is left alone.
func TestStrangersAreIntroducedOnce(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		w := newWorld(t, time.Now)
		var mu sync.Mutex
		asked := map[peer.ID]int{}
		w.does.Introduce = func(_ context.Context, p peer.ID) {
			mu.Lock()
			defer mu.Unlock()
			asked[p]++
		}
		bad := peer.ID("bad")
		w.refused.Store(&bad)
		w.start(t)
		for _, p := range []peer.ID{"stranger", bad} {
			w.Changed(p, true)
		}
		time.Sleep(time.Hour)
		mu.Lock()
		defer mu.Unlock()
		require.Equal(t, map[peer.ID]int{"stranger": 1}, asked)
		require.Empty(t, w.net.dialled())
	})
}

// A fault in what is done with a peer costs the others nothing, and the peer is tried again.
func TestAFaultCostsOnePeer(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		w, id := newWorld(t, time.Now), replica.ID{1}
		var mu sync.Mutex
		compared := map[peer.ID]int{}
		w.does.Compare = func(_ context.Context, p peer.ID) error {
			mu.Lock()
			compared[p]++
			mu.Unlock()
			if p == "faulty" {
				panic("a fault")
			}
			w.Compared(p, []replica.ID{id}, nil, nil, true)
			return nil
		}
		w.start(t)
		for _, p := range []peer.ID{"faulty", "good"} {
			w.net.reach(p, true)
			w.remember(t, id, peer.AddrInfo{ID: p})
		}
		time.Sleep(time.Hour)
		mu.Lock()
		defer mu.Unlock()
		require.Greater(t, compared["faulty"], 5)
		require.Less(t, compared["faulty"], 40)
		require.Greater(t, compared["good"], 5)
	})
}

// Whatever comes, goes and fails in whatever order: with one peer one thing is done at a time and
// one session of a replica, sessions have their bounds, and in the end, when all is well, everybody
// is connected and nothing is due.
func TestAnyOrder(t *testing.T) {
	for seed := range uint64(10) {
		testkit.Bubble(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			w := newWorld(t, time.Now)
			peers := []peer.ID{"a", "b", "c", "x", "y", "z"}
			ids := []replica.ID{{1}, {2}, {3}, {4}, {5}}
			type session struct {
				p  peer.ID
				id replica.ID
			}
			var mu sync.Mutex
			busy, sessions := map[peer.ID]int{}, map[session]int{}
			running, most, calm := map[holders.Standing]int{}, map[holders.Standing]int{}, false
			chance := func(n int) int {
				mu.Lock()
				defer mu.Unlock()
				return rnd.IntN(n)
			}
			isCalm := func() bool {
				mu.Lock()
				defer mu.Unlock()
				return calm
			}
			alone := func(p peer.ID) (leave func()) {
				mu.Lock()
				defer mu.Unlock()
				busy[p]++
				assert.Equal(t, 1, busy[p])
				return func() {
					mu.Lock()
					defer mu.Unlock()
					busy[p]--
				}
			}
			w.does.Introduce = func(context.Context, peer.ID) {
				time.Sleep(time.Duration(chance(1000)) * time.Millisecond)
			}
			w.does.Compare = func(_ context.Context, p peer.ID) error {
				defer alone(p)()
				time.Sleep(time.Duration(chance(1000)) * time.Millisecond)
				if !isCalm() && chance(3) == 0 {
					return errors.New("it fails")
				}
				differ, gone := map[replica.ID]bool{}, map[replica.ID]bool{}
				all := w.ToCompare(p)
				for _, id := range all {
					if !isCalm() {
						differ[id] = chance(3) == 0
						gone[id] = !differ[id] && chance(5) == 0
					}
				}
				w.Compared(p, all, differ, gone, true)
				return nil
			}
			w.does.Sync = func(
				ctx context.Context, p peer.ID, id replica.ID, is holders.Standing,
			) error {
				// One that a peer has left may still be under way when it has come back.
				leave, err := w.cfg.Sessions.Begin(ctx, id, p)
				if err != nil {
					return err
				}
				defer leave()
				mu.Lock()
				at := session{p, id}
				sessions[at]++
				assert.Equal(t, 1, sessions[at])
				running[is]++
				most[is] = max(most[is], running[is])
				mu.Unlock()
				defer func() {
					mu.Lock()
					defer mu.Unlock()
					sessions[at]--
					running[is]--
				}()
				time.Sleep(time.Duration(chance(20_000)) * time.Millisecond)
				if n := chance(4); !isCalm() && n < 3 {
					return []error{ErrBusy, ErrNotShared, errors.New("it fails")}[n]
				}
				w.Shares(p, id)
				return nil
			}
			w.start(t)
			for range 300 {
				p, id := peers[chance(len(peers))], ids[chance(len(ids))]
				switch chance(7) {
				case 0:
					w.net.reach(p, true)
				case 1:
					w.net.reach(p, false)
					if w.IsConnected(p) {
						w.Changed(p, false)
					}
				case 2:
					if p < "m" {
						w.remember(t, id, peer.AddrInfo{ID: p})
					}
				case 3:
					if w.IsConnected(p) {
						w.Shares(p, id)
					}
				case 4:
					w.CompareSoon()
				case 5:
					if p > "m" && !w.IsConnected(p) {
						w.net.reach(p, true)
						w.Changed(p, true)
					}
				case 6:
					w.wakeUpFrom(time.Hour)
				}
				time.Sleep(time.Duration(chance(5000)) * time.Millisecond)
			}
			mu.Lock()
			calm = true
			mu.Unlock()
			for _, p := range peers[:3] {
				w.net.reach(p, true)
				w.remember(t, ids[0], peer.AddrInfo{ID: p})
			}
			time.Sleep(2 * time.Hour)
			for _, p := range peers[:3] {
				require.True(t, w.IsConnected(p), p)
				require.True(t, w.Holds(p, ids[0]), p)
			}
			running1, due := w.Waiting()
			require.Zero(t, running1+due)
			require.Equal(t, background{of: w.running.of, from: w.running.from}, w.running)
			require.Empty(t, w.running.of)
			require.LessOrEqual(t, most[holders.Known], namedSessions)
			require.Empty(t, w.cfg.Sessions.running)
		})
	}
}
