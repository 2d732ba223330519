package collections_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

// What is long in a log is parsed by few requests at a time, since it takes much memory then. Short
// parts of logs, and documents, do not wait for it.
func TestLongLogsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, configOf(
			column("notes", "notes/{id}", `"public"`, `"public"`, ""),
			column("logs", "logs/{id}", `"public"`, `"public"`,
				`, "appendOnly": {"requireAuthorSignature": false, "allowFull": true, "chunkSize": 2}`),
		), nil)
		push := func(path string, n int) {
			rec := ask(w, http.MethodPost, path, `{"data":{"t":"`+strings.Repeat("x", n)+`"}}`)
			require.Equal(t, http.StatusOK, rec.Code, rec.Body.String())
		}
		for range 10 {
			push("/push/logs/long", 3000)
		}
		push("/push/logs/short", 10)
		push("/push/notes/one", 3000)
		give := w.TakeTurns()
		for _, path := range []string{
			"/pull/logs/short?full=1", "/pull/logs/long?last=1", "/pull/notes/one",
			batchOf("logs", `{"id":"short"}`), // which has a room for each entry
		} {
			require.Equal(t, http.StatusOK, ask(w, http.MethodGet, path, "").Code, path)
		}
		for _, path := range []string{"/pull/logs/long?full=1", batchOf("logs", `{"id":"long"}`)} {
			// A caller who leaves waits no longer.
			ctx, cancel := context.WithCancel(t.Context())
			ended := false
			go func() {
				w.ServeHTTP(httptest.NewRecorder(),
					httptest.NewRequest(http.MethodGet, path, nil).WithContext(ctx))
				ended = true
			}()
			synctest.Wait()
			require.False(t, ended, path)
			cancel()
			synctest.Wait()
			require.True(t, ended, path)
			// One who stays is answered in turn.
			var rec *httptest.ResponseRecorder
			go func() { rec = ask(w, http.MethodGet, path, "") }()
			synctest.Wait()
			require.Nil(t, rec, path)
			give()
			synctest.Wait()
			require.Equal(t, http.StatusOK, rec.Code, path)
			require.Equal(t, 10, strings.Count(rec.Body.String(), `"t":`), path)
			require.Zero(t, w.Turns(), "a turn that nobody gave back")
			give = w.TakeTurns()
		}
		give()
	})
}
