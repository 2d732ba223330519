package collections_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections"
	"github.com/skerry-sync/skerry/collections/store"
)

type newsAnswer struct {
	Data struct {
		Items []struct {
			TS   int64
			Data map[string]any
		}
	}
	Cursor string
	More   bool
	Error  string
}

func news(t *testing.T, h http.Handler, path, cursor, rest string, header ...string) newsAnswer {
	rec := ask(h, http.MethodGet, "/pull/"+path+"?cursor="+url.QueryEscape(cursor)+rest, "", header...)
	require.Equal(t, http.StatusOK, rec.Code, rec.Body.String())
	require.Equal(t, "no-store", rec.Header().Get("Cache-Control"))
	var a newsAnswer
	require.NoError(t, json.Unmarshal(rec.Body.Bytes(), &a))
	return a
}

// One writer whose time lies ahead stops nobody: others' pushes are taken, whether or not they name
// a time, and readers get all of them, by time or by cursor.
func TestWriterAhead(t *testing.T) {
	w := newWorld(t, []byte(open), nil)
	now := w.now.UnixMilli()
	rec := ask(w, http.MethodPost, "/push/log/a", fmt.Sprintf(`{"data":{"n":0},"ts":%d}`, now+299_000))
	require.Equal(t, http.StatusOK, rec.Code, rec.Body.String())
	require.Len(t, news(t, w, "log/a", "", "").Data.Items, 1)
	checkpoint, seen := int64(0), 0
	read := func() {
		var a newsAnswer
		rec := ask(w, http.MethodGet, fmt.Sprintf("/pull/log/a?checkpoint=%d", checkpoint), "")
		require.NoError(t, json.Unmarshal(rec.Body.Bytes(), &a))
		for _, e := range a.Data.Items {
			checkpoint = e.TS
			seen++
		}
	}
	read()
	for i := range 10 {
		w.now = w.now.Add(time.Second)
		at := fmt.Sprintf(`,"ts":%d`, w.now.UnixMilli())
		if i%2 == 0 {
			at = ""
		}
		rec := ask(w, http.MethodPost, "/push/log/a", fmt.Sprintf(`{"data":{"n":%d}%s}`, i+1, at))
		require.Equal(t, http.StatusOK, rec.Code, rec.Body.String())
		read()
	}
	require.Equal(t, 10, seen)
	w.now = w.now.Add(300 * time.Second)
	read()
	require.Equal(t, 11, seen)
}

// What a cursor is answered keeps to the same limits as all other pulls.
func TestCursorPulls(t *testing.T) {
	w := newWorld(t, []byte(`{"version": 1, "collections": [
		{"name": "log", "storagePath": "log/{id}", "readRoles": ["member", "admin"], "writeRoles": ["public"], "encryption": "none", "maxBodyBytes": 1000,
		 "fieldPermissions": {"secret": {"readRoles": ["admin"]}}, "cacheDurationMs": 1000,
		 "appendOnly": {"requireAuthorSignature": false, "maxPullLimit": 4, "maxCheckpointAgeMs": 5000}},
		{"name": "short", "storagePath": "short/{id}", "readRoles": ["public"], "writeRoles": ["public"], "encryption": "none", "maxBodyBytes": 1000,
		 "ttlMs": 3000, "appendOnly": {"requireAuthorSignature": false}}]}`),
		func(o *collections.Options) { o.Resolver = byHeader })
	for i := range 10 {
		w.now = w.now.Add(time.Second)
		for _, name := range []string{"log", "short"} {
			rec := ask(
				w, http.MethodPost, "/push/"+name+"/a", fmt.Sprintf(`{"data":{"n":%d,"secret":1}}`, i),
			)
			require.Equal(t, http.StatusOK, rec.Code, rec.Body.String())
		}
	}
	member := []string{"X-Who", "bob", "X-Roles", "member"}
	a := news(t, w, "log/a", "", "", member...)
	require.Len(t, a.Data.Items, 4)
	require.True(t, a.More)
	require.EqualValues(t, 4, a.Data.Items[0].Data["n"], "none that is older than may be asked for")
	require.NotContains(t, a.Data.Items[0].Data, "secret")
	require.Contains(
		t, news(t, w, "log/a", "", "", "X-Who", "alice", "X-Roles", "admin").Data.Items[0].Data, "secret",
	)
	require.Len(t, news(t, w, "log/a", "", "&limit=1", member...).Data.Items, 1)
	b := news(t, w, "log/a", a.Cursor, "", member...)
	require.Len(t, b.Data.Items, 2)
	require.False(t, b.More)
	require.Len(t, news(t, w, "short/a", "", "").Data.Items, 4)
	require.Empty(t, news(t, w, "short/none", "", "").Data.Items)
	for query, reason := range map[string]string{
		"cursor=x": "Invalid cursor", "cursor=&limit=0": "Invalid limit",
		"cursor=&limit=-1":     "Invalid limit",
		"cursor=&checkpoint=1": "cursor_with_bounds", "cursor=&last=1": "cursor_with_bounds", "cursor=&full=true": "cursor_with_bounds",
	} {
		rec := ask(w, http.MethodGet, "/pull/log/a?"+query, "", member...)
		require.Equal(t, http.StatusBadRequest, rec.Code, query)
		require.Contains(t, strings.TrimSpace(rec.Body.String()), reason)
	}
}

