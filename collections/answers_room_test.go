package collections

import (
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
	require.True(t, a.take("three", 0, roomOfParty))
	a.give("three", roomOfParty)
	a.give("two", roomOfParty)
	a.give("", roomOfAll-2*roomOfParty-1)
	require.Zero(t, a.all)
	require.Empty(t, a.party)
	require.True(t, a.take("", 0, 2*roomOfAll))
	require.False(t, a.take("one", 0, 1))
}
