package document_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/value"
	"github.com/skerry-sync/skerry/internal/testkit"
)

// counting is a store that counts what is read.
type counting struct {
	store.Store
	reads int
}

func (c *counting) Get(ctx context.Context, key string) (*store.Object, error) {
	c.reads++
	return c.Store.Get(ctx, key)
}

// One element that lies ahead, renewed when its time has come, does not make appends and pulls read
// more the longer others go on.
func TestAheadCostsNoMoreReads(t *testing.T) {
	s := &counting{Store: store.NewMemory()}
	c := newClock()
	d := document.In(s, c.now)
	l := document.Log{Field: "items", ChunkSize: 10}
	add := func(at *int64) {
		_, err := d.Append(t.Context(), "log", object(t, `{"i":1}`), at, nil, l)
		require.NoError(t, err)
	}
	cost := func(do func()) int {
		s.reads = 0
		do()
		return s.reads
	}
	for i := range 1200 {
		if i%300 == 0 {
			add(ptr(d.Now() + 299_000))
		}
		c.at = c.at.Add(time.Second)
		// The head, the last chunk, and the head again where an append begins a chunk.
		require.LessOrEqual(t, cost(func() { add(nil) }), 3, "append %d", i)
		for name, x := range map[string]struct {
			after int64
			limit *int64
		}{
			"the last":     {0, ptr[int64](1)},
			"the new ones": {d.Now(), nil},
			"the last few": {d.Now() - 2000, nil},
		} {
			n := cost(func() {
				_, err := d.Elements(t.Context(), "log", x.after, x.limit, l)
				require.NoError(t, err)
			})
			require.LessOrEqual(t, n, 5, "%s, after append %d", name, i)
		}
	}
}

// model is a log as it should be.
type model []modelled

type modelled struct {
	time int64
	data string
}

// shown returns what of the log is shown, in the order of times.
func (m model) shown(until int64) model {
	shown := slices.Clone(m)
	shown = slices.DeleteFunc(shown, func(e modelled) bool { return e.time > until })
	slices.SortFunc(shown, func(a, b modelled) int { return int(a.time - b.time) })
	return shown
}

// Whatever times writers name, and whether or not the head tells of the log's ends, appends and
// pulls go by the elements that are there.
func TestLogIsItsElements(t *testing.T) {
	testkit.OneGoroutine(t)
	for seed := range uint64(30) {
		rnd := rand.New(rand.NewPCG(seed, 19))
		c := newClock()
		s := store.NewMemory()
		d := document.In(s, c.now)
		l := document.Log{Field: "items", ChunkSize: 1 + rnd.Int64N(5)}
		var all model
		for i := range 120 {
			c.at = c.at.Add(time.Duration(rnd.IntN(3000)) * time.Millisecond)
			now := d.Now()
			shown := all.shown(now + 1000)
			last := int64(-1)
			if len(shown) > 0 {
				last = shown[len(shown)-1].time
			}
			var at *int64
			switch rnd.IntN(4) {
			case 0:
				at = ptr(now + rnd.Int64N(20_000))
			case 1:
				at = ptr(now + rnd.Int64N(4)*500)
			}
			data := fmt.Sprintf(`{"i":%d}`, i)
			w, err := d.Append(t.Context(), "log", object(t, data), at, nil, l)
			there := func(e modelled) bool { return e.time == *at }
			if at != nil && (*at <= last || slices.ContainsFunc(all, there)) {
				require.ErrorIs(t, err, document.ErrNotMonotonic, "seed %d, %d", seed, i)
			} else {
				require.NoError(t, err, "seed %d, %d", seed, i)
				require.Greater(t, w.Time, last)
				all = append(all, modelled{w.Time, data})
			}
			if rnd.IntN(10) == 0 {
				forgetEnds(t, s, "log")
			}
			shown = all.shown(now + 1000)
			after := int64(0)
			if rnd.IntN(3) > 0 {
				after = now - rnd.Int64N(60_000) + 2000
			}
			var limit *int64
			if rnd.IntN(2) == 0 {
				limit = ptr(rnd.Int64N(8))
			}
			p, err := d.Elements(t.Context(), "log", after, limit, l)
			require.NoError(t, err)
			require.EqualValues(t, len(shown), p.Length)
			wanted := slices.DeleteFunc(
				slices.Clone(shown), func(e modelled) bool { return after > 0 && e.time <= after },
			)
			if limit != nil {
				wanted = wanted[max(0, len(wanted)-int(*limit)):]
			}
			require.Len(t, p.Elements, len(wanted), "seed %d, %d", seed, i)
			for j, e := range wanted {
				require.Equal(
					t, fmt.Sprintf(`{"ts":%d,"data":%s}`, e.time, e.data), text(p.Elements[j]),
					"seed %d, %d", seed, i,
				)
			}
			if len(shown) < len(all) { // otherwise it is of the last that was added
				last := modelled{-1, "null"}
				if len(shown) > 0 {
					last = shown[len(shown)-1]
				}
				require.Equal(t, last.data, text(p.Last))
				require.Equal(t, last.time, p.Time)
			}
		}
	}
}

