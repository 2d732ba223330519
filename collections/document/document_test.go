package document_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/value"
)

func object(t testing.TB, text string) *value.Object {
	o, err := value.ParseObject([]byte(text), value.MaxDepth)
	require.NoError(t, err, text)
	return o
}

func text(v any) string { return string(value.Append(nil, v)) }

// stores runs a test on each kind of store.
func stores(t *testing.T, f func(t *testing.T, s store.Store)) {
	t.Run("memory", func(t *testing.T) { f(t, store.NewMemory()) })
	t.Run("directory", func(t *testing.T) {
		s, err := store.OpenDirectory(filepath.Join(t.TempDir(), "d"))
		require.NoError(t, err)
		f(t, s)
	})
}

type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

func newClock() *clock { return &clock{time.UnixMilli(1_700_000_000_000)} }

func ptr[T any](v T) *T { return &v }

func TestPush(t *testing.T) {
	stores(t, func(t *testing.T, s store.Store) {
		c := newClock()
		d := document.In(s, c.now)
		ctx := t.Context()
		doc, err := d.Get(ctx, "notes/a")
		require.NoError(t, err)
		require.Nil(t, doc)
		_, err = d.Push(ctx, "notes/a", object(t, `{}`), ptr("abc"), nil, false)
		require.ErrorIs(t, err, document.ErrConflict)
		first, err := d.Push(
			ctx, "notes/a", object(t, `{"b":1,"a":{"x":1}}`), nil,
			&document.Author{Key: "k", Signature: "s"}, false,
		)
		require.NoError(t, err)
		require.Equal(t, value.Hash(object(t, `{"a":{"x":1},"b":1}`)), first.Hash)
		require.Equal(t, c.at.UnixMilli(), first.Time)
		for _, base := range []*string{nil, ptr(""), ptr("abc")} {
			_, err = d.Push(ctx, "notes/a", object(t, `{}`), base, nil, false)
			require.ErrorIs(t, err, document.ErrConflict)
		}
		c.at = c.at.Add(time.Second)
		second, err := d.Push(ctx, "notes/a", object(t, `{"b":1,"a":{"y":2}}`), &first.Hash, nil, false)
		require.NoError(t, err)
		doc, err = d.Get(ctx, "notes/a")
		require.NoError(t, err)
		require.Equal(t, `{"b":1,"a":{"y":2}}`, string(doc.Text()))
		require.Equal(t, second.Hash, doc.Hash)
		require.Nil(t, doc.Author)
		require.Equal(
			t, `{"b":1700000000000,"a":1700000001000}`, text(times(t, doc, `a.x`, 1_700_000_001_000)),
		)
		// The clock goes back; what is written later is later all the same.
		c.at = c.at.Add(-time.Hour)
		third, err := d.Push(ctx, "notes/a", object(t, `{}`), &second.Hash, nil, false)
		require.NoError(t, err)
		require.Greater(t, third.Time, second.Time)
		// What is no document is replaced by who knows of none.
		require.NoError(t, s.Put(ctx, "notes/a", &store.Object{Body: []byte("{")}, store.Whatever))
		_, err = d.Get(ctx, "notes/a")
		require.ErrorIs(t, err, document.ErrCorrupt)
		_, err = d.Push(ctx, "notes/a", object(t, `{}`), nil, nil, false)
		require.ErrorIs(t, err, document.ErrConflict)
		_, err = d.Push(ctx, "notes/a", object(t, `{}`), ptr(""), nil, false)
		require.NoError(t, err)
	})
}

// times returns the times of a document without the one at a path of two, which it checks.
func times(t *testing.T, d *document.Document, path string, want float64) any {
	o := d.Times.(*value.Object).Clone()
	v, _ := o.Get(path[:1])
	inner := v.(*value.Object)
	got, _ := inner.Get(path[2:])
	require.Equal(t, want, got)
	rest, _ := inner.Get("y")
	o.Set(path[:1], rest)
	return o
}

