package document_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/value"
)

// A time that lies ahead stops nobody else, and readers who go by times miss nothing.
func TestLogAhead(t *testing.T) {
	stores(t, func(t *testing.T, s store.Store) {
		c := newClock()
		d := document.In(s, c.now)
		l := document.Log{Field: "items", ChunkSize: 2}
		add := func(i int, at *int64) (document.Written, error) {
			return d.Append(t.Context(), "log", object(t, fmt.Sprintf(`{"i":%d}`, i)), at, nil, l)
		}
		shown := func(after int64) (all []string) {
			p, err := d.Elements(t.Context(), "log", after, nil, l)
			require.NoError(t, err)
			for _, e := range p.Elements {
				all = append(all, text(e.(*value.Object)))
			}
			return all
		}
		now := d.Now()
		_, err := add(0, ptr(now+299_000))
		require.NoError(t, err)
		require.Empty(t, shown(0))
		for i, at := range []int64{now, now + 1, now + 5} {
			w, err := add(1+i, &at)
			require.NoError(t, err)
			require.Equal(t, at, w.Time)
		}
		w, err := add(4, nil)
		require.NoError(t, err)
		require.Equal(t, now+6, w.Time)
		for _, at := range []int64{now + 6, now - 1, now + 299_000} {
			_, err = add(5, &at)
			require.ErrorIs(t, err, document.ErrNotMonotonic, "%d", at-now)
		}
		require.Len(t, shown(now), 3)
		p, err := d.Elements(t.Context(), "log", 0, ptr[int64](1), l)
		require.NoError(t, err)
		require.Equal(t, w.Time, p.Time)
		require.Equal(t, value.Hash(object(t, `{"n":4,"last":{"i":4}}`)), p.Hash)
		require.Len(t, p.Elements, 1)
		c.at = c.at.Add(299 * time.Second)
		require.Len(t, shown(now+6), 1)
		require.Len(t, shown(0), 5)
	})
}

// Whatever times writers name, who reads with the time of the last element as the checkpoint gets
// all of them, and so does who reads with cursors, each once.
func TestLogReaders(t *testing.T) {
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 3))
		c := newClock()
		d := document.In(store.NewMemory(), c.now)
		l := document.Log{Field: "items", ChunkSize: 1 + rnd.Int64N(4)}
		want := map[string]bool{}
		byTime, byCursor := map[string]bool{}, map[string]bool{}
		checkpoint, cursor := int64(0), ""
		read := func() {
			p, err := d.Elements(t.Context(), "log", checkpoint, nil, l)
			require.NoError(t, err)
			for _, e := range p.Elements {
				require.False(t, byTime[text(e.(*value.Object))])
				byTime[text(e.(*value.Object))] = true
				ts, _ := e.(*value.Object).Get("ts")
				require.Greater(t, int64(ts.(float64)), checkpoint)
				checkpoint = int64(ts.(float64))
			}
		}
		news := func() {
			for more := true; more; {
				n, err := d.Since(t.Context(), "log", cursor, 0, 3, l)
				require.NoError(t, err)
				require.LessOrEqual(t, len(n.Elements), 3)
				for _, e := range n.Elements {
					require.False(t, byCursor[text(e.(*value.Object))])
					byCursor[text(e.(*value.Object))] = true
				}
				cursor, more = n.Next, n.More
			}
		}
		for i := range 60 {
			c.at = c.at.Add(time.Duration(rnd.IntN(3000)) * time.Millisecond)
			var at *int64
			switch rnd.IntN(3) {
			case 0:
				at = ptr(d.Now() + rnd.Int64N(300_000))
			case 1:
				at = ptr(d.Now() - rnd.Int64N(3000))
			}
			data := fmt.Sprintf(`{"i":%d}`, i)
			w, err := d.Append(t.Context(), "log", object(t, data), at, nil, l)
			if at != nil && err != nil {
				require.ErrorIs(t, err, document.ErrNotMonotonic)
			} else {
				require.NoError(t, err)
				want[fmt.Sprintf(`{"ts":%d,"data":%s}`, w.Time, data)] = true
			}
			if rnd.IntN(2) == 0 {
				read()
			}
			if rnd.IntN(2) == 0 {
				news()
				require.Equal(t, want, byCursor, "seed %d", seed) // at once
			}
		}
		c.at = c.at.Add(time.Hour)
		read()
		news()
		require.Equal(t, want, byTime, "seed %d", seed)
		require.Equal(t, want, byCursor, "seed %d", seed)
	}
}

