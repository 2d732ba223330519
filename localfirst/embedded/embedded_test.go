package embedded

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/localfirst"
)

// pair are two devices of a person that know each other.
func pair(t *testing.T) (a, b *device) {
	a, b = newDevice(t, "alice").start(), newDevice(t, "alice").start()
	require.Equal(t, a.ns.ID(), b.ns.ID())
	b.meet(a)
	return a, b
}

// What one device's app writes is in the other's, after a pass on each; what both changed is
// merged.
func TestValuesAreTheSame(t *testing.T) {
	a, b := pair(t)
	a.set("k", "one")
	a.sync()
	b.app.Want("k")
	b.sync()
	require.Equal(t, "one", b.get("k"))
	a.set("k", "one two")
	b.set("k", "one three")
	a.sync()
	b.sync()
	same(t, "k", a, b)
	require.Contains(t, []string{"one two three", "one three two"}, a.get("k"))
}

// With Run on both devices, what an app writes comes by itself.
func TestRun(t *testing.T) {
	a, b := pair(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	for _, d := range []*device{a, b} {
		go func() { ended <- d.engine.Run(ctx) }()
	}
	b.app.Want("k")
	a.set("k", "v")
	a.engine.ScheduleSync()
	require.Eventually(t, func() bool { return b.get("k") == "v" }, waitTime, tick)
	b.set("k", "w")
	b.engine.ScheduleSync()
	require.Eventually(t, func() bool { return a.get("k") == "w" }, waitTime, tick)
	cancel()
	require.ErrorIs(t, <-ended, context.Canceled)
	require.ErrorIs(t, <-ended, context.Canceled)
}

// Deleting goes everywhere; a key that leaves the scope deletes nothing, and one that comes back is
// applied again.
func TestDeleteAndScope(t *testing.T) {
	a, b := pair(t)
	for _, key := range []string{"k", "l", "m"} {
		a.set(key, "v "+key)
		b.app.Want(key)
	}
	a.sync()
	b.sync()
	require.Equal(t, "v k", b.get("k"))
	a.app.Delete("k")
	a.sync()
	b.sync()
	require.Equal(t, "-", b.get("k"))
	b.app.Forget("l")
	b.sync()
	a.sync()
	require.Equal(t, "v l", a.get("l"))
	b.app.Want("l")
	b.sync()
	require.Equal(t, "v l", b.get("l"))
	a.set("k", "again")
	a.sync()
	b.sync()
	require.Equal(t, "again", b.get("k"))
}

// An app's store that comes up empty deletes nothing until somebody approves, or refreshes it.
func TestEmptiedStore(t *testing.T) {
	for name, approve := range map[string]bool{"approved": true, "refreshed": false} {
		t.Run(name, func(t *testing.T) {
			a, b := pair(t)
			for _, key := range []string{"k", "l", "m"} {
				a.set(key, "v "+key)
				b.app.Want(key)
			}
			a.sync()
			b.sync()
			for _, key := range []string{"k", "l", "m"} {
				a.app.Delete(key)
			}
			require.ErrorIs(t, a.engine.SyncNow(t.Context()), localfirst.ErrMassDelete)
			b.set("l", "v l, newer") // it comes while the collection of a is stopped
			b.sync()
			require.ErrorIs(t, a.engine.SyncNow(t.Context()), localfirst.ErrMassDelete)
			require.Equal(t, "v k", b.get("k"))
			if approve {
				a.notes.Approve()
				a.sync()
				b.sync()
				require.Equal(t, "-", b.get("k"))
				require.Equal(t, "v l, newer", b.get("l"), "an edit stands against a deletion")
				a.sync()
				require.Equal(t, "v l, newer", a.get("l"), "what came meanwhile")
				return
			}
			require.NoError(t, a.notes.Refresh(t.Context()))
			require.Equal(t, "v m", a.get("m"))
			a.sync()
			b.sync()
			require.Equal(t, "v k", b.get("k"))
		})
	}
}

// What cannot be merged is a conflict on both devices; each goes on with its own, and one decides
// for both.
func TestConflict(t *testing.T) {
	a, b := pair(t)
	ctx := t.Context()
	a.set("k", "base")
	b.app.Want("k")
	a.sync()
	b.sync()
	a.set("k", "A")
	b.set("k", "B")
	a.sync()
	b.sync()
	a.sync()
	b.sync()
	require.Equal(t, "A", a.get("k"))
	require.Equal(t, "B", b.get("k"))
	for _, d := range []*device{a, b} {
		all, err := d.ns.Problems(ctx)
		require.NoError(t, err)
		require.Len(t, all, 1)
		require.True(t, all[0].Conflict)
		require.Contains(t, all[0].Why, "person")
		base, err := d.notes.Base(ctx, "k")
		require.NoError(t, err)
		require.Equal(t, "base", base)
	}
	history, err := b.notes.History(ctx, "k")
	require.NoError(t, err)
	require.Len(t, history, 3)
	for _, v := range history {
		value, err := b.notes.Value(ctx, "k", v.ID)
		require.NoError(t, err)
		if value == "A" {
			require.NoError(t, b.notes.Take(ctx, "k", v.ID))
		}
	}
	require.Equal(t, "A", b.get("k"))
	b.sync()
	a.sync()
	require.Equal(t, "A", a.get("k"))
	for _, d := range []*device{a, b} {
		all, err := d.ns.Problems(ctx)
		require.NoError(t, err)
		require.Empty(t, all)
	}
	a.set("k", "A, and more")
	a.sync()
	b.sync()
	require.Equal(t, "A, and more", b.get("k"))
}

// The engine's store is lost: nothing is lost with it, and nothing old is published.
func TestLostMetadata(t *testing.T) {
	a, b := pair(t)
	for _, key := range []string{"same", "older", "newer"} {
		a.set(key, "1")
		b.app.Want(key)
	}
	a.sync()
	b.sync()
	a.set("older", "2")
	a.sync()
	b.sync()
	require.Equal(t, "2", b.get("older"))
	b.stop()
	b.store = localfirst.NewMemoryStore()
	b.set("older", "1") // it had not come
	b.set("newer", "1 and")
	b.start()
	b.meet(a)
	b.sync()
	a.sync()
	b.sync()
	require.Equal(t, "2", b.get("older"))
	require.Equal(t, "2", a.get("older"))
	require.Equal(t, "1", b.get("same"))
	same(t, "newer", a, b)
	require.Equal(t, "1 and", a.get("newer"))
}

// One bad item blocks no other, and is listed.
func TestBadItem(t *testing.T) {
	a, b := newDevice(t, "alice"), newDevice(t, "alice")
	bad := errors.New("it does not like that")
	plain := localfirst.StringCodec()
	b.cfg.Codec = localfirst.CodecOf(plain.Encode, func(b []byte) (string, error) {
		if string(b) == "bad" {
			return "", bad
		}
		return plain.Decode(b)
	})
	a.start()
	b.start()
	b.meet(a)
	for _, key := range []string{"a", "b", "c"} {
		b.app.Want(key)
	}
	a.set("a", "1")
	a.set("b", "bad")
	a.set("c", "3")
	a.sync()
	b.sync()
	require.Equal(t, "1", b.get("a"))
	require.Equal(t, "-", b.get("b"))
	require.Equal(t, "3", b.get("c"))
	all, err := b.ns.Problems(t.Context())
	require.NoError(t, err)
	require.Len(t, all, 1)
	require.Contains(t, all[0].Why, bad.Error())
	a.set("b", "good")
	a.sync()
	b.sync()
	require.Equal(t, "good", b.get("b"))
}

// Items of keys that nobody wants here, and of collections that are not open, are told, and applied
// nowhere.
func TestUnknownItems(t *testing.T) {
	a, b := pair(t)
	other := a.openIn(a.ns)
	require.NoError(t, other.Set(t.Context(), "x", "1"))
	a.set("k", "2")
	a.sync()
	b.sync()
	b.mu.Lock()
	defer b.mu.Unlock()
	unknown := map[string]string{}
	for _, e := range b.events {
		require.Equal(t, localfirst.Unknown, e.Kind)
		unknown[e.Collection] = e.Key
	}
	require.Equal(t, map[string]string{"notes": "k", "shared": "x"}, unknown)
	require.Equal(t, "-", b.get("k"))
}
