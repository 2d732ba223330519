package versions

import (
	"context"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/versions/plan"
)

// An item of which nothing can be read is not deleted, nor is it shown to be anything else.
func TestUnreadableIsNotDeleted(t *testing.T) {
	l := newLab(t)
	a, b := l.device(), l.device()
	require.True(t, b.read("k").Deleted(), "it was never written")
	a.set("k", "a")
	for at, e := range a.disk.slots {
		b.disk.take(at.key, e, nil)
	}
	item := b.read("k")
	require.False(t, item.Deleted())
	_, err := item.Content(t.Context(), 100)
	require.ErrorIs(t, err, plan.ErrMissing)

	c := l.device()
	c.disk.unreadable = replica.ErrNoReadKey
	item = c.read("k")
	require.False(t, item.Deleted())
	_, err = item.Content(t.Context(), 100)
	require.ErrorIs(t, err, replica.ErrNoReadKey)
	require.NoError(t, c.Delete(t.Context(), item))
	require.Zero(t, c.disk.writes)
	c.from(a)
	require.Equal(t, "a", c.text("k"))
	require.NoError(t, c.Delete(t.Context(), c.read("k")))
	require.True(t, c.read("k").Deleted(), "a deletion that can be read is one")
}

// What an author has in the slots of several epochs is all seen: it may have been copied.
func TestSlotsOfSeveralEpochs(t *testing.T) {
	l := newLab(t)
	a := l.device()
	a.set("other", "o")
	b := l.deviceOn(a.disk.copy())
	a.set("k", "a")
	b.set("k", "b")
	at := slot{"k", a.authorID()}
	first := replica.Item{Key: []byte("k"), Entry: a.disk.slots[at]}
	last := replica.Item{Key: []byte("k"), Entry: b.disk.slots[at]}
	c := l.device()
	for _, d := range []*device{a, b} {
		e := d.disk.slots[at]
		c.disk.content[e.Hash] = d.disk.content[e.Hash]
	}
	item, err := c.oneItem(t.Context(), slotsOf{
		[]byte("k"), []replica.Item{first, last}, Looked{Waited: true},
	})
	require.NoError(t, err)
	require.Len(t, item.Heads, 2)

	// The same version, sealed twice, is one.
	again := first
	again.Entry.Timestamp++
	again.Entry.Hash[0]++
	c.disk.content[again.Entry.Hash] = c.disk.content[first.Entry.Hash]
	item, err = c.oneItem(t.Context(), slotsOf{
		[]byte("k"), []replica.Item{first, again}, Looked{Waited: true},
	})
	require.NoError(t, err)
	require.Len(t, item.Heads, 1)
	require.Equal(t, again.Entry.Hash, item.Heads[0].Entry.Hash)
}

// What is pending and sealed with an old key is written again, as the version that it was; what
// somebody has, or has been written since, is not.
func TestReseal(t *testing.T) {
	ctx := t.Context()
	l := newLab(t)
	a := l.device()
	a.set("held", "h")
	_, err := a.AskHeld(ctx, func(_ context.Context, some []replica.Item) ([]bool, error) {
		return slices.Repeat([]bool{true}, len(some)), nil
	})
	require.NoError(t, err)
	a.set("k", "a")
	a.set("new", "n")
	before := a.read("k").Heads[0]
	n, err := a.Reseal(ctx, func(e *replica.Entry) bool { return string(e.Key) != "new" })
	require.NoError(t, err)
	require.Equal(t, 1, n)
	after := a.read("k").Heads[0]
	require.Equal(t, before.Dot, after.Dot)
	require.Greater(t, after.Time, before.Time)
	require.Equal(t, "a", a.text("k"))
	a.set("k", "ab")
	require.Equal(t, "ab", a.text("k"))
}
