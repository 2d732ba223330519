package replica

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// One write while the clock was a year ahead (iroh-docs #97, #120): what follows on it is refused
// before it is signed, it is told of, and it can be mended.
func TestWriteWithAClockAhead(t *testing.T) {
	c := newClock()
	s := newStore(t, c)
	id, alice := hold(t, s, testKey(1), Write), testKey(2)
	ctx := t.Context()
	require.NoError(t, s.ImportAuthor(ctx, alice))
	right := c.t
	c.t = right.AddDate(1, 0, 0)
	write(t, s, id, alice, "a", "1", "b", "2")
	_, err := s.Write(ctx, id, alice, []Change{{Key: []byte("gone")}})
	require.NoError(t, err)
	stranger := testKey(3)
	write(t, s, id, stranger, "c", "3")
	require.Empty(t, collect(t, s.Ahead(ctx, id)), "by that clock nothing is wrong")

	c.t = right
	require.Len(t, collect(t, s.Ahead(ctx, id)), 4)
	for _, change := range []Change{change("a", "4"), {Key: []byte("a")}} {
		_, err = s.Write(ctx, id, alice, []Change{change})
		var ahead *ClockError
		require.ErrorAs(t, err, &ahead)
		require.ErrorIs(t, err, ErrFuture)
	}
	write(t, s, id, alice, "other", "5") // other keys are as they were

	mended, left, err := s.MendAhead(ctx, id)
	require.NoError(t, err)
	require.Equal(t, []int{3, 1}, []int{mended, left}, "the stranger's key is not here")
	require.Len(t, collect(t, s.Ahead(ctx, id)), 1)
	e, err := s.LatestOf(ctx, id, []byte("a"))
	require.NoError(t, err)
	require.EqualValues(t, right.UnixMicro(), e.Timestamp)
	require.NoError(t, e.Verify())
	c.t = c.t.Add(time.Second)
	write(t, s, id, alice, "a", "6")
	rep, err := s.Check(ctx, id, false, nil)
	require.NoError(t, err)
	require.Empty(t, rep.Faults, "indexes, counts and the tree agree")
	require.Zero(t, rep.Bad)

	// A peer takes all that is mended.
	peer := newStore(t, c)
	hold(t, peer, testKey(1), Write)
	stated, err := s.statements(ctx, id)
	require.NoError(t, err)
	var grants []Statement
	for i := range stated.grants {
		grants = append(grants, &stated.grants[i])
	}
	_, err = peer.InsertStatements(ctx, id, grants)
	require.NoError(t, err)
	got, err := peer.Insert(ctx, id, collect(t, s.Entries(ctx, id, Query{Tombstones: true})), Local)
	require.NoError(t, err)
	require.Equal(t, 1, got.Later)
	e, err = peer.LatestOf(ctx, id, []byte("a"))
	require.NoError(t, err)
	require.EqualValues(t, 1, e.Size)
	require.Equal(
		t, collect(t, s.Latest(ctx, id, Query{Key: []byte("b")})),
		collect(t, peer.Latest(ctx, id, Query{Key: []byte("b")})),
	)
}
