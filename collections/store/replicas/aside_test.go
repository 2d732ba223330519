package replicas_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/store/replicas"
	"github.com/skerry-sync/skerry/replica"
)

func jsonOf(body string) *store.Object {
	return &store.Object{Body: []byte(body), Type: "application/json"}
}

// settles says that all that was written is in the replica, or waits for the clock, and does not
// wait for long.
func (m *member) settles(t *testing.T) {
	within, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	require.NoError(t, m.Settle(within))
}

func (m *member) requireHas(t *testing.T, key, body string) {
	o, err := m.Get(t.Context(), key)
	require.NoError(t, err)
	require.Equal(t, body, string(o.Body))
}

// If the clock was ahead when something was written, and is set back, what would be written over
// that is refused, and keeps nothing else from the replica.
func TestWritesOverThoseOfBeforeTheClockWasSetBack(t *testing.T) {
	ctx := t.Context()
	m, clock := withClock(t, t.TempDir())
	require.NoError(t, m.Put(ctx, "a", jsonOf(`{"a":1}`), store.Whatever))
	require.NoError(t, m.Put(ctx, "gone", jsonOf(`{"a":1}`), store.Whatever))
	require.NoError(t, m.Delete(ctx, "gone"))
	m.settles(t)
	clock.by.Store(int64(-time.Hour))
	require.ErrorIs(t, m.Put(ctx, "a", jsonOf(`{"a":2}`), store.Whatever), store.ErrAhead)
	require.ErrorIs(t, m.Put(ctx, "gone", jsonOf(`{"a":2}`), store.Whatever), store.ErrAhead)
	require.ErrorIs(t, m.Delete(ctx, "a"), store.ErrAhead)
	require.NoError(t, m.Put(ctx, "b", jsonOf(`{"b":1}`), store.Whatever))
	m.settles(t)
	m.requireHas(t, "a", `{"a":1}`)
	m.element(t, m.n.Now().UnixMilli(), "word")
	clock.by.Store(int64(-replica.MaxAhead))
	require.NoError(t, m.Put(ctx, "a", jsonOf(`{"a":2}`), store.Whatever))
	m.settles(t)
	m.requireHas(t, "a", `{"a":2}`)
	require.NoError(t, m.Close())
}

// What was acknowledged before the clock was set back waits until its time comes, also over starts.
// It is read, and keeps nothing else from the replica, however much that is, nor the journal large.
func TestClockSetBackMeanwhile(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	m, clock := withClock(t, dir)
	r, err := m.n.Replicas().Get(ctx, m.id)
	require.NoError(t, err)
	require.NoError(t, m.Put(ctx, "a", jsonOf(`{"a":0}`), store.Whatever))
	m.settles(t)
	whileLocked(t, m, func() {
		require.NoError(t, m.Put(ctx, "a", jsonOf(`{"a":1}`), store.Whatever))
		require.NoError(t, m.Put(ctx, "a", jsonOf(`{"a":2}`), store.Whatever))
		clock.by.Store(int64(-time.Hour))
	})
	m.settles(t)
	m.requireHas(t, "a", `{"a":2}`)
	require.ErrorIs(t, m.Put(ctx, "a", jsonOf(`{"a":3}`), store.Whatever), store.ErrAhead)
	large := `{"b":"` + strings.Repeat("b", replicas.MaxInMemory-100) + `"}`
	for range 1 + 2*replicas.MaxJournal/replicas.MaxInMemory {
		require.NoError(t, m.Put(ctx, "b", jsonOf(large), store.Whatever))
	}
	m.settles(t)
	require.NoError(t, m.Close())
	journal, err := os.Stat(filepath.Join(dir, "collections", r.ID.String()+".journal"))
	require.NoError(t, err)
	require.Less(t, journal.Size(), int64(replicas.MaxJournal+2*replicas.MaxInMemory))

	m = &member{n: openNode(t, dir, clock.now)}
	m.open(t, r)
	require.NoError(t, m.Put(ctx, "c", jsonOf(`{"c":1}`), store.Whatever))
	m.settles(t)
	for key, body := range map[string]string{"a": `{"a":2}`, "b": large, "c": `{"c":1}`} {
		m.requireHas(t, key, body)
	}
	clock.by.Store(0)
	require.Eventually(t, m.HasNoneAside, 20*time.Second, 10*time.Millisecond)
	m.requireHas(t, "a", `{"a":2}`)
	require.NoError(t, m.Put(ctx, "a", jsonOf(`{"a":4}`), store.Whatever))
	m.requireHas(t, "a", `{"a":4}`)
	require.NoError(t, m.Close())

	m = &member{n: openNode(t, dir, clock.now)}
	m.open(t, r)
	m.requireHas(t, "a", `{"a":4}`)
	require.NoError(t, m.Close())
}

// A key that no entry can have is refused before anything is acknowledged.
func TestKeysThatNoEntryCanHave(t *testing.T) {
	ctx := t.Context()
	m, _ := withClock(t, t.TempDir())
	long := strings.Repeat("k", replica.MaxKey-4)
	file := &store.Object{Body: []byte("x"), Type: "text/plain"}
	require.ErrorIs(t, m.Put(ctx, long, jsonOf(`{}`), store.Whatever), store.ErrKey)
	require.ErrorIs(t, m.Put(ctx, long, file, store.Whatever), store.ErrKey)
	one := store.Element{Time: 1, Body: []byte("{}")}
	require.ErrorIs(t, m.Append(ctx, long[10:], one, jsonOf(`{}`)),
		store.ErrKey)
	require.NoError(t, m.Delete(ctx, long))
	require.NoError(t, m.Put(ctx, long[1:], file, store.Whatever))
	m.settles(t)
	require.NoError(t, m.Close())
}
