package access_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/access"
	"github.com/skerry-sync/skerry/collections/capcert"
	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/value"
	"github.com/skerry-sync/skerry/internal/testkit"
)

// The last quarter of the memory of nonces is for those who have used little of it, and it is used
// up to its last place, also after a start.
func TestNoncesToTheLastPlace(t *testing.T) {
	const most = 1 << 12
	const reserve = most - most/4
	for _, restarted := range []bool{false, true} {
		o := access.NonceOptions{Max: most, Dir: t.TempDir(), Clock: at(start)}
		n, err := access.NewNonces(o)
		require.NoError(t, err)
		used := 0
		use := func(signer string) error {
			used++
			return n.Use(t.Context(), signer, fmt.Sprint(used), start, start)
		}
		for i := range reserve - 2 {
			require.NoError(t, use(fmt.Sprint("a", i)))
		}
		if restarted {
			n, err = access.NewNonces(o)
			require.NoError(t, err)
		}
		require.NoError(t, use("bob"))
		require.NoError(t, use("bob"), "the last before the reserve")
		require.ErrorIs(t, use("bob"), access.ErrTooMany)
		for i := range most - reserve {
			require.NoError(t, use(fmt.Sprint("b", i)), i)
		}
		require.ErrorIs(t, use("carol"), access.ErrTooMany, "there is no place left")
		require.NoError(t, n.Close())
	}
}

// What a start reads back begins with the first request that could still be let in.
func TestNoncesReadBackExactly(t *testing.T) {
	o := access.NonceOptions{Skew: 10 * time.Second, Dir: t.TempDir(), Clock: at(start)}
	n, err := access.NewNonces(o)
	require.NoError(t, err)
	for _, after := range []int64{-1, 0, 1, 2000, 4000} { // several turns of a shorter journal
		require.NoError(t, n.Use(t.Context(), "a", fmt.Sprint(after), start+after, start+max(0, after)))
	}
	o.Clock = at(start + 10_000)
	n, err = access.NewNonces(o)
	require.NoError(t, err)
	use := func(nonce string, after int64) error {
		return n.Use(t.Context(), "a", nonce, start+after, start+10_000)
	}
	require.ErrorIs(t, use("-1", -1), access.ErrForgotten)
	require.ErrorIs(t, use("new", -1), access.ErrForgotten)
	for _, after := range []int64{0, 1, 2000, 4000} {
		require.ErrorIs(t, use(fmt.Sprint(after), after), access.ErrReplayed, after)
	}
	require.NoError(t, use("new", 0), "the next millisecond")
	require.NoError(t, n.Close())
}

// Shared nonces are kept for two skews after the end of their part of the time, that moment
// included.
func TestSharedNoncesToTheEnd(t *testing.T) {
	ctx := t.Context()
	s := store.NewMemory()
	n := &access.SharedNonces{Store: s, Skew: 10 * time.Second}
	require.NoError(t, n.Use(ctx, "a", "1", start, start))
	left := func(now int64) int {
		require.NoError(t, n.Clean(ctx, now))
		keys, err := s.List(ctx, "__sync__/nonces/", "", 10)
		require.NoError(t, err)
		return len(keys)
	}
	require.Equal(t, 1, left(start+21_000))
	require.Zero(t, left(start+21_001))
}

// A source takes all of its allowance and no more, and it comes back with time.
func TestAllowance(t *testing.T) {
	now := time.UnixMilli(start)
	a := access.NewAllowance()
	require.True(t, a.Full(now))
	require.True(t, a.Take(now, access.SourceLists, access.SourceBytes), "all at once")
	require.False(t, a.Full(now))
	require.False(t, a.Take(now, 1, 0))
	require.False(t, a.Take(now, 0, 1))
	now = now.Add(access.ListPause)
	require.True(t, a.Take(now, 1, 1))
	require.False(t, a.Take(now, 1, 1))

	issuers, bytes := access.NewAllowance(), access.NewAllowance()
	require.True(t, issuers.Take(now, 1, 0))
	require.False(t, issuers.Full(now))
	require.True(t, bytes.Take(now, 0, 1))
	require.False(t, bytes.Full(now))
	for _, a := range []*access.Allowance{issuers, bytes} {
		require.True(t, a.Full(now.Add(access.ListPause)))
	}
}

// As many sources are known as there is room for. One that has taken nothing makes room for
// another.
func TestManySources(t *testing.T) {
	testkit.OneGoroutine(t)
	r, err := access.NewRevocations(t.Context(), nil, nil)
	require.NoError(t, err)
	issuers := 0
	accept := func(source int) error {
		seed := make([]byte, 32)
		copy(seed, fmt.Sprint(issuers))
		issuers++
		k, err := capcert.NewKey(seed)
		require.NoError(t, err)
		l, err := capcert.SignRevocations(k, 1, nil, nil)
		require.NoError(t, err)
		ctx := access.WithSource(t.Context(), fmt.Sprintf("198.%d.%d.1", 18+source>>8, source&255))
		return r.Accept(ctx, l)
	}
	for i := range access.MaxSources {
		require.NoError(t, accept(i), i)
	}
	require.ErrorIs(t, accept(access.MaxSources), access.ErrTooOften)
	require.NoError(t, accept(0), "those that are known go on")
}

// The bytes of lists are counted as they grow and shrink.
func TestBytesOfLists(t *testing.T) {
	ctx := t.Context()
	list := func(k capcert.Key, generation int64, size int) *capcert.Revocations {
		l, err := capcert.SignRevocations(k, generation, nil, []string{""})
		require.NoError(t, err)
		least := len(value.Append(nil, l.Object()))
		require.LessOrEqual(t, least, size)
		l, err = capcert.SignRevocations(k, generation, nil, []string{strings.Repeat("s", size-least)})
		require.NoError(t, err)
		require.Len(t, value.Append(nil, l.Object()), size)
		return l
	}
	r, err := access.NewRevocations(ctx, nil, nil)
	require.NoError(t, err)
	r.SetMost(10, 3000)
	one, two := key(t, 1), key(t, 2)
	require.NoError(t, r.Accept(ctx, list(one, 1, 1000)))
	require.ErrorIs(t, r.Accept(ctx, list(two, 1, 2001)), access.ErrTooManyIssuers)
	require.NoError(t, r.Accept(ctx, list(two, 1, 2000)), "to the last byte")
	require.ErrorIs(t, r.Accept(ctx, list(one, 2, 1001)), access.ErrTooManyIssuers)
	require.NoError(t, r.Accept(ctx, list(one, 2, 600)))
	require.NoError(t, r.Accept(ctx, list(one, 3, 1000)), "what a shorter one has given back")
	require.ErrorIs(t, r.Accept(ctx, list(one, 4, 1001)), access.ErrTooManyIssuers)
}
