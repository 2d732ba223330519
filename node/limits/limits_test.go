package limits

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// When the gate is full, those that somebody waits for go in before all background work, in the
// order in which they came.
func TestGatePriorities(t *testing.T) {
	ctx := t.Context()
	g := NewGate(1)
	require.NoError(t, g.Enter(ctx, rankKnownLater))
	var mu sync.Mutex
	var order []string
	var done sync.WaitGroup
	waiting := func() int {
		taken, waiting := g.Load()
		require.Equal(t, 1, taken)
		return waiting
	}
	for i, x := range []struct {
		name string
		as   Rank
	}{
		{"stranger's background", rankStrangeLater}, {"background 1", rankKnownLater},
		{"background 2", rankKnownLater},
		{"stranger", rankStrange}, {"person 1", rankKnown}, {"person 2", rankKnown},
	} {
		done.Go(func() {
			if err := g.Enter(ctx, x.as); err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			order = append(order, x.name)
			mu.Unlock()
			g.Leave()
		})
		require.Eventually(t, func() bool { return waiting() == i+1 }, 5*time.Second, time.Millisecond)
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	require.ErrorIs(t, g.Enter(gone, rankKnown), context.Canceled)
	g.Leave()
	done.Wait()
	require.Equal(
		t,
		[]string{
			"person 1", "person 2", "stranger", "background 1", "background 2", "stranger's background",
		},
		order,
	)
	taken, _ := g.Load()
	require.Zero(t, taken)
}

// While something that a person waits for is being fetched, background work only trickles.
func TestBackgroundWaitsForPeople(t *testing.T) {
	var turns Turns
	ctx := t.Context()
	require.NoError(t, turns.Wait(ctx, true))
	require.Nil(t, turns.nobody, "nothing to wait for")
	leave := turns.Begin(false)
	again := turns.Begin(false)
	require.NoError(t, turns.Wait(ctx, false), "people do not wait for each other")
	began := time.Now()
	require.NoError(t, turns.Wait(ctx, true))
	require.GreaterOrEqual(t, time.Since(began), trickle)
	leave()
	turned := make(chan error, 1)
	go func() { turned <- turns.Wait(ctx, true) }()
	again()
	require.NoError(t, <-turned)
	require.NoError(t, turns.Wait(ctx, true))
	require.Nil(t, turns.nobody)
	turns.Begin(true)()
	require.Nil(t, turns.nobody, "background work does not make other background work wait")
}

// A limit passes what it allows, and background work after the rest.
func TestThrottle(t *testing.T) {
	ctx := t.Context()
	unlimited := newThrottle(0)
	require.NoError(t, unlimited.wait(ctx, Piece, false))
	limited := newThrottle(1 << 20)
	began := time.Now()
	for range 12 { // 768 KiB, of which 102 KiB may come at once
		require.NoError(t, limited.wait(ctx, Piece, false))
	}
	require.GreaterOrEqual(t, time.Since(began), 500*time.Millisecond)
	short, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	for err := error(nil); ; err = limited.wait(short, Piece, true) {
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
	const some = 3 * Piece
	left := func(x *throttle) float64 { return x.rate.Tokens() }
	l := limiter(Config{Upload: 1 << 30, Download: 1 << 30, Relay: 1 << 30})
	up, down, relay := left(l.up), left(l.down), left(l.relay)
	l.up.rate.SetLimit(1e-9) // nothing comes back meanwhile
	l.down.rate.SetLimit(1e-9)
	l.relay.rate.SetLimit(1e-9)
	for range some / Piece {
		require.NoError(t, l.PassRelayed(ctx, Piece))
	}
	require.InDelta(t, up-some, left(l.up), 1)
	require.InDelta(t, down-some, left(l.down), 1)
	require.InDelta(t, relay-some, left(l.relay), 1)
	require.NoError(t, l.PassUpload(ctx, some))
	require.InDelta(t, up-2*some, left(l.up), 1)

	l = limiter(Config{Relay: Piece})
	require.NoError(t, l.PassRelayed(ctx, Piece))
	ended, end := context.WithCancel(ctx)
	end()
	err := l.PassRelayed(ended, Piece)
	require.ErrorIs(t, err, context.Canceled,
		"a relay waits, though the node's own transfers have no limit")
	require.NoError(t, limiter(Config{}).PassRelayed(ended, Piece))
}
