package replicas_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/store/replicas"
)

// weighing refuses what is long, until it is told to allow that, and counts the bytes that it is
// asked about.
type weighing struct {
	openGuard
	bytes  atomic.Int64
	allows atomic.Bool
}

func (g *weighing) Check(_ context.Context, v *replicas.Version) ([]byte, error) {
	g.bytes.Add(int64(len(v.Kept)))
	if len(v.Kept) > 1000 && !g.allows.Load() {
		return nil, fmt.Errorf("it is long: %w", replicas.ErrRefused)
	}
	return v.Kept, nil
}

// An author who writes many long elements that do not count, which costs it one content, costs
// readers and writers of the log little: what has been refused is not read again for some time, and
// what is behind the last element is looked for in few bytes.
func TestElementsThatDoNotCount(t *testing.T) {
	const junk, long = 100, 1 << 20
	m, clock := withClock(t, t.TempDir())
	defer func() { require.NoError(t, m.Close()) }()
	evil, guard := m.granted(t), &weighing{}
	require.NoError(t, m.Store.Close())
	m.reopen(t, replicas.Options{Guard: guard})
	now := m.n.Now().UnixMilli()
	require.NoError(t, m.Append(t.Context(), "log", store.Element{
		Time: now - junk - 1, Body: []byte(`{"ts":1,"data":{"i":1}}`)}, aDocument))
	body := []byte(`{"data":{"s":"` + strings.Repeat("x", long) + `"}}`)
	for i := range int64(junk) {
		m.forge(t, evil, fmt.Sprintf("log/log\x00%016d", now-i), body)
	}
	asked := func(of func()) int64 {
		before := guard.bytes.Load()
		of()
		return guard.bytes.Load() - before
	}
	last := func() {
		all, _, err := m.Elements(t.Context(), "log", -1, now, 1, nil)
		require.NoError(t, err)
		require.Len(t, all, 1)
		require.Equal(t, now-junk-1, all[0].Time)
	}
	length := func() {
		_, err := m.Length(t.Context(), "log", now)
		require.NoError(t, err)
	}
	require.LessOrEqual(t, asked(length), int64(replicas.MaxBehind+2*long))
	require.LessOrEqual(t, asked(last), int64(junk*2*long), "each once")
	require.Zero(t, asked(last)/long)
	require.Zero(t, asked(length)/long)
	l, err := m.Length(t.Context(), "log", now)
	require.NoError(t, err)
	require.Equal(t, now-junk-1, l.Last)
	news := asked(func() {
		_, err := m.Since(t.Context(), "log", "", -1, 2*junk, nil)
		require.NoError(t, err)
	})
	require.Zero(t, news/long)

	// It may come to count; how long that takes is in proportion to how long it did not.
	clock.by.Store(int64(replicas.FirstJunk))
	require.EqualValues(t, junk, asked(last)/long)
	clock.by.Add(int64(replicas.FirstJunk))
	require.Zero(t, asked(last)/long)
	guard.allows.Store(true)
	clock.by.Add(int64(replicas.FirstJunk))
	all, _, err := m.Elements(t.Context(), "log", -1, now, 1, nil)
	require.NoError(t, err)
	require.Equal(t, now, all[0].Time)
	guard.allows.Store(false)
	m.Forget()
	require.Positive(t, asked(last)/long, "by other rules")
}

// Nor does a long version of a document that does not count cost each reader and writer what it
// takes to find that out.
func TestDocumentThatDoesNotCount(t *testing.T) {
	const long = 1 << 20
	m, clock := withClock(t, t.TempDir())
	defer func() { require.NoError(t, m.Close()) }()
	evil, guard := m.granted(t), &weighing{}
	require.NoError(t, m.Store.Close())
	m.reopen(t, replicas.Options{Guard: guard})
	body := []byte(`{"data":{"s":"` + strings.Repeat("x", long) + `"}}`)
	m.forge(t, evil, "doc/a", body)
	for i := range 5 {
		require.NoError(t, m.Put(t.Context(), "a", aDocument, store.Whatever))
		require.NoError(t, m.Settle(t.Context()))
		o, err := m.Get(t.Context(), "a")
		require.NoError(t, err)
		require.Equal(t, aDocument.Body, o.Body)
		require.EqualValues(t, 1, guard.bytes.Load()/long, i)
	}
	guard.allows.Store(true)
	clock.by.Store(int64(replicas.FirstJunk))
	o, err := m.Get(t.Context(), "a")
	require.NoError(t, err)
	require.EqualValues(t, 2, guard.bytes.Load()/long)
	require.NotNil(t, o)
}
