package onnode

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/node/wanted"
	"github.com/skerry-sync/skerry/replica"
)

// pending returns the keys of what is not known to be elsewhere.
func (m *machine) pending() (keys []string) {
	for it, err := range m.set.Pending(context.Background()) {
		require.NoError(m.t, err)
		keys = append(keys, string(it.Key))
	}
	return keys
}

// What is written is pending until another peer has it, with its content, and stays known after a
// restart; one can wait for so many copies.
func TestPending(t *testing.T) {
	for name, encrypted := range map[string]bool{"plain": false, "encrypted": true} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			a := newMachine(t, t.TempDir()).start(true).found(encrypted)
			require.NoError(t, a.set.WaitHeld(ctx, 1), "nothing has been written")
			a.write("k", "a")
			require.NoError(t, a.set.Set.Set(ctx, a.read("large"), testkit.Random(1, 3<<20)))
			require.Equal(t, []string{"k", "large"}, a.pending())
			hurried, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
			defer cancel()
			err := a.set.WaitHeld(hurried, 1)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.ErrorContains(t, err, "2 entries")

			host := newMachine(t, t.TempDir()).start(true).join(a, replica.Sync)
			require.NoError(t, a.set.WaitHeld(ctx, 1))
			waitForContent(t, host)
			a.write("k", "b")
			require.NoError(t, a.set.WaitHeld(ctx, 1, []byte("k"), []byte("none")))
			require.Eventually(t, func() bool { return len(a.pending()) == 0 }, 30*time.Second,
				20*time.Millisecond)
			hurried, cancel = context.WithTimeout(ctx, 300*time.Millisecond)
			defer cancel()
			require.ErrorIs(t, a.set.WaitHeld(hurried, 2), context.DeadlineExceeded)
			newMachine(t, t.TempDir()).start(true).join(a, replica.Write)
			require.NoError(t, a.set.WaitHeld(ctx, 2))

			a.restart(false)
			require.Empty(t, a.pending())
			a.write("l", "l")
			require.Equal(t, []string{"l"}, a.pending())
			require.ErrorIs(t, a.set.WaitHeld(ctx, 1), link.ErrOffline)
		})
	}
}

// A peer that has an entry and does not take its content is no copy.
func TestPendingContent(t *testing.T) {
	ctx := t.Context()
	a := newMachine(t, t.TempDir()).start(true).found(false)
	a.write("small", "s")
	b := newMachine(t, t.TempDir()).start(true).join(a, replica.Write)
	require.NoError(t, a.set.WaitHeld(ctx, 1))
	require.NoError(t, b.n.SetPolicy(ctx, b.id, wanted.Policy{MaxSize: 1 << 20}))
	require.NoError(t, a.set.Set.Set(ctx, a.read("large"), testkit.Random(1, 3<<20)))
	a.write("small", "t")
	require.NoError(t, a.set.WaitHeld(ctx, 1, []byte("small")))
	require.Eventually(t, func() bool {
		return len(a.pending()) == 1 && a.pending()[0] == "large"
	}, 30*time.Second, 20*time.Millisecond)
	require.NoError(t, b.n.SetPolicy(ctx, b.id, wanted.Policy{}))
	require.NoError(t, b.n.CatchUp(ctx, b.id))
	require.NoError(t, a.set.WaitHeld(ctx, 1))
}

// Whoever waits for a version that is replaced waits for what took its place.
func TestWaitHeldOfWhatIsReplaced(t *testing.T) {
	ctx := t.Context()
	a := newMachine(t, t.TempDir()).start(true).found(false)
	a.write("k", "a")
	waited := make(chan error, 1)
	go func() { waited <- a.set.WaitHeld(ctx, 1) }()
	time.Sleep(150 * time.Millisecond)
	a.write("k", "b")
	b := newMachine(t, t.TempDir()).start(true).join(a, replica.Write)
	require.NoError(t, <-waited)
	content, err := b.read("k").Content(ctx, 10)
	require.NoError(t, err)
	require.True(t, bytes.Equal([]byte("b"), content))
}
