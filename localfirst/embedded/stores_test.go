package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/localfirst"
	"github.com/skerry-sync/skerry/localfirst/nodestore"
	"github.com/skerry-sync/skerry/localfirst/sqlite"
	"github.com/skerry-sync/skerry/node"
)

// remembered returns all that a device's engine remembers.
func (d *device) remembered() (all []localfirst.Record) {
	ns := d.ns.ID().String()
	id, err := d.who.KeyID(d.t.Context())
	require.NoError(d.t, err)
	for _, n := range []localfirst.Name{
		{Kind: localfirst.SecretRecord, Namespace: id},
		{Kind: localfirst.NamespaceRecord, Namespace: ns, Collection: "notes"},
		{Kind: localfirst.ItemRecord, Namespace: ns, Collection: "notes"},
	} {
		for r, err := range d.store.Scan(d.t.Context(), n.Kind, n.Namespace, n.Collection) {
			require.NoError(d.t, err)
			r.Value = append([]byte{}, r.Value...)
			all = append(all, r)
		}
	}
	require.NotEmpty(d.t, all)
	return all
}

// storeOf returns a store that holds some records.
func storeOf(t *testing.T, all []localfirst.Record) localfirst.Store {
	s := localfirst.NewMemoryStore()
	require.NoError(t, s.Apply(t.Context(), all))
	return s
}

// values returns the values of an app.
func (d *device) values() map[string]string {
	all, err := d.app.Snapshot(d.t.Context())
	require.NoError(d.t, err)
	return all
}

// versionsOf counts the versions that a device knows of a key.
func (d *device) versionsOf(key string) int {
	all, err := d.notes.History(d.t.Context(), key)
	require.NoError(d.t, err)
	return len(all)
}

// made returns a store of what a device remembered yesterday and remembers now.
type made func(t *testing.T, old, now []localfirst.Record) localfirst.Store

// What becomes of a device whose engine's store, or its app's, or both, are not those of now. No
// edit is lost, what was deleted stays so, and nothing old is published.
func TestStoreThatIsNotOfNow(t *testing.T) {
	lost := func(t *testing.T, _, _ []localfirst.Record) localfirst.Store { return storeOf(t, nil) }
	damaged := func(b byte) made {
		return func(t *testing.T, _, now []localfirst.Record) localfirst.Store {
			var all []localfirst.Record
			for _, r := range now {
				r.Value = append([]byte{b}, r.Value[:len(r.Value)/2]...)
				all = append(all, r)
			}
			return storeOf(t, all)
		}
	}
	yesterday := func(t *testing.T, old, _ []localfirst.Record) localfirst.Store {
		return storeOf(t, old)
	}
	half := func(t *testing.T, _, now []localfirst.Record) localfirst.Store {
		var all []localfirst.Record
		for i, r := range now {
			if i%2 == 0 {
				all = append(all, r)
			}
		}
		return storeOf(t, all)
	}
	for name, c := range map[string]struct {
		store  made
		oldApp bool
	}{
		"lost":                    {lost, false},
		"half of it is lost":      {half, false},
		"of another form":         {damaged(0xff), false},
		"damaged":                 {damaged(1), false},
		"of yesterday":            {yesterday, false},
		"lost, and an old app":    {lost, true},
		"both of yesterday":       {yesterday, true},
		"damaged, and an old app": {damaged(1), true},
	} {
		t.Run(name, func(t *testing.T) { testStoreNotOfNow(t, c.store, c.oldApp) })
	}
}

