package collections

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/config"
)

// Whoever makes up ever more identities uses up what their own address has, and nobody else's.
func TestFloodOfCallers(t *testing.T) {
	const each = 5
	l := newLimiters([]config.Counter{{Rate: config.Rate{WindowMS: 60_000, MaxRequests: each}}})[0]
	now := time.Unix(1e9, 0)
	for i := range 2 * maxWindows {
		l.pass(fmt.Sprint("mallory", i), "@192.0.2.1", now)
	}
	require.LessOrEqual(t, len(l.begun.of), maxWindows)
	for range each {
		ok, _ := l.pass("alice", "@192.0.2.2", now)
		require.True(t, ok)
	}
	ok, wait := l.pass("alice", "@192.0.2.2", now)
	require.False(t, ok)
	require.Equal(t, time.Minute, wait)
	ok, _ = l.pass("another", "@192.0.2.1", now)
	require.False(t, ok)
	for i := range 2 * maxWindows {
		l.pass(fmt.Sprint("botnet", i), fmt.Sprint("@", i), now)
	}
	require.LessOrEqual(t, len(l.rest.of), maxWindows+1)
	now = now.Add(time.Minute)
	ok, _ = l.pass("another", "@192.0.2.1", now)
	require.True(t, ok)
}

func TestParty(t *testing.T) {
	require.Equal(t, party("2001:db8::1"), party("2001:db8:0:ff::2"))
	require.NotEqual(t, party("2001:db8::1"), party("2001:db8:0:100::1"))
	require.Equal(t, party("192.0.2.1"), party("::ffff:192.0.2.1"))
	require.NotEqual(t, party("192.0.2.1"), party("192.0.2.2"))
	require.Equal(t, "127.0.0.1", party("127.0.0.1"))
	require.Equal(t, "x", party("x"))
}
