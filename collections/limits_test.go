package collections

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/internal/testkit"
)

// Whoever makes up ever more identities uses up what their own address has, and nobody else's.
func TestFloodOfCallers(t *testing.T) {
	testkit.OneGoroutine(t)
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

// However many callers there are, one request looks at few of them, and what is over makes room.
func TestNoRequestLooksAtAll(t *testing.T) {
	testkit.OneGoroutine(t)
	l := newLimiters([]config.Counter{{Rate: config.Rate{WindowMS: 60_000, MaxRequests: 5}}})[0]
	now := time.Unix(1e9, 0)
	for i := range maxWindows {
		l.pass(fmt.Sprint(i), "@192.0.2.1", now)
	}
	for i := range 1000 {
		l.pass(fmt.Sprint("new", i), "@192.0.2.2", now)
	}
	require.Zero(t, l.begun.first, "nothing is over")
	require.Len(t, l.begun.of, maxWindows)
	now = now.Add(time.Minute)
	ok, _ := l.pass("alice", "@192.0.2.2", now)
	require.True(t, ok)
	require.Len(t, l.begun.of, maxWindows-maxSwept+1)
	for i := range maxWindows / (maxSwept - 1) {
		l.pass(fmt.Sprint("later", i), "@192.0.2.2", now)
	}
	require.LessOrEqual(t, len(l.begun.of), maxWindows/(maxSwept-1)+maxSwept)
	require.Len(t, l.begun.order[l.begun.first:], len(l.begun.of))
	require.LessOrEqual(t, len(l.begun.order), 2*len(l.begun.of)+1)

	// A clock that has gone back shuts nobody out.
	for range 6 {
		ok, _ = l.pass("alice", "@192.0.2.2", now)
	}
	require.False(t, ok)
	ok, _ = l.pass("alice", "@192.0.2.2", now.Add(-time.Hour))
	require.True(t, ok)
}

// Newcomers share what their own provider's network has while there is room for networks, and not
// what all strangers have.
func TestFloodOfNetworks(t *testing.T) {
	testkit.OneGoroutine(t)
	l := newLimiters([]config.Counter{{Rate: config.Rate{WindowMS: 60_000, MaxRequests: 5}}})[0]
	now := time.Unix(1e9, 0)
	for i := range 3 * maxWindows {
		l.pass(fmt.Sprint("mallory", i), "@"+party(fmt.Sprintf("2001:db8:%x:%x00::1", i>>8, i&255)), now)
	}
	require.Len(t, l.begun.of, maxWindows)
	require.Len(t, l.rest.of, maxWindows)
	require.Len(t, l.wide.of, 1)
	ok, _ := l.pass("mallory", "@"+party("2001:db8:ffff::1"), now)
	require.False(t, ok)
	for _, address := range []string{"192.0.2.1", "198.51.100.7", "2001:db9::1"} {
		ok, _ = l.pass("alice at "+address, "@"+party(address), now)
		require.True(t, ok, address)
	}
}

func TestNetwork(t *testing.T) {
	for _, x := range [][2]string{
		{"192.0.2.1", "192.0.0.0/16"}, {"@192.0.77.1", "192.0.0.0/16"},
		{"@2001:db8:1:200::/56", "2001:db8::/32"},
		{"fe80::1%eth0", "fe80::/32"}, {"@::ffff:192.0.2.1", "192.0.0.0/16"}, {"@proxy", ""}, {"", ""},
	} {
		require.Equal(t, x[1], network(x[0]), x[0])
	}
}

func TestParty(t *testing.T) {
	require.Equal(t, party("2001:db8::1"), party("2001:db8:0:ff::2"))
	require.NotEqual(t, party("2001:db8::1"), party("2001:db8:0:100::1"))
	require.Equal(t, party("192.0.2.1"), party("::ffff:192.0.2.1"))
	require.NotEqual(t, party("192.0.2.1"), party("192.0.2.2"))
	require.Equal(t, "127.0.0.1", party("127.0.0.1"))
	require.Equal(t, "x", party("x"))
}
