package node

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/replica"
)

// Newcomers of some replicas, however many, leave room for a session with a newcomer of another
// one; known peers have room of their own.
func TestNewcomersOfOneReplicaLeaveRoomForOthers(t *testing.T) {
	var b background
	id := func(i int) replica.ID { return replica.ID{byte(i), byte(i >> 8), 1} }
	begun := 0
	for i := range 16 { // four would take all that there was
		for b.room(id(i), newcomer, false, "") {
			b.begin(id(i), newcomer, "")
			begun++
		}
		require.LessOrEqual(t, b.of[id(i)], mostPlaces[newcomer])
	}
	require.True(t, b.room(id(99), newcomer, false, ""))
	for range parallelSessions {
		require.True(t, b.room(id(0), known, false, ""))
		b.begin(id(0), known, "")
	}
	require.False(t, b.room(id(1), known, false, ""))
	for i := 100; b.room(id(i), newcomer, false, ""); i++ {
		b.begin(id(i), newcomer, "")
		begun++
	}
	require.Equal(t, mostNewcomers, begun)
	for x, n := range b.of {
		for range n {
			b.end(x, newcomer, "", false)
		}
	}
	for range parallelSessions {
		b.end(id(0), known, "", false)
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
	for i := 0; b.room(id(i), newcomer, false, "192.0.2.1/32"); i++ {
		b.begin(id(i), newcomer, "192.0.2.1/32")
		begun++
	}
	require.Equal(t, mostOfNetwork, begun)
	require.True(t, b.room(id(999), newcomer, false, "192.0.2.2/32"))
	require.True(t, b.room(id(999), newcomer, false, ""))
	require.True(t, b.room(id(0), known, false, "192.0.2.1/32"))
	b.end(id(0), newcomer, "192.0.2.1/32", false)
	require.True(t, b.room(id(999), newcomer, false, "192.0.2.1/32"))
}

// Sessions with known peers that last give their room to others, as many as there may be of them.
func TestLongSessionsMakeRoom(t *testing.T) {
	var b background
	id := replica.ID{1}
	for range mostLongSessions + parallelSessions {
		require.True(t, b.room(id, known, false, ""))
		b.begin(id, known, "")
		if b.known == parallelSessions && b.long < mostLongSessions {
			require.False(t, b.room(id, known, false, ""))
			for b.known > 0 && b.lasts(known) {
			}
		}
	}
	require.False(t, b.room(id, known, false, ""))
	require.False(t, b.lasts(known), "there are too many")
	require.False(t, b.lasts(newcomer), "which ends by itself")
	for range mostLongSessions {
		b.end(id, known, "", true)
	}
	for range parallelSessions {
		b.end(id, known, "", false)
	}
	require.Equal(t, background{}, b)
}

// Peers with a history that make their sessions last, as many as may be, leave room for those whom
// a person has named, and for no others.
func TestHistoriesLeaveRoomForNamedPeers(t *testing.T) {
	var b background
	id := replica.ID{1}
	for b.room(id, known, false, "") {
		if b.begin(id, known, ""); b.known == parallelSessions {
			for b.known > 0 && b.lasts(known) {
			}
		}
	}
	require.Equal(t, mostLongSessions, b.long)
	for range parallelSessions {
		require.True(t, b.room(id, known, true, ""))
		b.begin(id, known, "")
	}
	require.False(t, b.room(id, known, true, ""))
	b.end(id, known, "", false)
	require.True(t, b.room(id, known, true, ""))
	require.False(t, b.room(id, known, false, ""))
	require.True(t, b.room(id, newcomer, true, ""), "as any newcomer of this replica")
}