// A document of the published servers is read, and one of ours has what they read.
func TestStoredForm(t *testing.T) {
	theirs := `{"v":1,"data":{"b":[1],"a":"é"},"ts":1700000000000,"hash":"h","authorPubkey":"k","authorSignature":"s"}`
	d, err := document.Parse([]byte(theirs))
	require.NoError(t, err)
	require.Equal(t, theirs, string(d.Bytes()))
	next := document.Next(d, object(t, `{"b":[1],"c":{}}`), 1_700_000_000_005, nil, false)
	golden := `{"v":1,"data":{"b":[1],"c":{}},"ts":1700000000005,"hash":"` + next.Hash +
		`","times":{"b":1700000000000,"c":1700000000005,"a":1700000000005}}`
	require.Equal(t, golden, string(next.Bytes()))
	again, err := document.Parse(next.Bytes())
	require.NoError(t, err)
	require.Equal(t, golden, string(again.Bytes()))
	sealed := document.Next(
		next, object(t, `{"_encrypted":"x","_epoch":1}`), 1_700_000_000_006, nil, true,
	)
	require.Contains(t, string(sealed.Bytes()), `,"whole":true}`)
	for _, bad := range []string{
		"", "[]", `{"v":2}`, `{"times":"x"}`, `{"times":{"a":[1]}}`, `{"times":1e400}`,
	} {
		_, err := document.Parse([]byte(bad))
		require.ErrorIs(t, err, document.ErrCorrupt, bad)
	}
}

func TestMerge(t *testing.T) {
	base := document.New(object(t, `{"a":1,"b":{"x":1,"y":2},"l":[1]}`), 100, nil, false)
	next := func(text string, now int64) *document.Document {
		return document.Next(base, object(t, text), now, nil, false)
	}
	for _, x := range []struct{ name, one, two, want string }{
		{"different fields", `{"a":9,"b":{"x":1,"y":2},"l":[1]}`, `{"a":1,"b":{"x":1,"y":7},"l":[1],"n":1}`, `{"a":9,"b":{"x":1,"y":7},"l":[1],"n":1}`},
		{"the same field: the later", `{"a":9,"b":{"x":1,"y":2},"l":[1]}`, `{"a":8,"b":{"x":1,"y":2},"l":[1]}`, `{"a":8,"b":{"x":1,"y":2},"l":[1]}`},
		{"arrays are fields", `{"a":1,"b":{"x":1,"y":2},"l":[1,2]}`, `{"a":1,"b":{"x":1,"y":2},"l":[1,3]}`, `{"a":1,"b":{"x":1,"y":2},"l":[1,3]}`},
		{"deleted and left", `{"a":1,"b":{"x":1,"y":2}}`, `{"a":2,"b":{"x":1,"y":2},"l":[1]}`, `{"a":2,"b":{"x":1,"y":2}}`},
		{"deleted and written later", `{"a":1,"b":{"x":1,"y":2}}`, `{"a":1,"b":{"x":1,"y":2},"l":[5]}`, `{"a":1,"b":{"x":1,"y":2},"l":[5]}`},
		{"written and deleted later", `{"a":1,"b":{"x":1,"y":2},"l":[5]}`, `{"a":1,"b":{"x":1,"y":2}}`, `{"a":1,"b":{"x":1,"y":2}}`},
		{"object deleted, a member written later", `{"a":1,"l":[1]}`, `{"a":1,"b":{"x":5,"y":2},"l":[1]}`, `{"a":1,"b":{"x":5},"l":[1]}`},
		{"a member written, object deleted later", `{"a":1,"b":{"x":5,"y":2},"l":[1]}`, `{"a":1,"l":[1]}`, `{"a":1,"l":[1]}`},
		{"object becomes a field, a member written later", `{"a":1,"b":"s","l":[1]}`, `{"a":1,"b":{"x":1,"y":5},"l":[1]}`, `{"a":1,"b":{"y":5},"l":[1]}`},
		{"a member written, object becomes a field later", `{"a":1,"b":{"x":1,"y":5},"l":[1]}`, `{"a":1,"b":"s","l":[1]}`, `{"a":1,"b":"s","l":[1]}`},
		{"each deletes another member", `{"a":1,"b":{"x":1},"l":[1]}`, `{"a":1,"b":{"y":2},"l":[1]}`, `{"a":1,"b":{},"l":[1]}`},
		{"everything deleted", `{}`, `{"a":1,"b":{"x":1,"y":2},"l":[1],"n":1}`, `{"n":1}`},
	} {
		one, two := next(x.one, 200), next(x.two, 300)
		for _, all := range [][]*document.Document{
			{one, two}, {two, one}, {base, one, two}, {two, base, one}, {one, one, two},
		} {
			require.JSONEq(t, x.want, string(document.Merge(all).Text()), x.name)
		}
	}
	// At the same time: the same of both everywhere.
	one, two := next(`{"a":9}`, 200), next(`{"a":10}`, 200)
	require.Equal(
		t, document.Merge([]*document.Document{one, two}).Hash,
		document.Merge([]*document.Document{two, one}).Hash,
	)
	// What is encrypted is never mixed.
	one = document.Next(nil, object(t, `{"_encrypted":"x","_epoch":1}`), 200, nil, true)
	two = document.Next(nil, object(t, `{"_encrypted":"y","_epoch":2}`), 300, nil, true)
	require.Equal(t, two.Hash, document.Merge([]*document.Document{two, one}).Hash)
	// A proof is kept if it is one of what stands.
	one = document.New(object(t, `{"a":1}`), 200, &document.Author{Key: "k", Signature: "s"}, false)
	two = document.New(object(t, `{"a":1}`), 300, nil, false)
	require.Equal(t, "k", document.Merge([]*document.Document{two, one}).Author.Key)
}

