package contacts

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/node/holders"
	"github.com/skerry-sync/skerry/replica"
)

// Newcomers of some replicas, however many, leave room for a session with a newcomer of another
// one; known peers have room of their own.
func TestNewcomersOfOneReplicaLeaveRoomForOthers(t *testing.T) {
	var b background
	id := func(i int) replica.ID { return replica.ID{byte(i), byte(i >> 8), 1} }
	begun := 0
	for i := range 16 { // four would take all that there was
		for b.room(id(i), holders.Newcomer, false, "") {
			b.begin(id(i), holders.Newcomer, "")
			begun++
		}
		require.LessOrEqual(t, b.of[id(i)], mostPlaces[holders.Newcomer])
	}
	require.True(t, b.room(id(99), holders.Newcomer, false, ""))
	for range parallelSessions {
		require.True(t, b.room(id(0), holders.Known, false, ""))
		b.begin(id(0), holders.Known, "")
	}
	require.False(t, b.room(id(1), holders.Known, false, ""))
	for i := 100; b.room(id(i), holders.Newcomer, false, ""); i++ {
		b.begin(id(i), holders.Newcomer, "")
		begun++
	}
	require.Equal(t, mostNewcomers, begun)
	for x, n := range b.of {
		for range n {
			b.end(x, holders.Newcomer, "", false)
		}
	}
	for range parallelSessions {
		b.end(id(0), holders.Known, "", false)
	}
	require.Zero(t, b.newcomers+b.known)
	require.Empty(t, b.of)
	require.Empty(t, b.from)
}

// Newcomers from one address, however many identities and replicas they have, leave room for those
// from others; peers that are known are not counted by where they are.
func TestNewcomersFromOneAddressLeaveRoomForOthers(t *testing.T) {
	var b background
	id := func(i int) replica.ID { return replica.ID{byte(i), byte(i >> 8), 1} }
	begun := 0
	for i := 0; b.room(id(i), holders.Newcomer, false, "192.0.2.1/32"); i++ {
		b.begin(id(i), holders.Newcomer, "192.0.2.1/32")
		begun++
	}
	require.Equal(t, mostOfNetwork, begun)
	require.True(t, b.room(id(999), holders.Newcomer, false, "192.0.2.2/32"))
	require.True(t, b.room(id(999), holders.Newcomer, false, ""))
	require.True(t, b.room(id(0), holders.Known, false, "192.0.2.1/32"))
	b.end(id(0), holders.Newcomer, "192.0.2.1/32", false)
	require.True(t, b.room(id(999), holders.Newcomer, false, "192.0.2.1/32"))
}

// Sessions with known peers that last give their room to others, as many as there may be of them.
func TestLongSessionsMakeRoom(t *testing.T) {
	var b background
	id := replica.ID{1}
	for range mostLongSessions + parallelSessions {
		require.True(t, b.room(id, holders.Known, false, ""))
		b.begin(id, holders.Known, "")
		if b.known == parallelSessions && b.long < mostLongSessions {
			require.False(t, b.room(id, holders.Known, false, ""))
			for b.known > 0 && b.lasts(holders.Known) {
			}
		}
	}
	require.False(t, b.room(id, holders.Known, false, ""))
	require.False(t, b.lasts(holders.Known), "there are too many")
	require.False(t, b.lasts(holders.Newcomer), "which ends by itself")
	for range mostLongSessions {
		b.end(id, holders.Known, "", true)
	}
	for range parallelSessions {
		b.end(id, holders.Known, "", false)
	}
	require.Equal(t, background{}, b)
}

// Peers with a history that make their sessions last, as many as may be, leave room for those whom
// a person has named, and for no others.
func TestHistoriesLeaveRoomForNamedPeers(t *testing.T) {
	var b background
	id := replica.ID{1}
	for b.room(id, holders.Known, false, "") {
		if b.begin(id, holders.Known, ""); b.known == parallelSessions {
			for b.known > 0 && b.lasts(holders.Known) {
			}
		}
	}
	require.Equal(t, mostLongSessions, b.long)
	for range parallelSessions {
		require.True(t, b.room(id, holders.Known, true, ""))
		b.begin(id, holders.Known, "")
	}
	require.False(t, b.room(id, holders.Known, true, ""))
	b.end(id, holders.Known, "", false)
	require.True(t, b.room(id, holders.Known, true, ""))
	require.False(t, b.room(id, holders.Known, false, ""))
	require.True(t, b.room(id, holders.Newcomer, true, ""), "as any newcomer of this replica")
}
