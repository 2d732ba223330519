package collections_test

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections"
	"github.com/skerry-sync/skerry/collections/access"
	"github.com/skerry-sync/skerry/collections/capcert"
	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/collections/keyring"
	"github.com/skerry-sync/skerry/collections/remote"
	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/value"
	"github.com/skerry-sync/skerry/internal/cost"
	"github.com/skerry-sync/skerry/internal/testkit"
)

// Whatever reads what others send does twice the work for twice the bytes, counted in what it
// allocates.
func TestWorkGrowsWithTheInput(t *testing.T) {
	testkit.SeenElsewhere(t)
	const n = 3000
	numbers := func(n int) string { // the keys that once cost the square of their number
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `,"%d":%d`, n-i, i)
		}
		return "{" + b.String()[1:] + "}"
	}
	object := func(text string) *value.Object {
		o, err := value.ParseObject([]byte(text), value.MaxDepth)
		require.NoError(t, err)
		return o
	}
	issuer, err := capcert.NewKey(make([]byte, 32))
	require.NoError(t, err)
	revocations, err := access.NewRevocations(t.Context(), nil, nil)
	require.NoError(t, err)
	text := strings.ReplaceAll(open, `"maxBodyBytes": 1000`, `"maxBodyBytes": 10000000`)
	text = strings.Replace(
		text, `"storagePath": "notes/{id}",`,
		`"storagePath": "notes/{id}", "objectSchema": {"maxProperties": 1000000, "additionalProperties": {"type": "number"}},
		"fieldPermissions": {"5": {"readRoles": ["admin"]}, "6": {"readRoles": ["admin"]}},`, 1,
	)
	w := newWorld(t, []byte(text), func(o *collections.Options) { o.Revocations = revocations })
	pushes := 0
	for name, work := range map[string]func(n int) func(){
		"a push": func(n int) func() {
			body := `{"data":` + numbers(n) + `}`
			return func() {
				pushes++
				require.Equal(t, 200, ask(w, "POST", fmt.Sprint("/push/notes/", pushes), body).Code)
			}
		},
		"a pull": func(n int) func() {
			path := fmt.Sprint("notes/grown", n)
			require.Equal(t, 200, ask(w, "POST", "/push/"+path, `{"data":`+numbers(n)+`}`).Code)
			return func() { require.Equal(t, 200, ask(w, "GET", "/pull/"+path, "").Code) }
		},
		"no list of revocations": func(n int) func() {
			body := numbers(n)
			return func() { require.Equal(t, 400, ask(w, "POST", "/revocations", body).Code) }
		},
		"a list of revocations": func(n int) func() {
			l, err := capcert.SignRevocations(
				issuer, 1, nil, strings.Split(strings.Repeat("subject ", n), " "),
			)
			require.NoError(t, err)
			return func() {
				_, err := capcert.ParseRevocations(object(string(value.Append(nil, l.Object()))))
				require.NoError(t, err)
			}
		},
		"a batch": func(n int) func() {
			r := httptest.NewRequest(
				"GET", "/batch/pull?collections="+strings.Repeat("notes,", n)+`&params={"x":[`+numbers(n)+"]}",
				nil,
			)
			return func() {
				rec := httptest.NewRecorder()
				w.ServeHTTP(rec, r)
				require.Equal(t, 200, rec.Code)
			}
		},
		"a configuration": func(n int) func() {
			var b strings.Builder
			for i := range n / 10 {
				fmt.Fprintf(
					&b,
					`,{"name": "c%d", "storagePath": "c%d/{id}", "readRoles": ["public"], "writeRoles": ["admin"], "maxBodyBytes": 1}`,
					i, i,
				)
			}
			text := []byte(
				`{"version": 1, "collections": [` + b.String()[1:] +
					`], "extensions": {"roles": {"r": ["x"]}}, "unknown": ` + numbers(n) + "}",
			)
			return func() {
				_, err := config.Parse(text)
				require.NoError(t, err)
			}
		},
		"a document": func(n int) func() {
			text := []byte(`{"v":1,"data":` + numbers(n) + `,"ts":1,"times":` + numbers(n) + "}")
			return func() {
				_, err := document.Parse(text)
				require.NoError(t, err)
			}
		},
		"a log in one document": func(n int) func() {
			d := document.In(
				holding(
					t, map[string]string{"log": `{"data":{"items":` + elements(n) + `},"ts":1,"hash":"h"}`},
				),
				nil,
			)
			return func() {
				p, err := d.Elements(t.Context(), "log", int64(n/2), nil, document.Log{Field: "items"})
				require.NoError(t, err)
				require.Len(t, p.Elements, n/2)
				news, err := d.Since(t.Context(), "log", "", -1, n, document.Log{Field: "items"})
				require.NoError(t, err)
				require.Len(t, news.Elements, n)
			}
		},
		"a log in a chunk": func(n int) func() {
			d := document.In(holding(t, map[string]string{
				"log": fmt.Sprintf(
					`{"seg":true,"n":%d,"tailKey":"log!seg/0000000000000001","ts":1}`, n,
				),
				"log!seg/0000000000000001": elements(n),
			}), nil)
			l := document.Log{Field: "items", ChunkSize: 1 << 20}
			return func() {
				_, err := d.Append(t.Context(), "log", &value.Object{}, nil, nil, l)
				require.NoError(t, err)
				_, err = d.Elements(t.Context(), "log", int64(n/2), nil, l)
				require.NoError(t, err)
			}
		},
		"the ends of a log": func(n int) func() {
			text := fmt.Appendf(
				nil,
				`{"seg":true,"n":%d,"ts":1,"ends":{"n":%[1]d,"shown":[],"ahead":[%s],"more":0,"before":-1}}`, n,
				strings.Repeat("[1,1],", n-1)+"[1,1]",
			)
			return func() {
				_, err := document.Parse(text)
				require.NoError(t, err)
			}
		},
		"a cursor": func(n int) func() {
			d, text := document.In(store.NewMemory(), nil), strings.Repeat("AgAA", n)
			return func() {
				_, err := d.Since(t.Context(), "log", text, -1, 1, document.Log{Field: "items"})
				require.ErrorIs(t, err, store.ErrCursor)
			}
		},
		"versions of a document": func(n int) func() {
			first := document.New(object(numbers(n)), 1, nil, false)
			second := document.Next(first, object(numbers(2*n)), 2, nil, false)
			third := document.Next(first, object(numbers(n/2)), 3, nil, false)
			return func() {
				document.Next(document.Merge([]*document.Document{second, third}), first.Data, 4, nil, false)
			}
		},
		"what two servers have": func(n int) func() {
			was, ours, theirs := object(numbers(n)), object(numbers(2*n)), object(numbers(n/2))
			return func() { value.Append(nil, remote.Merge(was, ours, theirs)) }
		},
		"a keyring": func(n int) func() {
			var b strings.Builder
			for i := range n {
				fmt.Fprintf(&b, `,"%d":{"wrappedKeys":[],"createdAt":1}`, n-i)
			}
			o := object(fmt.Sprintf(`{"v":1,"currentEpoch":%d,"epochs":{%s}}`, n, b.String()[1:]))
			return func() {
				_, err := keyring.Parse(o)
				require.NoError(t, err)
			}
		},
	} {
		once, twice := cost.Bytes(work(n)), cost.Bytes(work(2*n))
		require.LessOrEqual(t, twice, 3*once+1<<18, "%s: %d, then %d bytes", name, once, twice)
	}
}

// holding returns a store that holds some objects.
func holding(t *testing.T, all map[string]string) store.Store {
	s := store.NewMemory()
	for key, text := range all {
		require.NoError(t, s.Put(t.Context(), key, &store.Object{Body: []byte(text)}, store.Whatever))
	}
	return s
}

// elements returns n elements of a log, of which the last half or so come first.
func elements(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `,{"ts":%d,"data":{}}`, 1+(i+n/2)%n)
	}
	return "[" + b.String()[1:] + "]"
}