// A cursor of what is not there any more begins anew, and what is none is refused.
func TestCursor(t *testing.T) {
	s := store.NewMemory()
	d := document.In(s, newClock().now)
	l := document.Log{Field: "items", ChunkSize: 2}
	for i := range 5 {
		_, err := d.Append(t.Context(), "log", object(t, fmt.Sprintf(`{"i":%d}`, i)), nil, nil, l)
		require.NoError(t, err)
	}
	n, err := d.Since(t.Context(), "log", "", 0, 3, l)
	require.NoError(t, err)
	require.Equal(t, "AwAAAYvP5WgCAAAAAAAAAAEAAAGLz-VoAg", n.Next)
	former, err := d.Since(t.Context(), "log", "AgAAAYvP5WgCAAAAAAAAAAE", 0, 3, l)
	require.NoError(t, err)
	again, err := d.Since(t.Context(), "log", n.Next, 0, 3, l)
	require.NoError(t, err)
	require.Equal(t, again, former)
	for _, bad := range []string{
		"x", "AgAAAYvP5WgCAAAAAAAAAA", "AwAAAYvP5WgCAAAAAAAAAAE", "AgAAAYvP5WgCAAAAAAAAAAF",
		"AoAAAYvP5WgCAAAAAAAAAAE", n.Next + "=", "AgAAAYvP5WgC\nAAAAAAAAAAE", n.Next + "\r\n",
	} {
		_, err = d.Since(t.Context(), "log", bad, 0, 3, l)
		require.ErrorIs(t, err, store.ErrCursor, bad)
	}
	n, err = d.Since(t.Context(), "none", n.Next, 0, 3, l)
	require.NoError(t, err)
	require.Empty(t, n.Elements)
	inline := `{"v":1,"data":{"items":[{"ts":1,"data":{"i":0}},{"ts":2,"data":{"i":1}},{"ts":3,"data":{"i":2}}]},"ts":3,"hash":"h"}`
	require.NoError(
		t,
		s.Put(
			t.Context(), "log", &store.Object{Body: []byte(inline), Type: "application/json"},
			store.Whatever,
		),
	)
	n, err = d.Since(t.Context(), "log", "AgAAAYvP5WgCAAAAAAAAAAE", 1, 5, l)
	require.NoError(t, err)
	require.Len(t, n.Elements, 2)
	n, err = d.Since(t.Context(), "log", n.Next, 0, 5, l)
	require.NoError(t, err)
	require.Empty(t, n.Elements)
	for _, other := range []string{ // from a backup, with others added
		`{"v":1,"data":{"items":[{"ts":1,"data":{"i":0}},{"ts":7,"data":{"i":8}}]},"ts":7,"hash":"h"}`,
		`{"v":1,"data":{"items":[{"ts":1},{"ts":2},{"ts":7,"data":{}},{"ts":8}]},"ts":8,"hash":"h"}`,
	} {
		o := &store.Object{Body: []byte(other), Type: "application/json"}
		require.NoError(t, s.Put(t.Context(), "log", o, store.Whatever))
		was, err := d.Since(t.Context(), "log", n.Next, -1, 5, l)
		require.NoError(t, err)
		require.Greater(t, len(was.Elements), 1)
	}
}

func FuzzParsePosition(f *testing.F) {
	d := document.In(store.NewMemory(), nil)
	f.Add("AgAAAYvP5WgCAAAAAAAAAAE")
	f.Add("AwAAAYvP5WgCAAAAAAAAAAEAAAGLz-VoAg")
	f.Fuzz(func(t *testing.T, text string) {
		n, err := d.Since(t.Context(), "log", text, 0, 3, document.Log{Field: "items"})
		if err == nil {
			require.Equal(t, text, n.Next)
		}
	})
}

// The last elements are the latest by their times, also when one that lay ahead was written before.
func TestLastAfterOneAhead(t *testing.T) {
	stores(t, func(t *testing.T, s store.Store) {
		c := newClock()
		d := document.In(s, c.now)
		l := document.Log{Field: "items", ChunkSize: 2}
		now := d.Now()
		for i, at := range []int64{now - 5, now + 299_000, now, now + 1, now + 2} {
			_, err := d.Append(t.Context(), "log", object(t, fmt.Sprintf(`{"i":%d}`, i)), &at, nil, l)
			require.NoError(t, err)
		}
		c.at = c.at.Add(300 * time.Second)
		p, err := d.Elements(t.Context(), "log", 0, ptr(int64(1)), l)
		require.NoError(t, err)
		require.Len(t, p.Elements, 1)
		ts, _ := p.Elements[0].(*value.Object).Get("ts")
		require.Equal(t, float64(now+299_000), ts)
	})
}