// forgetEnds leaves a log as a server does that does not know of ends.
func forgetEnds(t *testing.T, s store.Store, key string) {
	o, err := s.Get(t.Context(), key)
	require.NoError(t, err)
	head := object(t, string(o.Body))
	head.Delete("ends")
	require.NoError(
		t, s.Put(t.Context(), key, &store.Object{Body: value.Append(nil, head)}, store.Whatever),
	)
}

// More elements may lie ahead than a head names.
func TestMoreAheadThanAreNamed(t *testing.T) {
	testkit.OneGoroutine(t)
	c := newClock()
	s := store.NewMemory()
	d := document.In(s, c.now)
	l := document.Log{Field: "items", ChunkSize: 7}
	now := d.Now()
	var all model
	add := func(at int64) error {
		_, err := d.Append(t.Context(), "log", object(t, `{}`), &at, nil, l)
		if err == nil {
			all = append(all, modelled{at, ""})
		}
		return err
	}
	for i := range int64(1100) { // from 200 s to 91 s ahead
		require.NoError(t, add(now+200_000-100*i))
	}
	require.NoError(t, add(now))
	require.ErrorIs(t, add(now+200_000), document.ErrNotMonotonic)
	require.ErrorIs(t, add(now+100_000), document.ErrNotMonotonic)
	require.NoError(t, add(now+100_001))
	require.NoError(t, add(now+250_000))
	require.ErrorIs(t, add(now+240_000), document.ErrNotMonotonic, "there might be one")
	o, err := s.Get(t.Context(), "log")
	require.NoError(t, err)
	require.Less(t, len(o.Body), 64<<10)
	shown := func() {
		p, err := d.Elements(t.Context(), "log", 0, nil, l)
		require.NoError(t, err)
		want := len(all.shown(d.Now() + 1000))
		require.Len(t, p.Elements, want)
		require.EqualValues(t, want, p.Length)
	}
	shown()
	for _, seconds := range []time.Duration{95, 100, 188, 191, 198, 220, 260} {
		c.at = time.UnixMilli(now).Add(seconds * time.Second)
		shown()
		if err := add(d.Now() + 1001); err != nil { // which lies ahead, and may be one of those
			require.ErrorIs(t, err, document.ErrNotMonotonic)
		}
		shown()
		c.at = c.at.Add(time.Second)
		shown()
		w, err := d.Append(t.Context(), "log", object(t, `{}`), nil, nil, l)
		require.NoError(t, err)
		all = append(all, modelled{w.Time, ""})
		shown()
	}
}