// What a pull shows of a log a cursor shows, too: an element of time 0, and nothing of what stands
// beside the elements when the last one's time is over.
func TestCursorShowsWhatPullsShow(t *testing.T) {
	const rest = `"readRoles": ["public"], "writeRoles": ["public"], "encryption": "none", "maxBodyBytes": 1000,
		"appendOnly": {"requireAuthorSignature": false, "allowFull": true}}`
	w := newWorld(t, []byte(`{"version": 1, "collections": [
		{"name": "log", "storagePath": "log/{id}", `+rest+`,
		{"name": "short", "storagePath": "short/{id}", "ttlMs": 3000, `+rest+`]}`), nil)
	rec := ask(w, http.MethodPost, "/push/log/a", `{"data":{"n":0},"ts":0}`)
	require.Equal(t, http.StatusOK, rec.Code, rec.Body.String())
	require.Contains(t, ask(w, http.MethodGet, "/pull/log/a?full=1", "").Body.String(), `"ts":0`)
	a := news(t, w, "log/a", "", "")
	require.Len(t, a.Data.Items, 1)
	require.Empty(t, news(t, w, "log/a", a.Cursor, "").Data.Items)

	// As another server has it, something may stand beside.
	beside := fmt.Sprintf(
		`{"v":1,"data":{"title":"t","items":[{"ts":%[1]d,"data":{}}]},"ts":%[1]d,"hash":"h"}`,
		w.now.UnixMilli(),
	)
	require.NoError(
		t, w.store.Put(t.Context(), "short/a", &store.Object{Body: []byte(beside)}, store.Whatever),
	)
	shown := func(query string) bool {
		return strings.Contains(ask(w, http.MethodGet, "/pull/short/a?"+query, "").Body.String(), "title")
	}
	require.True(t, shown("full=1") && shown("cursor="))
	rec = ask(w, http.MethodPost, "/push/short/a", `{"data":{"n":1}}`)
	require.Equal(t, http.StatusOK, rec.Code, rec.Body.String())
	w.now = w.now.Add(2 * time.Second)
	require.True(t, shown("full=1") && shown("cursor="))
	w.now = w.now.Add(2 * time.Second)
	require.False(t, shown("full=1"))
	require.False(t, shown("cursor="))

	// An element that lies ahead does not count for that.
	at := w.now.Add(5 * time.Second).UnixMilli()
	rec = ask(w, http.MethodPost, "/push/short/a", fmt.Sprintf(`{"data":{"n":2},"ts":%d}`, at))
	require.Equal(t, http.StatusOK, rec.Code, rec.Body.String())
	require.False(t, shown("full=1"))
	require.False(t, shown("cursor="))
	w.now = w.now.Add(5 * time.Second)
	require.True(t, shown("full=1") && shown("cursor="))
}
