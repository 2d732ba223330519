// Package storetest is the suite that every store of collections must pass.
package storetest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/store"
)

// Run runs the suite on stores that open returns, each empty at first. Called again with the same
// name it must return what the store was left as, if stores outlive their process.
func Run(t *testing.T, lasting bool, open func(t *testing.T, name string) store.Store) {
	with := func(name string, f func(t *testing.T, s store.Store)) {
		t.Run(name, func(t *testing.T) {
			s := open(t, name)
			f(t, s)
			require.NoError(t, s.Close())
		})
	}
	with("objects", testObjects)
	with("conditions", testConditions)
	with("list", testList)
	with("like a map", testLikeAMap)
	with("race", testRace)
	with("paths", testPaths)
	with("long paths", testLongPaths)
	if lasting {
		t.Run("reopened", func(t *testing.T) {
			s := open(t, "reopened")
			require.NoError(
				t,
				s.Put(t.Context(), "a/b", &store.Object{Body: []byte("x"), Type: "text/plain"}, store.Absent),
			)
			require.NoError(t, s.Close())
			s = open(t, "reopened")
			o, err := s.Get(t.Context(), "a/b")
			require.NoError(t, err)
			require.Equal(t, "x", string(o.Body))
			require.Equal(t, "text/plain", o.Type)
			require.ErrorIs(
				t, s.Put(t.Context(), "a/b", &store.Object{Body: []byte("y")}, store.Absent), store.ErrChanged,
			)
			require.NoError(t, s.Close())
		})
	}
}

func document(text string) *store.Object {
	return &store.Object{Body: []byte(text), Type: "application/json"}
}

func put(t *testing.T, s store.Store, key, text string) {
	require.NoError(t, s.Put(t.Context(), key, document(text), store.Whatever), key)
}

func testObjects(t *testing.T, s store.Store) {
	ctx := t.Context()
	_, err := s.Get(ctx, "users/x/settings")
	require.ErrorIs(t, err, store.ErrNotFound)
	// A key may be the beginning of another, and hold what names of files cannot.
	keys := []string{
		"users", "users/x", "users/x/settings", "users/x/_keyring", "users/x/A", "users/x/a",
		"a:b@c.d-e_f", "é/日本", "x/y z+%2e~", ".hidden/.."[:9] + "x", "a~", "a~type", "%41", "a/%",
		strings.Repeat("n", 200),
	}
	for i, k := range keys {
		put(t, s, k, fmt.Sprintf(`{"n":%d}`, i))
	}
	for i, k := range keys {
		o, err := s.Get(ctx, k)
		require.NoError(t, err, k)
		require.JSONEq(t, fmt.Sprintf(`{"n":%d}`, i), string(o.Body), k)
		require.Equal(t, "application/json", o.Type)
	}
	require.NoError(
		t,
		s.Put(ctx, "picture", &store.Object{Body: []byte{0, 255, 1}, Type: "image/png"}, store.Whatever),
	)
	o, err := s.Get(ctx, "picture")
	require.NoError(t, err)
	require.Equal(t, []byte{0, 255, 1}, o.Body)
	require.Equal(t, "image/png", o.Type)
	put(t, s, "picture", `{}`)
	o, err = s.Get(ctx, "picture")
	require.NoError(t, err)
	require.Equal(t, "application/json", o.Type)
	require.NoError(t, s.Delete(ctx, "users/x"))
	require.NoError(t, s.Delete(ctx, "users/x"))
	_, err = s.Get(ctx, "users/x")
	require.ErrorIs(t, err, store.ErrNotFound)
	_, err = s.Get(ctx, "users/x/settings")
	require.NoError(t, err)
}

func testConditions(t *testing.T, s store.Store) {
	ctx := t.Context()
	require.ErrorIs(t, s.Put(ctx, "k", document("{}"), store.Same("no such tag")), store.ErrChanged)
	require.NoError(t, s.Put(ctx, "k", document(`{"a":1}`), store.Absent))
	require.ErrorIs(t, s.Put(ctx, "k", document("{}"), store.Absent), store.ErrChanged)
	first, err := s.Get(ctx, "k")
	require.NoError(t, err)
	require.NotEmpty(t, first.Tag)
	require.NoError(t, s.Put(ctx, "k", document(`{"a":2}`), store.Same(first.Tag)))
	require.ErrorIs(t, s.Put(ctx, "k", document(`{"a":3}`), store.Same(first.Tag)), store.ErrChanged)
	second, err := s.Get(ctx, "k")
	require.NoError(t, err)
	require.NotEqual(t, first.Tag, second.Tag)
	require.JSONEq(t, `{"a":2}`, string(second.Body))
	require.NoError(t, s.Delete(ctx, "k"))
	require.ErrorIs(t, s.Put(ctx, "k", document("{}"), store.Same(second.Tag)), store.ErrChanged)
	require.NoError(t, s.Put(ctx, "k", document("{}"), store.Absent))
}

func testList(t *testing.T, s store.Store) {
	keys := []string{"a", "a/1", "a/10", "a/2", "a/2/x", "a/B", "a/b", "ab/1", "b/1", "a.b/1", "a-b/1"}
	for _, k := range keys {
		put(t, s, k, "{}")
	}
	slices.Sort(keys)
	for _, prefix := range []string{"", "a", "a/", "a/1", "a/2", "a/2/", "c", "a/2/xy", "ab", "zz/"} {
		for _, after := range append([]string{"", "a/15", "a/zzz", "b"}, keys...) {
			for _, limit := range []int{1, 2, 100} {
				var want []string
				for _, k := range keys {
					if strings.HasPrefix(k, prefix) && k > after && len(want) < limit {
						want = append(want, k)
					}
				}
				got, err := s.List(t.Context(), prefix, after, limit)
				require.NoError(t, err)
				require.Equal(t, want, slices.Clip(got[:len(got):len(got)]), "%q after %q", prefix, after)
			}
		}
	}
}

