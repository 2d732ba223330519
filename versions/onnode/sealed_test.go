package onnode

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/replica/seal"
)

// What a device has written before it learned of a new read key, and nobody else has, is sealed
// with that, and stays the version that it was.
func TestPendingIsSealedAnew(t *testing.T) {
	ctx := t.Context()
	a := newMachine(t, t.TempDir()).start(false).found(true)
	a.write("k", "a")
	before := a.read("k").Heads[0]
	_, err := a.n.Rotate(ctx, a.id)
	require.NoError(t, err)
	a.restart(false)
	require.Eventually(t, func() bool {
		epoch, err := seal.EpochOf(a.read("k").Heads[0].Entry.Key)
		return err == nil && epoch == 2
	}, 30*time.Second, 10*time.Millisecond)
	after := a.read("k").Heads
	require.Len(t, after, 1)
	require.Equal(t, before.Dot, after[0].Dot)
	require.Equal(t, "a", a.text("k"))
	a.write("k", "ab")
	require.Equal(t, "ab", a.text("k"))
}

// Without the read key of the present epoch, a device shows what it can read, calls nothing deleted
// that it cannot, writes nothing and says why.
func TestEpochWithoutItsKey(t *testing.T) {
	ctx := t.Context()
	a := newMachine(t, t.TempDir()).start(true).found(true)
	a.write("k", "a")
	b := newMachine(t, t.TempDir()).start(true).join(a, replica.Read)
	eventually(t, "k", "a", b)
	require.True(t, b.read("new").Deleted())
	_, err := a.n.Rotate(ctx, a.id) // b has a ticket, and no author to whom the new key is given
	require.NoError(t, err)
	a.write("new", "n")
	b.meet(a)
	require.Eventually(t, func() bool {
		return b.text("k") == "a" && !b.read("new").Deleted()
	}, 30*time.Second, 10*time.Millisecond)
	_, err = b.read("new").Content(ctx, 100)
	require.ErrorIs(t, err, replica.ErrNoReadKey)
	require.ErrorIs(t, b.set.Set.Set(ctx, b.read("k"), []byte("ab")), replica.ErrNoReadKey)
	_, wrote := b.set.Device()
	require.False(t, wrote)
	require.Equal(t, "a", b.text("k"))
}
