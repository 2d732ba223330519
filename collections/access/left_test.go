package access

import (
	"context"
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/skerry-sync/skerry/collections/capcert"
	"github.com/skerry-sync/skerry/collections/store"
)

// A later list of the store takes room by what it is longer than the one before.
func TestGrowthOfStoredLists(t *testing.T) {
	for more, taken := range map[int]bool{100: true, 101: false} {
		x := newLists(t, 10)
		x.mostBytes = 1000
		require.True(t, x.take(listOf(t, "a", 1, 900), &revoked{}))
		rooms := 0
		l := listOf(t, "a", 2, 900+more)
		require.NoError(t, x.takeStored(t.Context(), l, nil, &rooms))
		require.Equal(t, taken, x.byIssuer[l.Issuer].generation == 2, more)
	}
}

// What has gone from memory and stays in the store is not read again for some time; what has gone
// from both is, if somebody brings it again.
func TestLeftInTheStore(t *testing.T) {
	for _, brought := range []bool{true, false} {
		x := newLists(t, 10)
		issuer := issuerOf(1)
		x.enter(issuer, revoked{brought: brought, generation: 3})
		require.NoError(t, x.drop(t.Context(), leaving{issuer, math.MaxInt64}))
		require.Equal(t, !brought, x.stored(keyOf(issuer, 3)))
		require.Equal(t, !brought, x.has(keyOf(issuer, 3)))
		require.False(t, x.has(keyOf(issuer, 4)))
		require.NoError(t, x.drop(t.Context(), leaving{issuer, math.MaxInt64}), "there is nothing more")
		require.Zero(t, x.judged, "of which nothing is to be noted")
	}
	x := newLists(t, 10)
	x.enter(issuerOf(1), revoked{brought: true, generation: 3})
	x.forget(leaving{issuerOf(1), math.MaxInt64})
	x.forget(leaving{issuerOf(1), math.MaxInt64})
	require.True(t, x.has(keyOf(issuerOf(1), 3)))
	require.Empty(t, x.byIssuer)
	require.Zero(t, x.all)
}

// It is remembered of so many lists that there was no room for them.
func TestLeftAtMost(t *testing.T) {
	x := newLists(t, 10)
	for i := range maxLeft + 1 {
		x.leave(issuerOf(i), 1)
	}
	require.Len(t, x.left, maxLeft)
	x.forgetLeft()
	require.Empty(t, x.left)
	x.leave(issuerOf(1), 1)
	x.at = x.at.Add(leftFor - 1)
	x.forgetLeft()
	require.Len(t, x.left, 1)
	x.at = x.at.Add(1)
	x.forgetLeft()
	require.Empty(t, x.left)
}

// So many issuers are marked at a time; one of them can be marked for more.
func TestMarkedAtMost(t *testing.T) {
	x := newLists(t, 10)
	for i := range maxNoted + 1 {
		x.mark(fmt.Sprint(i), mark{})
	}
	require.Equal(t, maxNoted, len(x.marked))
	for i := range maxMarked + 1 {
		x.mark(fmt.Sprint("removed", i), mark{older: true})
	}
	require.Equal(t, maxMarked, len(x.marked))
	n := &note{}
	x.mark("1", mark{gone: n})
	x.mark("1", mark{older: true})
	x.mark("1", mark{})
	require.Equal(t, mark{older: true, gone: n}, x.marked["1"])
}

// Of an issuer without a list it is looked once a day whether there is something to note.
func TestPresentWithoutAList(t *testing.T) {
	x := newLists(t, 10)
	issuer := issuerOf(1)
	for _, c := range []struct {
		later  time.Duration
		marked bool
	}{{0, true}, {old - 1, false}, {1, true}, {1, false}} {
		x.at = x.at.Add(c.later)
		x.left[issuer] = 1
		x.Present(issuer)
		_, marked := x.marked[issuer]
		require.Equal(t, c.marked, marked, c.later)
		_, left := x.left[issuer]
		require.Equal(t, !c.marked, left, "its list is read again")
		clear(x.marked)
	}
}

// What lists take up is counted right, whoever comes at once.
func TestManyAtOnce(t *testing.T) {
	const most, each = 8, 40
	s := store.NewMemory()
	r, err := NewRevocations(t.Context(), s, s)
	require.NoError(t, err)
	r.mostIssuers = most
	var signed [4][each]*capcert.Revocations
	for i := range signed {
		for j := range signed[i] {
			signed[i][j] = listOf(t, fmt.Sprint(i%2, j%20), int64(i*each+j+1), 0)
		}
	}
	require.NoError(t, r.Judge(t.Context(), func(_ context.Context, id string) (Rank, error) {
		return Rank(id[0]) % (Named + 1), nil
	}))
	var g errgroup.Group
	for _, lists := range signed {
		g.Go(func() error {
			for i, l := range lists {
				r.Present(lists[(i+7)%each].Issuer)
				if err := r.Accept(t.Context(), l); err != nil && !errors.Is(err, ErrStale) &&
					!errors.Is(err, ErrTooManyIssuers) {
					return err
				}
				if err := r.Load(t.Context()); err != nil {
					return err
				}
			}
			return nil
		})
	}
	require.NoError(t, g.Wait())
	var all held
	for _, x := range r.byIssuer {
		if x.rank != Named {
			all = all.with(held{1, x.size})
		}
	}
	require.Equal(t, all, r.all)
	require.LessOrEqual(t, all.issuers, most+len(signed), "those that come at once may each have room")
}

// The source of a list, and since when its issuer is known, is what another server of the store has
// noted, if this one does not know better.
func TestNotesOfOthersStand(t *testing.T) {
	for from, want := range map[string]string{"": "192.0.2.1", "198.51.100.1": "198.51.100.1"} {
		x := newLists(t, 10)
		issuer := issuerOf(1)
		x.enter(issuer, revoked{brought: true, source: from, since: x.at})
		other := note{from: "192.0.2.1", accepted: true, since: x.at.Add(-time.Hour)}
		o := &store.Object{Body: other.bytes()}
		require.NoError(t, x.notes.Put(t.Context(), standingUnder+issuer, o, store.Whatever))
		require.NoError(t, x.note(t.Context(), issuer))
		n, err := x.noted(t.Context(), issuer)
		require.NoError(t, err)
		require.Equal(t, want, n.from)
		require.Equal(t, x.at.Add(-time.Hour), n.since)
	}
}
