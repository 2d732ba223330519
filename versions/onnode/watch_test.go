package onnode

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/versions"
)

// until takes what a Watch tells until it has told a key. It returns all keys.
func until(t *testing.T, w *Watch, key string) map[string]bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	told := map[string]bool{}
	for !told[key] {
		keys, missed, err := w.Next(ctx)
		require.NoError(t, err, "%q was not told", key)
		require.False(t, missed)
		for _, k := range keys {
			told[string(k)] = true
		}
	}
	return told
}

func watch(t *testing.T, s *Set) *Watch {
	w, err := s.Watch(t.Context())
	require.NoError(t, err)
	t.Cleanup(w.Close)
	return w
}

// A Watch tells the keys of what is written here and of what comes from peers, also once content is
// here that was not, and when a revocation takes entries away.
func TestWatch(t *testing.T) {
	ctx := t.Context()
	a := newMachine(t, t.TempDir()).start(true).found(false)
	b := newMachine(t, t.TempDir()).start(true).join(a, replica.Write)
	w, other := watch(t, b.set), watch(t, b.set)
	a.write("k", "a")
	until(t, w, "k")
	until(t, other, "k")
	b.write("mine", "b")
	until(t, w, "mine")
	require.NoError(t, b.set.Write(ctx,
		versions.Edit{Item: b.read("many/1"), Content: source(b, "1")},
		versions.Edit{Item: b.read("many/2"), Content: source(b, "2")},
	))
	for key := range until(t, w, "many/2") {
		require.NotEqual(t, byte(0), key[0], "the manifest of a batch is no item")
	}
	require.NoError(t, a.set.Set.Set(ctx, a.read("large"), testkit.Random(1, 3<<20)))
	for item := b.read("large"); item.Deleted() || item.Pending > 0; item = b.read("large") {
		until(t, w, "large")
	}
	author := a.read("k").Heads[0].Author
	_, err := a.n.Revoke(ctx, a.id, author, 0)
	require.NoError(t, err)
	for !b.read("k").Deleted() {
		until(t, w, "k")
	}
}

// A Watch that is asked too rarely keeps no more than a bound, says that it has missed some, and
// then goes on.
func TestWatchIsBounded(t *testing.T) {
	var all watches
	few := &Watch{of: &all, known: map[string]bool{}, told: make(chan struct{}, 1)}
	require.NoError(t, all.add(few))
	next := func() ([][]byte, bool) {
		keys, missed, err := few.Next(t.Context())
		require.NoError(t, err)
		return keys, missed
	}
	for i := range maxChanged {
		all.tell([][]byte{fmt.Append(nil, i), []byte("0")})
	}
	keys, missed := next()
	require.False(t, missed)
	require.Len(t, keys, maxChanged)
	for i := range maxChanged + 1 {
		all.tell([][]byte{fmt.Append(nil, i)})
	}
	require.Empty(t, few.keys)
	keys, missed = next()
	require.True(t, missed)
	require.Empty(t, keys)
	all.tell([][]byte{[]byte("x")})
	keys, missed = next()
	require.False(t, missed)
	require.Equal(t, [][]byte{[]byte("x")}, keys)
	for i := range 3 {
		all.tell([][]byte{append(make([]byte, 0, maxChangedBytes/2), byte('a'+i)),
			append([]byte{byte('a' + i)}, make([]byte, maxChangedBytes/2-1)...)})
	}
	_, missed = next()
	require.True(t, missed, "long keys have their bound, too")
}

// What a node has missed itself, a Watch has missed.
func TestWatchMissesWhatTheNodeMissed(t *testing.T) {
	a := newMachine(t, t.TempDir()).start(false).found(false)
	a.set.cancel()
	a.set.running.Wait()
	a.set.watches.ended = false
	w := watch(t, a.set)
	require.NoError(t, a.set.watcher.take(t.Context(), seen{missed: 1}))
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	keys, missed, err := w.Next(ctx)
	require.NoError(t, err)
	require.True(t, missed)
	require.Empty(t, keys)
}

// A Watch ends with its context, when it is closed, with its Set and with the node, also for
// several that wait.
func TestWatchEnds(t *testing.T) {
	for name, end := range map[string]func(*machine, *Watch){
		"closed":     func(_ *machine, w *Watch) { w.Close() },
		"its Set":    func(m *machine, _ *Watch) { m.set.Close() },
		"with it":    func(m *machine, _ *Watch) { m.stop() },
		"before it":  func(m *machine, _ *Watch) { require.NoError(m.t, m.n.Close()) },
		"both twice": func(m *machine, w *Watch) { w.Close(); m.set.Close(); w.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			a := newMachine(t, t.TempDir()).start(false).found(false)
			w := watch(t, a.set)
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			_, _, err := w.Next(ctx)
			require.ErrorIs(t, err, context.Canceled)
			a.write("k", "a")
			until(t, w, "k")
			ended := make(chan error, 2)
			for range cap(ended) {
				go func() {
					var err error
					for err == nil { // the key may be told again
						_, _, err = w.Next(t.Context())
					}
					ended <- err
				}()
			}
			end(a, w)
			for range cap(ended) {
				require.ErrorIs(t, <-ended, node.ErrClosed)
			}
			if a.set != nil && name != "closed" {
				_, err = a.set.Watch(t.Context())
				require.ErrorIs(t, err, node.ErrClosed)
			}
		})
	}
}