func testStoreNotOfNow(t *testing.T, store made, oldApp bool) {
	a, b := pair(t)
	keys := []string{"same", "theirs", "own", "edit", "both", "they deleted", "we deleted", "new"}
	for _, key := range keys {
		a.app.Want(key)
		b.app.Want(key)
		if key != "new" {
			a.set(key, "1")
		}
	}
	a.sync()
	b.sync()
	old, oldValues := b.remembered(), b.values()

	// What happened since yesterday, and is on both devices.
	a.set("theirs", "1 theirs")
	a.app.Delete("they deleted")
	a.sync()
	b.sync()
	b.set("own", "1 own")
	b.set("new", "new")
	b.app.Delete("we deleted")
	b.sync()
	a.sync()
	want := map[string]string{
		"same": "1", "theirs": "1 theirs", "own": "1 own", "new": "new", "edit": "1", "both": "1",
	}
	require.Equal(t, want, a.values())
	require.Equal(t, want, b.values())
	before := map[string]int{}
	for _, key := range keys {
		before[key] = a.versionsOf(key)
	}

	now := b.remembered()
	b.stop()
	b.store = store(t, old, now)
	if oldApp {
		b.app = localfirst.NewMemoryValueBackend(equal)
		b.app.Want(keys...)
		for key, value := range oldValues {
			b.set(key, value)
		}
	}
	// The app and the other device go on before the engine runs again.
	b.set("edit", "1 edit")
	b.set("both", "1 ours")
	a.set("both", "1 theirs")
	a.sync()
	b.start()
	b.meet(a)
	for range 3 {
		b.sync()
		a.sync()
	}
	want["edit"] = "1 edit"
	for key, value := range want {
		if key != "both" {
			require.Equal(t, value, a.get(key), key)
			require.Equal(t, value, b.get(key), key)
		}
	}
	for _, key := range []string{"they deleted", "we deleted"} {
		require.Equal(t, "-", a.get(key), key)
		require.Equal(t, "-", b.get(key), key)
	}
	for _, key := range keys {
		if key != "edit" && key != "both" {
			require.Equal(t, before[key], a.versionsOf(key), "something of %q was published", key)
		}
	}
	history, err := a.notes.History(t.Context(), "both")
	require.NoError(t, err)
	seen := map[string]bool{}
	for _, v := range history {
		value, err := a.notes.Value(t.Context(), "both", v.ID)
		if err == nil {
			seen[value] = true
		}
	}
	require.True(t, seen["1 ours"] && seen["1 theirs"], "what both wrote is there: %v", seen)
}

// An engine goes on with each durable store where it ended.
func TestDurableStores(t *testing.T) {
	type opener func(*testing.T, *node.Node, string) (s localfirst.Store, end func() error)
	for name, open := range map[string]opener{
		"sqlite": func(t *testing.T, _ *node.Node, dir string) (localfirst.Store, func() error) {
			s, err := sqlite.Open(filepath.Join(dir, "app.sync"))
			require.NoError(t, err)
			return s, s.Close
		},
		"the node's": func(t *testing.T, n *node.Node, _ string) (localfirst.Store, func() error) {
			s, err := nodestore.Open(t.Context(), n.Store(), "app")
			require.NoError(t, err)
			return s, func() error { return nil }
		},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := newDevice(t, "alice").start(), newDevice(t, "alice")
			dir := t.TempDir()
			end := func() error { return nil }
			b.storeOf = func(n *node.Node) (s localfirst.Store) {
				s, end = open(t, n, dir)
				return s
			}
			b.start()
			b.meet(a)
			b.app.Want("k", "l")
			for round := range 3 {
				a.set("k", fmt.Sprint("k", round))
				a.sync()
				b.sync()
				require.Equal(t, fmt.Sprint("k", round), b.get("k"))
				b.set("l", fmt.Sprint("l", round))
				b.sync()
				b.sync()
				a.app.Want("l")
				a.sync()
				require.Equal(t, fmt.Sprint("l", round), a.get("l"))
				require.Equal(t, 1+round, a.versionsOf("l"))
				b.stop()
				require.NoError(t, end())
				b.app.Delete("k") // while the engine does not run
				b.start()
				b.meet(a)
				b.sync()
				a.sync()
				require.Equal(t, "-", a.get("k"))
			}
			b.stop()
			require.NoError(t, end())
		})
	}
}

