package replicas_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/store/replicas"
	"github.com/skerry-sync/skerry/collections/value"
	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/replica"
)

// wavering cannot tell of what has "who", until it decides; it refuses what has "no".
type wavering struct {
	openGuard
	decides atomic.Bool
}

func (g *wavering) Check(_ context.Context, v *replicas.Version) ([]byte, error) {
	switch {
	case strings.Contains(string(v.Kept), "who") && !g.decides.Load():
		return nil, errors.New("the chain does not answer")
	case strings.Contains(string(v.Kept), "no"):
		return nil, replicas.ErrRefused
	}
	return v.Kept, nil
}

// judged is a member whose guard wavers, and whose clock can be set forward.
func judged(t *testing.T) (*member, *shifted, *wavering) {
	m, clock := withClock(t, t.TempDir())
	m.granted(t)
	g := &wavering{}
	require.NoError(t, m.Store.Close())
	m.reopen(t, replicas.Options{Guard: g})
	return m, clock, g
}

func (m *member) element(t *testing.T, at int64, word string) {
	require.NoError(t, m.Append(t.Context(), "log", store.Element{
		Time: at, Body: fmt.Appendf(nil, `{"ts":%d,"data":{"w":%q}}`, at, word)}, aDocument))
	require.NoError(t, m.Settle(t.Context()))
}

func timesOf(all []store.Element) (times []int64) {
	for _, e := range all {
		times = append(times, e.Time)
	}
	return times
}

// A log of which an element cannot be decided is read all the same. Who goes on from what it gets
// does not miss it if it is decided in time, and waits no longer for it.
func TestUndecidedElement(t *testing.T) {
	m, clock, guard := judged(t)
	defer func() { require.NoError(t, m.Close()) }()
	now := m.n.Now().UnixMilli()
	at := []int64{now - 4, now - 3, now - 2, now - 1}
	for i, word := range []string{"a", "b", "who", "c"} {
		m.element(t, at[i], word)
	}
	read := func(after int64, limit int) ([]int64, int) {
		all, undecided, err := m.Elements(t.Context(), "log", after, math.MaxInt64, limit, nil)
		require.NoError(t, err)
		return timesOf(all), undecided
	}
	for _, tt := range []struct {
		after int64
		limit int
		want  []int64
	}{
		{-1, -1, []int64{at[0], at[1], at[3]}},
		{-1, 2, []int64{at[1], at[3]}},
		{-1, 1, []int64{at[3]}},
		{0, -1, at[:2]},
		{at[1], -1, nil},
		{at[2], -1, at[3:]},
	} {
		got, undecided := read(tt.after, tt.limit)
		require.Equal(t, tt.want, got, tt)
		require.Equal(t, tt.limit != 1 && tt.after != at[2], undecided == 1, tt)
	}
	first, err := m.Since(t.Context(), "log", "", -1, 100, nil)
	require.NoError(t, err)
	require.Equal(t, []int64{at[0], at[1], at[3]}, timesOf(first.Elements))
	require.Equal(t, 1, first.Undecided)

	guard.decides.Store(true)
	news, err := m.Since(t.Context(), "log", first.Next, -1, 100, nil)
	require.NoError(t, err)
	require.Equal(t, at[2:3], timesOf(news.Elements))
	require.Zero(t, news.Undecided)
	got, undecided := read(at[1], -1)
	require.Equal(t, at[2:], got)
	require.Zero(t, undecided)

	guard.decides.Store(false)
	m.Forget()
	clock.by.Store(int64(replicas.UndecidedFor))
	got, undecided = read(0, -1)
	require.Equal(t, []int64{at[0], at[1], at[3]}, got)
	require.Equal(t, 1, undecided)
}

