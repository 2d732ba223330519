package chain

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/identity/eth"
)

// One source cannot have a chain asked without end, by asking for ever other items; what others
// ask, and what is known, is answered meanwhile.
func TestShareOfSource(t *testing.T) {
	at := newClock()
	var asked atomic.Int64
	c := newCache(1<<16, Times{}.orDefault(), at.now,
		func(_ context.Context, i Item, who eth.Address) (answers, time.Duration, error) {
			asked.Add(1)
			return answers{owner: alice, access: who == alice}, 0, nil
		})
	defer c.close()
	ask := func(i int, who eth.Address, source string) (Standing, time.Duration, error) {
		return c.standing(t.Context(), Ask{Item: Item{31: byte(i), 30: byte(i >> 8), 29: byte(i >> 16)},
			Who: who, Source: source})
	}
	const evil, good = "203.0.113.5/32", "198.51.100.7/32"
	s, _, err := ask(0, alice, good)
	require.NoError(t, err)
	require.True(t, s.Owner)
	n := 0
	for i := range 2 * shareOf {
		_, wait, err := ask(1+i, bob, evil)
		if err == nil {
			n++
			continue
		}
		require.ErrorIs(t, err, errShare)
		require.Equal(t, shareTime, wait)
	}
	require.Equal(t, shareOf, n)
	require.EqualValues(t, shareOf+1, asked.Load())
	s, _, err = ask(0, alice, evil)
	require.NoError(t, err, "it is known")
	require.True(t, s.Owner)
	_, _, err = ask(5_000, bob, good)
	require.NoError(t, err)
	for i := range 2 * shareOf {
		_, _, err = ask(10_000+i, bob, "")
		require.NoError(t, err, "behind a proxy nobody has a share")
	}
	at.advance(shareTime)
	_, _, err = ask(6_000, bob, evil)
	require.NoError(t, err)

	n = 0
	for i := range 2 * shareOfWide { // one network of 48 bits
		_, _, err := ask(20_000+i, bob, fmt.Sprintf("2001:db8:0:%x00::/56", i%256))
		if err == nil {
			n++
		} else {
			require.True(t, errors.Is(err, errShare))
		}
	}
	require.Equal(t, shareOfWide, n)
}

func TestSharesAreBounded(t *testing.T) {
	var s shares
	now := time.Unix(1, 0)
	n := 0
	for i := range maxShares + 2*shareOfWide {
		if s.take(fmt.Sprintf("%d.%d.%d.1/32", i>>16&255, i>>8&255, i&255), now) == 0 {
			n++
		}
	}
	require.LessOrEqual(t, len(s.asked), maxShares+3)
	require.Less(t, n, maxShares+2*shareOfWide)
	require.Zero(t, s.take("1.1.1.1/32", now.Add(shareTime)))
}