// Paths that differ are different objects, whatever parameters a request may name; and what servers
// keep beside a document is none that a path leads to.
func testPaths(t *testing.T, s store.Store) {
	rnd := rand.New(rand.NewPCG(3, 4))
	templates := []string{
		"{a}", "{a}/{b}", "{a}/{b}/{c}", "x/{a}", "x/{a}/{b}", "x/{a}/_keyring", "x/{a}/{b}/y",
	}
	alphabet := []string{
		"a", "A", ".", "_", ":", "@", "-", "x", "~", "%", "!", "__seg", "__remote", "__sync__", "type",
		"0000000000000001", "2e", "/",
	}
	wrote := map[string]string{}
	params := func() map[string]string {
		m := map[string]string{}
		for _, name := range []string{"a", "b", "c"} {
			for range 1 + rnd.IntN(3) {
				m[name] += alphabet[rnd.IntN(len(alphabet))]
			}
		}
		return m
	}
	for i := range 400 {
		template := config.ParseTemplate(templates[rnd.IntN(len(templates))])
		key, ok := template.Fill(params())
		if !ok {
			continue
		}
		require.NotContains(t, key, store.Mark)
		wrote[key] = fmt.Sprintf(`{"i":%d}`, i)
		put(t, s, key, wrote[key])
		if i%8 == 0 { // as servers do beside it
			put(t, s, key+store.Mark+"seg/0000000000000001", "[]")
		}
	}
	require.Greater(t, len(wrote), 50)
	for key, want := range wrote {
		o, err := s.Get(t.Context(), key)
		require.NoError(t, err, key)
		require.Equal(t, want, string(o.Body), key)
		require.NoError(t, s.Delete(t.Context(), key))
	}
	left, err := s.List(t.Context(), "", "", 1000)
	require.NoError(t, err)
	for _, key := range left {
		require.Contains(t, key, store.Mark)
	}
}

// A store takes the longest paths that requests may name, with what servers keep beside them.
func testLongPaths(t *testing.T, s store.Store) {
	template := config.ParseTemplate("{a}/{b}/{c}/{d}")
	longest, colons := strings.Repeat("n", config.MaxSegment), strings.Repeat(":", config.MaxSegment/3)
	rest := config.MaxPath - 3*(config.MaxSegment+1)
	for _, params := range []map[string]string{
		{"a": longest, "b": longest, "c": longest, "d": strings.Repeat("n", rest)},
		{"a": "a", "b": colons, "c": "c", "d": longest},
		{"a": longest, "b": "b", "c": "c", "d": colons},
	} {
		key, ok := template.Fill(params)
		require.True(t, ok)
		for _, more := range []string{"", store.Mark + "seg/0000000000000001", store.Mark + "remote"} {
			file := &store.Object{Body: []byte("x"), Type: "image/png"}
			require.NoError(t, s.Put(t.Context(), key+more, file, store.Absent), key+more)
			o, err := s.Get(t.Context(), key+more)
			require.NoError(t, err)
			require.Equal(t, "x", string(o.Body))
			require.NoError(t, s.Delete(t.Context(), key+more))
		}
	}
}

// A store does what a map does.
func testLikeAMap(t *testing.T, s store.Store) {
	rnd := rand.New(rand.NewPCG(1, 2))
	model := map[string]string{}
	key := func() string {
		return strings.Join([]string{"x", "y", "z"}[:1+rnd.IntN(3)], "/") + fmt.Sprint(rnd.IntN(4))
	}
	for i := range 300 {
		k := key()
		switch rnd.IntN(4) {
		case 0:
			require.NoError(t, s.Delete(t.Context(), k))
			delete(model, k)
		case 1:
			o, err := s.Get(t.Context(), k)
			if want, ok := model[k]; ok {
				require.NoError(t, err)
				require.Equal(t, want, string(o.Body))
			} else {
				require.ErrorIs(t, err, store.ErrNotFound)
			}
		default:
			model[k] = fmt.Sprintf(`{"i":%d}`, i)
			put(t, s, k, model[k])
		}
	}
	var want []string
	for k := range model {
		want = append(want, k)
	}
	slices.Sort(want)
	got, err := s.List(t.Context(), "", "", 1000)
	require.NoError(t, err)
	require.Equal(t, want, got)
}

// Of writers that all expect the same, one wins; whoever tries again in the end has its turn.
func testRace(t *testing.T, s store.Store) {
	const writers, each = 8, 10
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for done := 0; done < each; {
				n, if_ := 0, store.Absent
				if o, err := s.Get(t.Context(), "counter"); err == nil {
					if _, err := fmt.Sscan(string(o.Body), &n); err != nil {
						t.Error(err)
						return
					}
					if_ = store.Same(o.Tag)
				}
				switch err := s.Put(t.Context(), "counter", document(fmt.Sprint(n+1)), if_); {
				case err == nil:
					done++
				case !strings.Contains(err.Error(), store.ErrChanged.Error()):
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	o, err := s.Get(t.Context(), "counter")
	require.NoError(t, err)
	require.Equal(t, fmt.Sprint(writers*each), string(o.Body))
}