// A damaged store is set aside, and a new one made: nothing is lost, and nothing is published anew.
func TestDamagedStoreIsSetAside(t *testing.T) {
	a, b := newDevice(t, "alice").start(), newDevice(t, "alice")
	path := filepath.Join(t.TempDir(), "app.sync")
	var s *sqlite.Store
	b.storeOf = func(*node.Node) localfirst.Store {
		var err error
		s, err = sqlite.Open(path)
		require.NoError(t, err)
		return s
	}
	b.start()
	b.meet(a)
	for i := range 50 {
		key := fmt.Sprint("k", i)
		a.set(key, "1")
		b.app.Want(key)
	}
	a.sync()
	b.sync()
	require.Equal(t, "1", b.get("k49"))
	require.NoError(t, s.Close())
	require.ErrorContains(t, b.engine.SyncNow(t.Context()), path, "a store that is closed")
	b.stop()

	bytes, err := os.ReadFile(path)
	require.NoError(t, err)
	for i := 2 << 10; i < len(bytes); i += 1 << 10 {
		bytes[i] ^= 0x5a
	}
	require.NoError(t, os.WriteFile(path, bytes, 0o600))
	b.set("k1", "1 and")
	failing, err := sqlite.Open(path)
	if err == nil {
		ns := a.ns.ID().String()
		for _, failed := range failing.Scan(t.Context(), localfirst.ItemRecord, ns, "notes") {
			err = failed
		}
		require.NoError(t, failing.Close())
	}
	require.ErrorIs(t, err, sqlite.ErrDamaged)
	_, err = sqlite.SetAside(path)
	require.NoError(t, err)
	b.start()
	b.meet(a)
	b.sync()
	a.sync()
	require.Equal(t, "1 and", a.get("k1"))
	require.Equal(t, 2, a.versionsOf("k1"))
	require.Equal(t, 1, a.versionsOf("k2"))
	b.stop()
	require.NoError(t, s.Close())
}

// dying is a store that takes nothing any more once it is dead, as of a process that was killed.
type dying struct {
	localfirst.Store
	dead atomic.Bool
}

var errDead = errors.New("the process is dead")

func (s *dying) Apply(ctx context.Context, all []localfirst.Record) error {
	if s.dead.Load() {
		return errDead
	}
	return s.Store.Apply(ctx, all)
}

// A device dies when a value is in the app's store and before the engine has noted that. What comes
// after that is newer: the app has not written the value, so it is not published.
func TestDeathAfterSet(t *testing.T) {
	a, b := pair(t)
	b.stop()
	store := &dying{Store: b.store}
	b.store = store
	b.start()
	b.meet(a)
	keys := []string{"changed", "deleted", "kept", "edited"}
	for _, key := range keys {
		b.app.Want(key)
		a.set(key, "1")
	}
	a.sync()
	b.sync()
	for _, key := range keys {
		a.set(key, "1 2")
	}
	a.sync()
	store.dead.Store(true)
	require.ErrorIs(t, b.engine.SyncNow(t.Context()), errDead)
	b.stop()
	for _, key := range keys { // it died later for each
		b.set(key, "1 2")
	}
	a.set("changed", "1 2 3")
	a.set("edited", "1 2 theirs")
	a.app.Delete("deleted")
	a.sync()
	b.set("edited", "1 2 ours")
	before := map[string]int{}
	for _, key := range keys {
		before[key] = a.versionsOf(key)
	}
	store.dead.Store(false)
	b.start()
	b.meet(a)
	for range 3 {
		b.sync()
		a.sync()
	}
	for key, want := range map[string]string{"changed": "1 2 3", "deleted": "-", "kept": "1 2"} {
		require.Equal(t, want, a.get(key), key)
		require.Equal(t, want, b.get(key), key)
		require.Equal(t, before[key], a.versionsOf(key), "something of %q was published", key)
	}
	require.Contains(t, a.get("edited"), "ours")
	require.Contains(t, a.get("edited"), "theirs")
}
