package chain

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/identity/eth"
)

// Answers are what the contract says, asked for in one request, and remembered for their times.
func TestStanding(t *testing.T) {
	n, at := newNode(t, 8453), newClock()
	n.owners["42"] = alice
	n.members["42 "+bob.String()] = true
	c := open(t, at, Options{}, n.URL)
	check := func(who eth.Address, want Standing, requests int64) {
		t.Helper()
		before := n.asked.Load()
		got, err := c.Standing(t.Context(), Ask{Item: item(t, "42"), Who: who})
		require.NoError(t, err)
		require.Equal(t, want, got)
		require.Equal(t, requests, n.asked.Load()-before)
	}
	check(alice, Standing{true, true}, 1)
	check(alice, Standing{true, true}, 0)
	check(bob, Standing{false, true}, 1)
	check(bob, Standing{false, true}, 0)
	check(carol, Standing{}, 1)
	check(carol, Standing{}, 0)
	check(eth.Address{}, Standing{}, 1)

	// Nobody becomes a member, or stops being one, for longer than the time of the answer.
	n.set(func() { n.members = map[string]bool{"42 " + carol.String(): true} })
	at.advance(29 * time.Second)
	check(carol, Standing{}, 0)
	check(bob, Standing{false, true}, 0)
	at.advance(2 * time.Second)
	check(carol, Standing{false, true}, 1)
	at.advance(28 * time.Second)
	check(bob, Standing{false, true}, 0) // 59 s after the answer
	at.advance(2 * time.Second)
	check(bob, Standing{}, 1)

	// Owners are taken not to change, for a year, unless somebody else's question shows that they
	// have.
	at.advance(300 * 24 * time.Hour)
	check(alice, Standing{true, true}, 0)
	n.set(func() { n.owners["42"] = bob })
	check(alice, Standing{true, true}, 0)
	c.Flush()
	check(alice, Standing{}, 1)
	check(bob, Standing{true, true}, 0) // as the last answer has told

	// What is not there may be there a moment later.
	missing := Ask{Item: item(t, "43"), Who: alice}
	got, err := c.Standing(t.Context(), missing)
	require.NoError(t, err)
	require.Equal(t, Standing{}, got)
	n.set(func() { n.owners["43"] = alice })
	at.advance(31 * time.Second)
	got, err = c.Standing(t.Context(), missing)
	require.NoError(t, err)
	require.Equal(t, Standing{true, true}, got)
}

// That somebody may use an item is remembered for its own time, also where nobody asks about its
// owner.
func TestAccessIsRemembered(t *testing.T) {
	n, at := newNode(t, 8453), newClock()
	n.owners["42"] = alice
	n.members["42 "+bob.String()] = true
	c := open(t, at, Options{}, n.URL)
	for _, x := range []struct {
		after    time.Duration
		requests int64
	}{{0, 1}, {59 * time.Second, 1}, {time.Second, 2}} {
		at.advance(x.after)
		s, err := c.Standing(t.Context(), Ask{Item: item(t, "42"), Who: bob})
		require.NoError(t, err)
		require.Equal(t, Standing{false, true}, s)
		require.Equal(t, x.requests, n.asked.Load())
	}
}

// Many who want to know the same at the same time ask once; one who goes away takes the answer from
// nobody.
func TestOneQuestion(t *testing.T) {
	n, at := newNode(t, 8453), newClock()
	n.owners["1"] = alice
	release := make(chan struct{})
	n.fault = func(http.ResponseWriter, *http.Request, []map[string]any) bool {
		<-release
		return false
	}
	c := open(t, at, Options{Within: 30 * time.Second}, n.URL)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		_, err := c.Standing(ctx, Ask{Item: item(t, "1"), Who: alice})
		require.ErrorIs(t, err, context.Canceled)
	})
	require.Eventually(t, func() bool { return n.asked.Load() == 1 }, 10*time.Second, time.Millisecond)
	for range 50 {
		wg.Go(func() {
			s, err := c.Standing(t.Context(), Ask{Item: item(t, "1"), Who: alice})
			require.NoError(t, err)
			require.Equal(t, Standing{true, true}, s)
		})
	}
	cancel()
	time.Sleep(10 * time.Millisecond)
	close(release)
	wg.Wait()
	require.EqualValues(t, 1, n.asked.Load())
}

// What is remembered is bounded, whatever is asked for.
func TestBounded(t *testing.T) {
	n, at := newNode(t, 8453), newClock()
	c := open(t, at, Options{Remember: 10}, n.URL)
	for i := range 100 {
		_, err := c.Standing(t.Context(), Ask{Item: item(t, fmt.Sprint(i)), Who: alice})
		require.NoError(t, err)
	}
	require.Equal(t, 10, c.cache.owners.Len())
	require.Equal(t, 10, c.cache.grants.Len())
	require.Empty(t, c.cache.asking)
}

// However many ask for different things, no more than so many questions are asked at once.
func TestFewQuestionsAtOnce(t *testing.T) {
	var now, most atomic.Int64
	c := newCache(
		10, Times{}.orDefault(), time.Now,
		func(context.Context, Item, eth.Address) (answers, time.Duration, error) {
			n := now.Add(1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			time.Sleep(time.Millisecond)
			now.Add(-1)
			return answers{}, 0, nil
		},
	)
	defer c.close()
	var wg sync.WaitGroup
	for i := range 500 {
		wg.Go(func() {
			_, _, err := c.standing(t.Context(), Ask{Item: Item{31: byte(i), 30: byte(i >> 8)}, Who: alice})
			require.NoError(t, err)
		})
	}
	wg.Wait()
	require.LessOrEqual(t, most.Load(), int64(maxFlights))
}