// The answers say that elements are missing, and no cache keeps them.
func TestDocumentsSayWhatIsUndecided(t *testing.T) {
	m, _, guard := judged(t)
	defer func() { require.NoError(t, m.Close()) }()
	now := m.n.Now().UnixMilli()
	m.element(t, now-2, "a")
	m.element(t, now-1, "who")
	d := document.In(m, m.n.Now)
	p, err := d.Elements(t.Context(), "log", -1, nil, items)
	require.NoError(t, err)
	require.Len(t, p.Elements, 1)
	require.Equal(t, 1, p.Undecided)
	n, err := d.Since(t.Context(), "log", "", -1, 10, items)
	require.NoError(t, err)
	require.Equal(t, 1, n.Undecided)
	guard.decides.Store(true)
	p, err = d.Elements(t.Context(), "log", -1, nil, items)
	require.NoError(t, err)
	require.Len(t, p.Elements, 2)
	require.Zero(t, p.Undecided)
}

// However many elements are not decided, a reader with a cursor gets each that is decided in time.
func TestManyUndecidedElements(t *testing.T) {
	testkit.OneGoroutine(t)
	m, clock, guard := judged(t)
	defer func() { require.NoError(t, m.Close()) }()
	evil := m.other(t)
	now := m.n.Now().UnixMilli()
	for i := range int64(50) {
		long := int64(replicas.UndecidedFor / time.Millisecond)
		m.forge(t, evil, fmt.Sprintf("log/log\x00%016d", now-2*long-i), []byte(`{"data":{"w":"who"}}`))
	}
	want := map[int64]bool{}
	for i := range int64(100) {
		word := "a"
		if i%2 == 0 {
			word = "who"
		}
		m.element(t, now-1000+i, word)
		want[now-1000+i] = true
	}
	got, cursor := map[int64]bool{}, ""
	read := func() {
		for more := true; more; {
			n, err := m.Since(t.Context(), "log", cursor, -1, 7, nil)
			require.NoError(t, err)
			for _, e := range n.Elements {
				got[e.Time] = got[e.Time] || e.Time >= now-1000
			}
			cursor, more = n.Next, n.More
		}
	}
	for range 3 {
		read()
	}
	require.GreaterOrEqual(t, len(got), 30)
	require.Less(t, len(got), 100)
	guard.decides.Store(true)
	for range 10 {
		read()
	}
	for at := range want {
		require.True(t, got[at], at-now)
	}

	// What is never decided stops nobody for ever.
	guard.decides.Store(false)
	m.Forget()
	now = m.n.Now().UnixMilli()
	for i := range int64(50) {
		m.forge(t, evil, fmt.Sprintf("log/log\x00%016d", now+i), []byte(`{"data":{"w":"who"}}`))
	}
	m.element(t, now+100, "last")
	read()
	require.NotContains(t, got, now+100)
	clock.by.Store(int64(replicas.UndecidedFor + time.Minute))
	read()
	require.Contains(t, got, now+100)
}

// The content of many elements of one author may not have come: a reader with a cursor waits for
// it, for some time, and loses none of another author's.
func TestManyMissingElements(t *testing.T) {
	m, clock := withClock(t, t.TempDir())
	defer func() { require.NoError(t, m.Close()) }()
	evil, slow := m.granted(t), m.granted(t)
	now := m.n.Now().UnixMilli()
	key := func(i int64) string { return fmt.Sprintf("log/log\x00%016d", now-1000+i) }
	m.withhold(t, slow, key(0))
	for i := range int64(40) {
		m.withhold(t, evil, key(1+i))
	}
	m.element(t, now, "a")
	first, err := m.Since(t.Context(), "log", "", -1, 100, nil)
	require.NoError(t, err)
	require.Empty(t, first.Elements)
	clock.by.Store(int64(replicas.MissingFor + time.Second))
	n, err := m.Since(t.Context(), "log", first.Next, -1, 100, nil)
	require.NoError(t, err)
	require.Equal(t, []int64{now}, timesOf(n.Elements))
	require.True(t, replicas.Misses(n.Next, now-1000), "of the author with few")
}

