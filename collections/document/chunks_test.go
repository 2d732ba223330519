package document_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/value"
)

// forestalled is a store of which one of the next writes is done by and by.
type forestalled struct {
	store.Store
	next   int    // how many writes there are until that one
	before func() // what others do before it
	again  func() // unless nil, its answer is lost, others do this, and it is sent again
}

func (f *forestalled) Put(
	ctx context.Context, key string, o *store.Object, if_ store.Condition,
) error {
	if f.next--; f.next != 0 {
		return f.Store.Put(ctx, key, o, if_)
	}
	f.before()
	if f.again == nil {
		return f.Store.Put(ctx, key, o, if_)
	}
	_ = f.Store.Put(ctx, key, o, if_)
	f.again()
	return f.Store.Put(ctx, key, o, if_)
}

// maxPuts is how many writes an append has at most: of the turn, of the full chunk, of the name of
// the next one, of that chunk, and of the head.
const maxPuts = 5

// texts returns the elements of a log, each of which has to be there once.
func texts(t *testing.T, s store.Store, l document.Log) map[string]bool {
	c := newClock()
	c.at = c.at.Add(time.Hour)
	p, err := document.In(s, c.now).Elements(t.Context(), "log", 0, nil, l)
	require.NoError(t, err)
	require.EqualValues(t, len(p.Elements), p.Length)
	all := map[string]bool{}
	for _, e := range p.Elements {
		v, _ := e.(*value.Object).Get("data")
		require.False(t, all[text(v)], "%s is there twice", text(v))
		all[text(v)] = true
	}
	return all
}

// Whatever another server adds between two writes of an append, and whichever clock is ahead, each
// element is there once. So it is if the answer to a write is lost, and the write is sent again.
func TestAnotherServerAddsMeanwhile(t *testing.T) {
	for length := range 5 {
		for at := range maxPuts {
			for _, ahead := range []time.Duration{-5, 0, 5} {
				for others := range 4 {
					for _, answer := range []string{"comes", "is lost"} {
						name := fmt.Sprintf(
							"%d elements, clock %+d ms, %d more before write %d, whose answer %s",
							length, ahead, others, at+1, answer,
						)
						t.Run(name, func(t *testing.T) {
							meanwhile(t, length, at+1, others, ahead*time.Millisecond, answer == "is lost")
						})
					}
				}
			}
		}
	}
}

func meanwhile(t *testing.T, length, at, others int, ahead time.Duration, lost bool) {
	f := &forestalled{Store: store.NewMemory()}
	here, there := newClock(), newClock()
	d, other := document.In(f, here.now), document.In(f.Store, there.now)
	l := document.Log{Field: "items", ChunkSize: 2}
	want := map[string]bool{}
	add := func(d *document.Documents, data string) {
		_, err := d.Append(t.Context(), "log", object(t, data), nil, nil, l)
		require.NoError(t, err)
		want[data] = true
	}
	for i := range length {
		add(other, fmt.Sprintf(`{"i":%d}`, i))
	}
	there.at = there.at.Add(ahead)
	rest := func() {
		for i := range others {
			add(other, fmt.Sprintf(`{"i":"there %d"}`, i))
		}
	}
	f.next, f.before = at, rest
	if lost {
		f.before, f.again = func() {}, rest
	}
	_, err := d.Append(t.Context(), "log", object(t, `{"i":"here"}`), nil, nil, l)
	require.NoError(t, err)
	want[`{"i":"here"}`] = true
	add(other, `{"i":"later"}`)
	require.Equal(t, want, texts(t, f, l))
}

// Two servers add the same element at the same time. If its writer did not name the time, these are
// two, of which one is there: the other server must not acknowledge it.
func TestTwoServersAddTheSame(t *testing.T) {
	for _, given := range []bool{false, true} {
		f := &forestalled{Store: store.NewMemory()}
		d, other := document.In(f, newClock().now), document.In(f.Store, newClock().now)
		l := document.Log{Field: "items", ChunkSize: 9}
		add := func(d *document.Documents) error {
			var at *int64
			if given {
				at = ptr(d.Now() + 5)
			}
			_, err := d.Append(t.Context(), "log", object(t, `{}`), at, nil, l)
			return err
		}
		_, err := d.Append(t.Context(), "log", object(t, `{"i":0}`), nil, nil, l)
		require.NoError(t, err)
		f.next = 2 // of the head; its chunk is there
		f.before = func() { require.NoError(t, add(other)) }
		if err := add(d); given { // one who asks at two servers has it added once
			require.NoError(t, err)
		} else {
			require.ErrorContains(t, err, "does not tell")
		}
		require.Len(t, texts(t, f, l), 2)
	}
}