// randomData returns data with few names, so that much of it meets.
func randomData(rnd *rand.Rand, depth int) *value.Object {
	o := &value.Object{}
	for range rnd.IntN(4) {
		k := string("abc"[rnd.IntN(3)])
		switch rnd.IntN(5) {
		case 0:
			if depth > 0 {
				o.Set(k, randomData(rnd, depth-1))
			}
		case 1:
			o.Set(k, value.Array{float64(rnd.IntN(3))})
		case 2:
			o.Set(k, nil)
		default:
			o.Set(k, float64(rnd.IntN(4)))
		}
	}
	return o
}

// Writers each keep a version of a document. They write on what they know, with clocks that differ,
// and learn of the versions of others in any order. When all know all, they see the same; and
// whoever wrote with knowledge of all versions stands for them.
func TestVersionsConverge(t *testing.T) {
	for seed := range uint64(400) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		writers := 2 + rnd.IntN(3)
		// by writer: the newest version of each that it knows
		known := make([]map[int]*document.Document, writers)
		for i := range known {
			known[i] = map[int]*document.Document{}
		}
		merged := func(i int) *document.Document {
			var all []*document.Document
			for _, j := range rnd.Perm(writers) {
				if d := known[i][j]; d != nil {
					all = append(all, d)
				}
			}
			if len(all) == 0 {
				return nil
			}
			return document.Merge(all)
		}
		skew := make([]int64, writers)
		for i := range skew {
			skew[i] = int64(rnd.IntN(20))
		}
		learn := func(i, j int) { // i learns of what j knows
			for k, d := range known[j] {
				if mine := known[i][k]; mine == nil || mine.Time < d.Time {
					known[i][k] = d
				}
			}
		}
		for now := range int64(40) {
			i := rnd.IntN(writers)
			if rnd.IntN(2) == 0 {
				learn(i, rnd.IntN(writers))
				continue
			}
			old := merged(i)
			data := randomData(rnd, 2)
			if old != nil && rnd.IntN(2) == 0 { // change a little of what is there
				data = value.Merge(old.Data, data)
			}
			known[i][i] = document.Next(old, data, 1000+now+skew[i], nil, false)
			after := merged(i)
			require.Equal(t, value.Hash(data), after.Hash, "seed %d: who writes sees what it wrote", seed)
			if stored, err := document.Parse(known[i][i].Bytes()); true {
				require.NoError(t, err)
				require.Equal(t, known[i][i].Bytes(), stored.Bytes())
			}
		}
		for range 2 {
			for i := range writers {
				for j := range writers {
					learn(i, j)
				}
			}
		}
		want := merged(0)
		for i := range writers {
			got := merged(i)
			if want != nil {
				require.Equal(t, want.Hash, got.Hash, "seed %d", seed)
				require.Equal(t, value.Hash(got.Data), got.Hash)
			}
		}
	}
}

func TestList(t *testing.T) {
	stores(t, func(t *testing.T, s store.Store) {
		d := document.In(s, newClock().now)
		ctx := t.Context()
		for i := range 25 {
			_, err := d.Push(ctx, fmt.Sprintf("chats/x/%02d", i), object(t, `{}`), nil, nil, false)
			require.NoError(t, err)
		}
		for i := range 30 { // a log between them, in many chunks
			_, err := d.Append(
				ctx, "chats/x/05log", object(t, fmt.Sprintf(`{"i":%d}`, i)), nil, nil,
				document.Log{Field: "items", ChunkSize: 2},
			)
			require.NoError(t, err)
		}
		var all []string
		for after, more := "", true; more; {
			var items []string
			var err error
			items, more, err = d.List(ctx, "chats/x/", after, 7)
			require.NoError(t, err)
			require.LessOrEqual(t, len(items), 7)
			all = append(all, items...)
			after = all[len(all)-1]
		}
		require.Len(t, all, 26)
		require.Equal(t, []string{"05", "05log", "06"}, all[5:8])
		items, more, err := d.List(ctx, "chats/y/", "", 7)
		require.NoError(t, err)
		require.Empty(t, items)
		require.False(t, more)
	})
}

