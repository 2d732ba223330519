package collections

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// Room is used up to the last byte, one answer alone has it whatever its length, and what is given
// back can be taken again.
func TestRoomForAnswers(t *testing.T) {
	var a answers
	require.True(t, a.take("one", 0, roomOfParty))
	require.False(t, a.take("one", 0, 1))
	require.True(t, a.take("one", roomOfParty, 1), "of the same answer")
	require.True(t, a.take("two", 0, roomOfParty-1))
	require.True(t, a.take("two", 0, 1))
	require.False(t, a.take("two", 0, 1))
	require.True(t, a.take("", 0, roomOfAll-2*roomOfParty-1))
	require.False(t, a.take("", 0, 1))
	require.False(t, a.take("three", 0, 1))
	a.give("one", roomOfParty+1)
	require.False(t, a.take("three", 0, roomAtLast+1), "there is little left")
	require.True(t, a.take("three", 0, roomAtLast))
	require.False(t, a.take("three", 0, 1))
	a.give("three", roomAtLast)
	a.give("two", roomOfParty)
	a.give("", roomOfAll-2*roomOfParty-1)
	require.Zero(t, a.all)
	require.Empty(t, a.of)
	require.True(t, a.take("", 0, 2*roomOfAll))
	require.False(t, a.take("one", 0, 1))
}

// One customer of a provider, who has the addresses of many parties, and a dozen others, leave room
// to everybody else.
func TestRoomOfMany(t *testing.T) {
	var a answers
	held := map[string]int{}
	grab := func(party string) {
		for _, n := range []int{16 << 20, 1 << 20} {
			for a.take(party, 0, n) {
				held[party] += n
			}
		}
	}
	for i := range 256 {
		grab(fmt.Sprintf("2001:db8:0:%x00::/56", i))
	}
	require.LessOrEqual(t, a.all, roomOfNetwork)
	for i := range 12 {
		grab(fmt.Sprintf("11.%d.0.1/32", i))
	}
	require.Less(t, a.all, roomOfAll)
	for i := range 10 {
		require.True(t, a.take(fmt.Sprintf("12.%d.0.1/32", i), 0, 1<<20))
		held[fmt.Sprintf("12.%d.0.1/32", i)] = 1 << 20
	}
	for party, n := range held {
		a.give(party, n)
	}
	require.Zero(t, a.all)
	require.Empty(t, a.of)
}