// A server whose clock is a little behind shows what another has shown; one whose clock was far
// ahead and is right again does not hold the log up.
func TestClocksDiffer(t *testing.T) {
	s := store.NewMemory()
	here, there := newClock(), newClock()
	d, other := document.In(s, here.now), document.In(s, there.now)
	l := document.Log{Field: "items", ChunkSize: 2}
	add := func(d *document.Documents, i int, at *int64) (document.Written, error) {
		return d.Append(t.Context(), "log", object(t, fmt.Sprintf(`{"i":%d}`, i)), at, nil, l)
	}
	there.at = here.at.Add(10 * time.Second)
	w, err := add(other, 0, ptr(other.Now()))
	require.NoError(t, err)
	p, err := d.Elements(t.Context(), "log", 0, nil, l)
	require.NoError(t, err)
	require.Len(t, p.Elements, 1)
	next, err := add(d, 1, nil)
	require.NoError(t, err)
	require.Equal(t, w.Time+1, next.Time)

	there.at = here.at.Add(365 * 24 * time.Hour)
	_, err = add(other, 2, nil)
	require.NoError(t, err)
	here.at = here.at.Add(time.Minute)
	p, err = d.Elements(t.Context(), "log", 0, nil, l)
	require.NoError(t, err)
	require.Len(t, p.Elements, 2)
	w, err = add(d, 3, nil)
	require.NoError(t, err)
	require.Equal(t, d.Now(), w.Time)
	p, err = d.Elements(t.Context(), "log", 0, nil, l)
	require.NoError(t, err)
	require.Len(t, p.Elements, 3)
	require.Equal(t, value.Hash(object(t, `{"n":3,"last":{"i":3}}`)), p.Hash)
}

// What a head says of the ends of its log is of this form, and what cannot be so is not heeded.
func TestEndsForm(t *testing.T) {
	s := store.NewMemory()
	d := document.In(s, newClock().now)
	l := document.Log{Field: "items", ChunkSize: 2}
	for i, at := range []int64{-5, 250_000, 0} {
		_, err := d.Append(
			t.Context(), "log", object(t, fmt.Sprintf(`{"i":%d}`, i)), ptr(d.Now()+at), nil, l,
		)
		require.NoError(t, err)
	}
	o, err := s.Get(t.Context(), "log")
	require.NoError(t, err)
	golden := `{"v":1,"data":{},"ts":1700000250000,"hash":"` + document.LogHash(
		3, object(t, `{"i":2}`),
	) +
		`","seg":true,"n":3,"sealedN":2,"chunkSize":2,"tailKey":"log!seg/0001700000250001",` +
		`"ends":{"n":3,"shown":[1700000000000,1700000250001],` +
		`"ahead":[[1700000250000,1699999999995]],"more":0,"before":-1}}`
	require.Equal(t, golden, string(o.Body))
	kept := func(ends string) bool {
		i := strings.Index(golden, `"ends":`)
		doc, err := document.Parse([]byte(golden[:i] + `"ends":` + ends + "}"))
		require.NoError(t, err)
		return strings.Contains(string(doc.Bytes()), `"ends"`)
	}
	require.True(t, kept(`{"n":3,"shown":[],"ahead":[],"more":0,"before":0}`))
	for _, bad := range []string{
		"1", "[]", `{"n":3}`, `{"n":2,"shown":[],"ahead":[],"more":0,"before":0}`,
		`{"n":3,"shown":[1],"ahead":[],"more":0,"before":0}`,
		`{"n":3,"shown":[1,-1],"ahead":[],"more":0,"before":0}`,
		`{"n":3,"shown":[1.5,1],"ahead":[],"more":0,"before":0}`,
		`{"n":3,"shown":[1800000000000,1],"ahead":[],"more":0,"before":0}`,
		`{"n":3,"shown":[],"ahead":[[2,1],[1,1]],"more":0,"before":0}`,
		`{"n":3,"shown":[],"ahead":[[1800000000000,1]],"more":0,"before":0}`,
		`{"n":3,"shown":[],"ahead":[],"more":1,"before":0}`,
		`{"n":3,"shown":[],"ahead":[[1,1]],"more":4,"before":0}`,
		`{"n":3,"shown":[],"ahead":[[1,1]],"more":-1,"before":0}`,
		`{"n":3,"shown":[],"ahead":[],"more":0,"before":-2}`,
		`{"n":3,"shown":[],"ahead":[` + strings.Repeat("[1,1],", 1000) + `[1,1]],"more":0,"before":0}`,
	} {
		require.False(t, kept(bad), bad[:min(len(bad), 80)])
	}
}