// What the head does not count of a chunk is not there, also when the chunk is not the last any
// more.
func TestUncountedInFullChunk(t *testing.T) {
	s := store.NewMemory()
	d := document.In(s, newClock().now)
	for key, body := range map[string]string{
		"log": `{"seg":true,"n":2,"sealedN":0,"chunkSize":2,"ts":2,"tailKey":"log!seg/0000000000000001"}`,
		"log!seg/0000000000000001": `[{"ts":1,"data":{"i":1}},{"ts":2,"data":{"i":2}},` +
			`{"ts":3,"data":{"i":"lost"}}]`,
	} {
		o := &store.Object{Body: []byte(body)}
		require.NoError(t, s.Put(t.Context(), key, o, store.Absent))
	}
	l := document.Log{Field: "items", ChunkSize: 2}
	_, err := d.Append(t.Context(), "log", object(t, `{"i":4}`), nil, nil, l)
	require.NoError(t, err)
	want := map[string]bool{`{"i":1}`: true, `{"i":2}`: true, `{"i":4}`: true}
	require.Equal(t, want, texts(t, s, l))
}

// Another size of chunks holds for those that are begun from then on: servers of one log that have
// different sizes agree when a chunk is full.
func TestSizeOfNextChunk(t *testing.T) {
	s := store.NewMemory()
	d := document.In(s, newClock().now)
	add := func(size int64) (keys []string) {
		l := document.Log{Field: "items", ChunkSize: size}
		_, err := d.Append(t.Context(), "log", object(t, `{}`), nil, nil, l)
		require.NoError(t, err)
		keys, err = s.List(t.Context(), "log!", "", 10)
		require.NoError(t, err)
		return keys
	}
	for range 3 {
		require.Len(t, add(3), 1)
		require.Len(t, add(1), 1)
		require.Len(t, add(1), 1)
		for _, k := range add(1) {
			require.NoError(t, s.Delete(t.Context(), k))
		}
		require.NoError(t, s.Delete(t.Context(), "log"))
	}
}

// The last element is known also when a chunk has just been begun after it.
func TestLastBeforeANewChunk(t *testing.T) {
	f := &failing{Store: store.NewMemory()}
	d := document.In(f, newClock().now)
	l := document.Log{Field: "items", ChunkSize: 2}
	add := func(i int) error {
		_, err := d.Append(t.Context(), "log", object(t, fmt.Sprintf(`{"i":%d}`, i)), nil, nil, l)
		return err
	}
	for i := range 2 {
		require.NoError(t, add(i))
	}
	f.after = 2
	require.ErrorIs(t, add(2), errFailed)
	p, err := d.Elements(t.Context(), "log", 0, nil, l)
	require.NoError(t, err)
	require.Len(t, p.Elements, 2)
	require.Equal(t, `{"i":1}`, text(p.Last))
}

// A push whose answer is lost, and that is sent again, is no conflict with itself.
func TestPushSentAgain(t *testing.T) {
	f := &forestalled{Store: store.NewMemory(), before: func() {}}
	d := document.In(f, newClock().now)
	f.next, f.again = 1, func() {}
	w, err := d.Push(t.Context(), "doc", object(t, `{"i":1}`), nil, nil, false)
	require.NoError(t, err)
	f.next = 1
	w, err = d.Push(t.Context(), "doc", object(t, `{"i":2}`), &w.Hash, nil, false)
	require.NoError(t, err)
	f.next, f.again = 1, func() {
		other := document.In(f.Store, newClock().now)
		base := value.Hash(object(t, `{"i":3}`))
		_, err := other.Push(t.Context(), "doc", object(t, `{"i":4}`), &base, nil, false)
		require.NoError(t, err)
	}
	_, err = d.Push(t.Context(), "doc", object(t, `{"i":3}`), &w.Hash, nil, false)
	require.True(t, errors.Is(err, document.ErrConflict), "it is not what is there: %v", err)
}
