package projection_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/skerry-sync/skerry/collections"
	"github.com/skerry-sync/skerry/collections/access"
	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/collections/projection"
	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/value"
	"github.com/skerry-sync/skerry/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const listed = `{"version": 1, "collections": [
	{"name": "products", "storagePath": "products/{tenant}/{id}", "readRoles": ["public"], "writeRoles": ["public"], "encryption": "none", "maxBodyBytes": 1000},
	{"name": "other", "storagePath": "other/{id}", "readRoles": ["public"], "writeRoles": ["public"], "encryption": "none", "maxBodyBytes": 1000},
	{"name": "catalog", "storagePath": "catalog/{tenant}", "readRoles": ["public"], "writeRoles": ["admin"], "encryption": "none", "maxBodyBytes": 1000, "pullOnly": true}],
	"extensions": {"projections": [
		{"source": "products", "target": "catalog/{tenant}", "fields": ["name", "price"], "removed": "deleted", "maxItems": 100},
		{"source": ["products", "other"], "target": "everything", "id": "x-{id}"}]}}`

func serve(t *testing.T, s store.Store) (http.Handler, *document.Documents) {
	return serving(t, listed, s)
}

func serving(
	t *testing.T, text string, s store.Store,
) (http.Handler, *document.Documents) {
	return servingAfter(t, text, s, collections.Hook{})
}

// servingAfter serves with a hook before that of the lists.
func servingAfter(
	t *testing.T, text string, s store.Store, before collections.Hook,
) (http.Handler, *document.Documents) {
	c, err := config.Parse([]byte(text))
	require.NoError(t, err)
	docs := document.In(s, nil)
	h, err := collections.New(c, collections.Options{
		Documents: docs,
		Resolver: access.ResolverFunc(func(context.Context, *access.Request) (access.Auth, error) {
			return access.Anonymous, nil
		}),
		Hooks: []collections.Hook{before, projection.In(docs).Hook(func() []*projection.Projection {
			return projection.Configured(c)
		}, slog.New(slog.DiscardHandler))}, Log: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	return h, docs
}

func push(t *testing.T, h http.Handler, path, body string) {
	w := pushed(t, h, path, body)
	require.Equal(t, http.StatusOK, w.Code, "%s: %s", path, w.Body)
}

func pushed(t *testing.T, h http.Handler, path, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, "/push/"+path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func pull(t *testing.T, h http.Handler, path string) string {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/pull/"+path, nil))
	require.Equal(t, http.StatusOK, w.Code)
	o, err := value.ParseObject(w.Body.Bytes(), value.MaxDepth)
	require.NoError(t, err)
	data, _ := o.Get("data")
	return string(value.Append(nil, data))
}

func hash(t *testing.T, docs *document.Documents, key string) string {
	d, err := docs.Get(t.Context(), key)
	require.NoError(t, err)
	return d.Hash
}

func TestConfigured(t *testing.T) {
	h, docs := serve(t, store.NewMemory())
	push(t, h, "products/a/1", `{"data":{"price":3,"name":"chair","stock":7}}`)
	push(t, h, "products/a/2", `{"data":{"name":"table"}}`)
	push(t, h, "products/b/1", `{"data":{"name":"lamp"}}`)
	push(
		t, h, "products/a/1",
		`{"data":{"name":"armchair"},"baseHash":"`+hash(t, docs, "products/a/1")+`"}`,
	)
	push(t, h, "other/9", `{"data":{"o":{"n":1}}}`)
	require.Equal(
		t, `{"items":[{"id":"1","value":{"name":"armchair"}},{"id":"2","value":{"name":"table"}}]}`,
		pull(t, h, "catalog/a"),
	)
	require.Equal(t, `{"items":[{"id":"1","value":{"name":"lamp"}}]}`, pull(t, h, "catalog/b"))
	push(
		t, h, "products/a/1", `{"data":{"deleted":true},"baseHash":"`+hash(t, docs, "products/a/1")+`"}`,
	)
	push(t, h, "products/a/3", `{"data":{"deleted":true}}`)
	require.Equal(t, `{"items":[{"id":"2","value":{"name":"table"}}]}`, pull(t, h, "catalog/a"))
	all, err := docs.Get(t.Context(), "everything")
	require.NoError(t, err)
	require.Equal(
		t,
		`{"items":[{"id":"x-1","source":"products","value":{"deleted":true}},`+
			`{"id":"x-2","source":"products","value":{"name":"table"}},`+
			`{"id":"x-9","source":"other","value":{"o":{"n":1}}},`+
			`{"id":"x-3","source":"products","value":{"deleted":true}}]}`,
		string(value.Append(nil, all.Data)),
	)
}

// Whoever writes to one of the collections of a list neither replaces nor removes the entries of
// another, whether one projection keeps the list or two do.
func TestSourcesApart(t *testing.T) {
	column := func(name string) string {
		return `{"name": "` + name + `", "storagePath": "` + name + `/{id}", "readRoles": ["public"], ` +
			`"writeRoles": ["public"], "encryption": "none", "maxBodyBytes": 1000}`
	}
	for _, lists := range []string{
		`{"source": ["posts", "drafts"], "target": "all", "removed": "gone"}`,
		`{"source": "posts", "target": "all"}, {"source": "drafts", "target": "all", "removed": "gone"}`,
	} {
		text := `{"version": 1, "collections": [` + column("posts") + "," + column("drafts") +
			`], "extensions": {"projections": [` + lists + `]}}`
		s := store.NewMemory()
		h, docs := serving(t, text, s)
		of := func() string {
			d, err := docs.Get(t.Context(), "all")
			require.NoError(t, err)
			return string(value.Append(nil, d.Data))
		}
		push(t, h, "posts/1", `{"data":{"a":1}}`)
		post := `{"id":"1","source":"posts","value":{"a":1}}`
		require.Equal(t, `{"items":[`+post+`]}`, of())
		push(t, h, "drafts/1", `{"data":{"b":1}}`)
		require.Equal(t, `{"items":[`+post+`,{"id":"1","source":"drafts","value":{"b":1}}]}`, of())
		push(t, h, "drafts/1", `{"data":{"gone":true},"baseHash":"`+hash(t, docs, "drafts/1")+`"}`)
		push(t, h, "drafts/2", `{"data":{"gone":true}}`)
		require.Equal(t, `{"items":[`+post+`]}`, of())

		// What there was before the list had several goes on.
		_, err := docs.Push(t.Context(), "all", value.NewObject(value.Member{
			Key: projection.Items, Value: value.Array{value.NewObject(
				value.Member{Key: "id", Value: "1"}, value.Member{Key: "value", Value: &value.Object{}},
			)}}), ptr(hash(t, docs, "all")), nil, false)
		require.NoError(t, err)
		push(t, h, "posts/1", `{"data":{"a":2},"baseHash":"`+hash(t, docs, "posts/1")+`"}`)
		require.Equal(t, `{"items":[{"id":"1","source":"posts","value":{"a":2}}]}`, of())
	}
}

func ptr[T any](v T) *T { return &v }

// Many that write at once are all in the list, also at two servers of one store.
func TestNothingIsLost(t *testing.T) {
	s := store.NewMemory()
	one, _ := serve(t, s)
	two, docs := serve(t, s)
	var wg sync.WaitGroup
	for i, h := range []http.Handler{one, two} {
		for j := range 30 {
			wg.Go(func() { push(t, h, fmt.Sprintf("products/a/%d-%d", i, j), `{"data":{"name":"x"}}`) })
		}
	}
	wg.Wait()
	d, err := docs.Get(t.Context(), "catalog/a")
	require.NoError(t, err)
	items, _ := d.Data.Get(projection.Items)
	require.Len(t, items, 60)
}

func TestFullList(t *testing.T) {
	docs := document.In(store.NewMemory(), nil)
	lists, two := projection.In(docs), projection.Bounds{Items: 2}
	op := func(id string) error {
		return lists.Apply(t.Context(), "list", projection.Op{ID: id, Value: &value.Object{}}, two)
	}
	require.NoError(t, op("a"))
	require.NoError(t, op("b"))
	require.ErrorIs(t, op("c"), projection.ErrFull)
	require.NoError(t, op("a"))
	require.NoError(t, lists.Apply(t.Context(), "list", projection.Op{ID: "a", Remove: true}, two))
	require.NoError(t, op("c"))
	require.NoError(t, lists.Apply(t.Context(), "nothing", projection.Op{ID: "a", Remove: true}, two))
	d, err := docs.Get(t.Context(), "nothing")
	require.NoError(t, err)
	require.Nil(t, d)
}

// A list gets into no document but those that are meant for lists, and holds nothing that its
// source hides.
func TestListsStayInTheirPlace(t *testing.T) {
	c, err := config.Parse([]byte(`{"version": 1, "collections": [
		{"name": "products", "storagePath": "products/{tenant}/{id}", "readRoles": ["admin"], "writeRoles": ["public"], "encryption": "none", "maxBodyBytes": 1000, "fieldPermissions": {"cost": {"readRoles": ["admin"]}}},
		{"name": "secret", "storagePath": "catalog/secret", "readRoles": ["admin"], "writeRoles": ["admin"], "encryption": "none", "maxBodyBytes": 1000},
		{"name": "catalog", "storagePath": "catalog/{name}", "readRoles": ["public"], "writeRoles": ["admin"], "encryption": "none", "maxBodyBytes": 1000, "pullOnly": true}],
		"extensions": {"projections": [{"source": "products", "target": "catalog/{tenant}"}]}}`))
	require.NoError(t, err)
	docs := document.In(store.NewMemory(), nil)
	h, err := collections.New(c, collections.Options{
		Documents: docs,
		Resolver: access.ResolverFunc(func(context.Context, *access.Request) (access.Auth, error) {
			return access.Anonymous, nil
		}),
		Hooks: []collections.Hook{projection.In(docs).Hook(func() []*projection.Projection {
			return projection.Configured(c)
		}, slog.New(slog.DiscardHandler))}, Log: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	push(t, h, "products/secret/a", `{"data":{"n":1,"cost":5},"baseHash":null}`)
	d, err := docs.Get(t.Context(), "catalog/secret")
	require.NoError(t, err)
	require.Nil(t, d)
	push(t, h, "products/open/a", `{"data":{"n":1,"cost":5},"baseHash":null}`)
	d, err = docs.Get(t.Context(), "catalog/open")
	require.NoError(t, err)
	require.JSONEq(t, `{"items":[{"id":"a","value":{"n":1}}]}`, string(d.Text()))
}

// Whoever may write to a collection cannot make its list longer without end: each change of it
// would cost more than the one before.
func TestListOfManyBytes(t *testing.T) {
	testkit.OneGoroutine(t)
	h, docs := serving(t, strings.ReplaceAll(listed, `"maxBodyBytes": 1000}`,
		`"maxBodyBytes": 100000}`), store.NewMemory())
	text := strings.Repeat("x", 90_000)
	for i := range 14 {
		push(t, h, fmt.Sprintf("products/a/%04d", i), `{"data":{"name":"`+text+`"}}`)
	}
	d, err := docs.Get(t.Context(), "catalog/a")
	require.NoError(t, err)
	require.Less(t, len(d.Text()), 1<<20)
	require.Greater(t, len(d.Text()), 1<<20-91_000)

	// A list that is too long may get shorter.
	lists := projection.In(docs)
	op := projection.Op{ID: "0000", Value: value.NewObject(value.Member{Key: "n", Value: 1.0})}
	require.NoError(t, lists.Apply(t.Context(), "catalog/a", op, projection.Bounds{Bytes: 100}))
	op.Value.Set("n", "12345")
	require.ErrorIs(t, lists.Apply(t.Context(), "catalog/a", op, projection.Bounds{Bytes: 100}),
		projection.ErrFull)
	op.Remove = true
	require.NoError(t, lists.Apply(t.Context(), "catalog/a", op, projection.Bounds{Bytes: 100}))
}