func TestLog(t *testing.T) {
	stores(t, func(t *testing.T, s store.Store) {
		c := newClock()
		d := document.In(s, c.now)
		ctx := t.Context()
		for _, chunk := range []int64{1, 3, 1000} {
			key := fmt.Sprintf("log%d", chunk)
			l := document.Log{Field: "items", ChunkSize: chunk, MaxItems: 20}
			p, err := d.Elements(ctx, key, 0, nil, l)
			require.NoError(t, err)
			require.Empty(t, p.Elements)
			require.Empty(t, p.Hash)
			var at []int64
			for i := range 10 {
				data := object(t, fmt.Sprintf(`{"i":%d}`, i))
				w, err := d.Append(ctx, key, data, nil, &document.Author{Key: "k", Signature: fmt.Sprint(i)}, l)
				require.NoError(t, err)
				require.Equal(t, value.Hash(object(t, fmt.Sprintf(`{"n":%d,"last":{"i":%d}}`, i+1, i))), w.Hash)
				at = append(at, w.Time)
				p, err := d.Elements(ctx, key, 0, nil, l)
				require.NoError(t, err)
				require.Equal(t, w.Hash, p.Hash)
				require.Equal(t, w.Time, p.Time)
				require.Len(t, p.Elements, i+1)
			}
			require.IsIncreasing(t, at)
			for _, x := range []struct {
				after int64
				limit *int64
				from  int
				to    int
			}{
				{0, nil, 0, 10}, {at[3], nil, 4, 10}, {at[9], nil, 10, 10}, {at[0] - 1, nil, 0, 10},
				{0, ptr[int64](4), 6, 10}, {0, ptr[int64](0), 10, 10}, {0, ptr[int64](99), 0, 10},
				{at[2], ptr[int64](3), 7, 10}, {at[8], ptr[int64](3), 9, 10},
			} {
				p, err := d.Elements(ctx, key, x.after, x.limit, l)
				require.NoError(t, err)
				var got []string
				for _, e := range p.Elements {
					got = append(got, text(e))
				}
				var want []string
				for i := x.from; i < x.to; i++ {
					want = append(
						want,
						fmt.Sprintf(
							`{"ts":%d,"data":{"i":%d},"authorPubkey":"k","authorSignature":"%d"}`, at[i], i, i,
						),
					)
				}
				require.Equal(t, want, got)
			}
			_, err = d.Append(ctx, key, object(t, `{}`), &at[9], nil, l)
			require.ErrorIs(t, err, document.ErrNotMonotonic)
			w, err := d.Append(ctx, key, object(t, `{}`), ptr(at[9]+100_000), nil, l)
			require.NoError(t, err)
			require.Equal(t, at[9]+100_000, w.Time)
			w, err = d.Append(ctx, key, object(t, `{}`), nil, nil, l)
			require.NoError(t, err)
			require.Equal(t, at[9]+1, w.Time)
			l.MaxItems = 12
			_, err = d.Append(ctx, key, object(t, `{}`), nil, nil, l)
			var full *document.FullError
			require.ErrorAs(t, err, &full)
			require.EqualValues(t, 12, full.Limit)
		}
	})
}

// A log that a published server keeps in one document is gone on with, as is one that it keeps in
// chunks.
func TestLogOfAnotherServer(t *testing.T) {
	s := store.NewMemory()
	d := document.In(s, newClock().now)
	ctx := t.Context()
	inline := `{"v":1,"data":{"title":"t","items":[{"ts":1,"data":{"i":0}},{"ts":2,"data":{"i":1}},{"ts":3,"data":{"i":2}},{"ts":4,"data":{"i":3}},{"ts":5,"data":{"i":4}}]},"ts":5,"hash":"h"}`
	require.NoError(t, s.Put(ctx, "a", &store.Object{Body: []byte(inline)}, store.Whatever))
	l := document.Log{Field: "items", ChunkSize: 2}
	p, err := d.Elements(ctx, "a", 2, nil, l)
	require.NoError(t, err)
	require.Len(t, p.Elements, 3)
	w, err := d.Append(ctx, "a", object(t, `{"i":5}`), ptr[int64](9), nil, l)
	require.NoError(t, err)
	p, err = d.Elements(ctx, "a", 0, nil, l)
	require.NoError(t, err)
	require.Len(t, p.Elements, 6)
	require.Equal(t, value.Hash(object(t, `{"n":6,"last":{"i":5}}`)), w.Hash)
	require.Equal(t, `{"title":"t"}`, text(p.Rest))
	keys, err := s.List(ctx, "", "", 10)
	require.NoError(t, err)
	require.Equal(t, []string{"a", "a!seg/0000000000000001", "a!seg/0000000000000009"}, keys)
}