// A log is not full of what does not count.
func TestJunkIsNoElement(t *testing.T) {
	m, clock, _ := judged(t)
	defer func() { require.NoError(t, m.Close()) }()
	evil := m.other(t)
	now := m.n.Now().UnixMilli()
	for i := range int64(20) {
		m.forge(t, evil, fmt.Sprintf("log/log\x00%016d", now-1000+i), []byte(`{"data":{"w":"no"}}`))
		m.forge(t, evil, fmt.Sprintf("log/log\x00x%d", i), []byte(`{"data":{"w":"a"}}`))
	}
	d, l := document.In(m, m.n.Now), document.Log{Field: "items", MaxItems: 10}
	add := func() error {
		_, err := d.Append(t.Context(), "log", value.NewObject(), nil, nil, l)
		require.NoError(t, m.Settle(t.Context()))
		return err
	}
	for range 10 {
		require.NoError(t, add())
	}
	var full *document.FullError
	require.ErrorAs(t, add(), &full)
	clock.by.Store(int64(time.Hour))
	require.ErrorAs(t, add(), &full)
}

// byServer is a weighing guard by whose rules one author is a server.
type byServer struct {
	weighing
	is replica.AuthorID
}

func (g *byServer) IsServer(a replica.AuthorID) bool { return a == g.is }

// However much that a server has taken from its callers does not count any more, as they have
// revoked their own certificates, what others have written there is read.
func TestCallersTireNobodyOfTheirServer(t *testing.T) {
	const junk = 40
	m, _, _ := judged(t)
	defer func() { require.NoError(t, m.Close()) }()
	server := m.other(t)
	require.NoError(t, m.Store.Close())
	m.reopen(t, replicas.Options{Guard: &byServer{is: server.Author()}})
	size := replicas.MostLookBytes / (junk / 2)
	refused := []byte(`{"data":{"s":"` + strings.Repeat("x", size) + `"}}`)
	now := m.n.Now().UnixMilli()
	var times []int64
	for i := range int64(junk) {
		m.forge(t, server, fmt.Sprintf("log/log\x00%016d", now-1000+i), refused)
		m.forge(t, server, fmt.Sprintf("log/log\x00%016d", now-100+i), []byte(`{"data":{"w":"a"}}`))
		times = append(times, now-100+i)
	}
	n, err := m.Since(t.Context(), "log", "", -1, 1000, nil)
	require.NoError(t, err)
	require.Equal(t, times, timesOf(n.Elements))
	require.Zero(t, n.Undecided)
	n, err = m.Since(t.Context(), "log", n.Next, -1, 1000, nil)
	require.NoError(t, err)
	require.Empty(t, n.Elements)
	all, undecided, err := m.Elements(t.Context(), "log", 0, math.MaxInt64, -1, nil)
	require.NoError(t, err)
	require.Equal(t, times, timesOf(all))
	require.Zero(t, undecided)
}

// An author who writes more that does not count than is looked at in a minute costs readers no more
// than that, and hides nothing of others'.
func TestTiringAuthor(t *testing.T) {
	testkit.OneGoroutine(t)
	const junk = 40
	m, clock, _ := judged(t)
	defer func() { require.NoError(t, m.Close()) }()
	guard := &weighing{}
	require.NoError(t, m.Store.Close())
	m.reopen(t, replicas.Options{Guard: guard})
	evil := m.other(t)
	now := m.n.Now().UnixMilli()
	m.element(t, now-1000, "a")
	size := replicas.MostLookBytes / (junk / 2)
	body := []byte(`{"data":{"s":"` + strings.Repeat("x", size) + `"}}`)
	for i := range int64(junk) {
		m.forge(t, evil, fmt.Sprintf("log/log\x00%016d", now-i), body)
	}
	read := func() {
		all, _, err := m.Elements(t.Context(), "log", -1, math.MaxInt64, 1, nil)
		require.NoError(t, err)
		require.Equal(t, []int64{now - 1000}, timesOf(all))
	}
	for range 3 {
		before := guard.bytes.Load()
		read()
		looked := guard.bytes.Load() - before
		require.LessOrEqual(t, looked, int64(replicas.MostLookBytes+2*size))
		read()
		n, err := m.Since(t.Context(), "log", "", -1, 100, nil)
		require.NoError(t, err)
		require.Equal(t, []int64{now - 1000}, timesOf(n.Elements))
		again := guard.bytes.Load() - before - looked
		require.Less(t, again, int64(size), "of what is known, or not looked at")
		clock.by.Add(int64(time.Minute))
	}
	m.element(t, m.n.Now().UnixMilli(), "b")
}
