package node

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/replica"
)

// When the gate is full, those that somebody waits for go in before all background work, in the
// order in which they came.
func TestGatePriorities(t *testing.T) {
	ctx := t.Context()
	g := newGate(1)
	leave, err := g.enter(ctx, rankKnownLater)
	require.NoError(t, err)
	var mu sync.Mutex
	var order []string
	var done sync.WaitGroup
	waiting := func() int {
		g.mu.Lock()
		defer g.mu.Unlock()
		return len(slices.Concat(g.waiting[:]...))
	}
	for i, x := range []struct {
		name string
		as   rank
	}{
		{"stranger's background", rankStrangeLater}, {"background 1", rankKnownLater}, {"background 2", rankKnownLater},
		{"stranger", rankStrange}, {"person 1", rankKnown}, {"person 2", rankKnown},
	} {
		done.Go(func() {
			leave, err := g.enter(ctx, x.as)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			order = append(order, x.name)
			mu.Unlock()
			leave()
		})
		require.Eventually(t, func() bool { return waiting() == i+1 }, 5*time.Second, time.Millisecond)
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	_, err = g.enter(gone, rankKnown)
	require.ErrorIs(t, err, context.Canceled)
	leave()
	done.Wait()
	require.Equal(t, []string{"person 1", "person 2", "stranger", "background 1", "background 2", "stranger's background"}, order)
	require.Equal(t, 1, g.free)
}

// While something that a person waits for is being fetched, background work only trickles.
func TestBackgroundWaitsForPeople(t *testing.T) {
	n := &Node{}
	ctx := t.Context()
	require.NoError(t, n.turn(ctx, true))
	require.Nil(t, n.turns.nobody, "nothing to wait for")
	leave := n.working(false)
	again := n.working(false)
	require.NoError(t, n.turn(ctx, false), "people do not wait for each other")
	began := time.Now()
	require.NoError(t, n.turn(ctx, true))
	require.GreaterOrEqual(t, time.Since(began), trickle)
	leave()
	turned := make(chan error, 1)
	go func() { turned <- n.turn(ctx, true) }()
	again()
	require.NoError(t, <-turned)
	require.NoError(t, n.turn(ctx, true))
	require.Nil(t, n.turns.nobody)
	n.working(true)()
	require.Nil(t, n.turns.nobody, "background work does not make other background work wait")
}

// A limit passes what it allows, and background work after the rest.
func TestThrottle(t *testing.T) {
	ctx := t.Context()
	unlimited := newThrottle(0)
	require.NoError(t, unlimited.wait(ctx, 1<<30, false))
	limited := newThrottle(1 << 20)
	began := time.Now()
	for range 12 { // 768 KiB, of which 102 KiB may come at once
		require.NoError(t, limited.wait(ctx, limitPiece, false))
	}
	require.GreaterOrEqual(t, time.Since(began), 500*time.Millisecond)
	short, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	for err := error(nil); ; err = limited.wait(short, limitPiece, true) {
		if err != nil {
			require.ErrorIs(t, err, context.DeadlineExceeded)
			break
		}
	}
}

// What a node relays for others, and what its gateway sends to browsers, counts as its upload; what
// it relays also as its download, and for the limit of relays.
func TestUploadsOfOthersCount(t *testing.T) {
	ctx := t.Context()
	const some = 3 * limitPiece
	left := func(x *throttle) float64 { return x.rate.Tokens() }
	l := newLimiter(Limits{Upload: 1 << 30, Download: 1 << 30, Relay: 1 << 30})
	up, down, relay := left(l.up), left(l.down), left(l.relay)
	l.up.rate.SetLimit(1e-9) // nothing comes back meanwhile
	l.down.rate.SetLimit(1e-9)
	l.relay.rate.SetLimit(1e-9)
	for range some / limitPiece {
		require.NoError(t, l.relayed(ctx, limitPiece))
	}
	require.InDelta(t, up-some, left(l.up), 1)
	require.InDelta(t, down-some, left(l.down), 1)
	require.InDelta(t, relay-some, left(l.relay), 1)
	n := &Node{limits: l}
	require.NoError(t, n.PassUpload(ctx, some))
	require.InDelta(t, up-2*some, left(l.up), 1)

	l = newLimiter(Limits{Relay: limitPiece})
	require.NoError(t, l.relayed(ctx, limitPiece))
	ended, end := context.WithCancel(ctx)
	end()
	require.ErrorIs(t, l.relayed(ended, limitPiece), context.Canceled, "a relay waits, though the node's own transfers have no limit")
	require.NoError(t, newLimiter(Limits{}).relayed(ended, limitPiece))
}

// Entries that a session or a push sends count as uploaded, on whichever side.
func TestEntriesCountAsUploaded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx := context.Background()
		w := newClaimWorld(t)
		defer w.close()
		w.loss = 1 // gossip does not count, and must not carry what is to be pushed
		up := newThrottle(1 << 30)
		up.rate.SetLimit(1e-9) // nothing comes back meanwhile
		w.old.limits.up = up
		spent := func() float64 { return float64(up.rate.Burst()) - up.rate.Tokens() }
		const count, long = 500, 1000
		key := func(i int) string { return fmt.Sprint(strings.Repeat("k", long), i) }
		for i := range count {
			w.put(w.victim, key(i), blobs.HashOf([]byte("x")), 1)
		}
		w.join(Policy{})
		entries := func() (n int) {
			for _, err := range w.fresh.Replicas.Entries(ctx, w.replica.ID, replica.Query{}) {
				require.NoError(t, err)
				n++
			}
			return n
		}
		time.Sleep(10 * time.Minute)
		require.Equal(t, count, entries())
		sessions := spent()
		require.Greater(t, sessions, float64(count*long))
		opened := w.opensOf(pushProtocol)
		for i := range 100 {
			w.put(w.victim, key(count+i), blobs.HashOf([]byte("x")), 1)
		}
		time.Sleep(10 * time.Second)
		require.Equal(t, count+100, entries())
		require.Greater(t, w.opensOf(pushProtocol), opened, "they were pushed")
		require.Greater(t, spent()-sessions, float64(100*long))
	})
}