// failing is a store of which one of the next writes fails, after or before it has been done.
type failing struct {
	store.Store
	mu    sync.Mutex
	after int
	done  bool
}

var errFailed = errors.New("the store has failed")

func (f *failing) Put(ctx context.Context, key string, o *store.Object, c store.Condition) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.after--; f.after == 0 {
		if f.done {
			if err := f.Store.Put(ctx, key, o, c); err != nil {
				return err
			}
		}
		return errFailed
	}
	return f.Store.Put(ctx, key, o, c)
}

// An append that fails half-way has not happened, and may be tried again.
func TestStoreFailsHalfWay(t *testing.T) {
	for after := 1; after <= 2; after++ {
		for length := range 5 {
			f := &failing{Store: store.NewMemory()}
			c := newClock()
			d := document.In(f, c.now)
			ctx := t.Context()
			l := document.Log{Field: "items", ChunkSize: 2}
			for i := range length {
				_, err := d.Append(ctx, "log", object(t, fmt.Sprintf(`{"i":%d}`, i)), nil, nil, l)
				require.NoError(t, err)
			}
			f.after = after
			_, err := d.Append(ctx, "log", object(t, `{"i":"lost"}`), nil, nil, l)
			require.ErrorIs(t, err, errFailed)
			p, err := d.Elements(ctx, "log", 0, nil, l)
			require.NoError(t, err)
			require.Len(t, p.Elements, length)
			c.at = c.at.Add(time.Millisecond)
			for i := length; i < length+4; i++ {
				w, err := d.Append(ctx, "log", object(t, fmt.Sprintf(`{"i":%d}`, i)), nil, nil, l)
				require.NoError(t, err)
				p, err = d.Elements(ctx, "log", 0, nil, l)
				require.NoError(t, err)
				require.Len(t, p.Elements, i+1)
				require.Equal(t, w.Hash, p.Hash)
				for j, e := range p.Elements {
					v, _ := e.(*value.Object).Get("data")
					require.Equal(t, fmt.Sprintf(`{"i":%d}`, j), text(v))
				}
			}
		}
	}
}

// Of pushes on the same version one wins; of appends all do, in an order.
func TestWritersTakeTurns(t *testing.T) {
	stores(t, func(t *testing.T, s store.Store) {
		d := document.In(s, nil)
		other := document.In(s, nil) // as at another server
		ctx := t.Context()
		var wg sync.WaitGroup
		var mu sync.Mutex
		won := 0
		for i := range 8 {
			wg.Go(func() {
				from := []*document.Documents{d, other}[i%2]
				if _, err := from.Push(
					ctx, "doc", object(t, fmt.Sprintf(`{"i":%d}`, i)), nil, nil, false,
				); err == nil {
					mu.Lock()
					won++
					mu.Unlock()
				} else if !errors.Is(err, document.ErrConflict) {
					t.Error(err)
				}
				for range 5 {
					if _, err := d.Append(
						ctx, "log", object(t, `{}`), nil, nil, document.Log{Field: "items", ChunkSize: 3},
					); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		require.Equal(t, 1, won)
		p, err := d.Elements(ctx, "log", 0, nil, document.Log{Field: "items"})
		require.NoError(t, err)
		require.Len(t, p.Elements, 40)
	})
}

func FuzzParse(f *testing.F) {
	f.Add(
		[]byte(
			`{"v":1,"data":{"a":{"b":1}},"ts":1700000000000,"hash":"h","times":{"a":{"b":5,"c":6}},"whole":false,"seg":true,"n":1,"sealedN":0,"tailKey":"k","chunkSize":5}`,
		),
	)
	f.Add(
		[]byte(
			`{"ts":9,"seg":true,"n":3,"ends":{"n":3,"shown":[5,4],"ahead":[[4,4],[9,6]],"more":0,"before":-1}}`,
		),
	)
	f.Add([]byte(`{"data":{"a":{}},"times":{"a":{"x":{"y":1}}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := document.Parse(b)
		if err != nil {
			return
		}
		again, err := document.Parse(d.Bytes())
		require.NoError(t, err)
		require.Equal(t, d.Bytes(), again.Bytes())
		next := document.Next(d, value.NewObject(value.Member{Key: "a", Value: 1.0}), 5, nil, false)
		one := document.Merge([]*document.Document{d, next})
		require.Equal(t, one.Hash, document.Merge([]*document.Document{next, d}).Hash)
	})
}
