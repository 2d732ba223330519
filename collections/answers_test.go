package collections_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// reader is a caller who reads nothing of an answer until it is told to.
type reader struct {
	*httptest.ResponseRecorder
	waits *sync.WaitGroup // done when it has something to read
	read  chan struct{}
	once  sync.Once
}

func (r *reader) Write(b []byte) (int, error) {
	r.once.Do(r.waits.Done)
	<-r.read
	return r.ResponseRecorder.Write(b)
}

// Who reads large answers slowly takes the memory of one network, and nobody else's.
func TestSlowReaders(t *testing.T) {
	const size, fit = 1 << 20, 63 // and some bytes around each
	w := newWorld(t, configOf(strings.Replace(
		column("notes", "notes/{id}", `"public"`, `"public"`, ""), "4000", "2000000", 1)), nil)
	push := func(id string, n int) {
		rec := ask(w, http.MethodPost, "/push/notes/"+id, `{"data":{"t":"`+strings.Repeat("x", n)+`"}}`)
		require.Equal(t, http.StatusOK, rec.Code)
	}
	push("large", size)
	push("small", 100)
	serve := func(to http.ResponseWriter, from, path string) {
		r := httptest.NewRequest(http.MethodGet, path, nil)
		r.RemoteAddr = from + ":1"
		w.ServeHTTP(to, r)
	}
	status := func(from, path string) *httptest.ResponseRecorder {
		rec := httptest.NewRecorder()
		serve(rec, from, path)
		return rec
	}
	const slow, other = "8.8.8.8", "8.8.4.4"
	paths := []string{"/pull/notes/large", batchOf("notes", `{"id":"large"}`)}
	var waits, all sync.WaitGroup
	read := make(chan struct{})
	recs := make([]*reader, fit)
	for i := range recs {
		waits.Add(1)
		recs[i] = &reader{ResponseRecorder: httptest.NewRecorder(), waits: &waits, read: read}
		all.Go(func() { serve(recs[i], slow, paths[i%2]) })
	}
	waits.Wait()
	for _, path := range paths {
		rec := status(slow, path)
		require.Equal(t, http.StatusServiceUnavailable, rec.Code)
		require.Equal(t, "1", rec.Header().Get("Retry-After"))
		require.Equal(t, "no-store", rec.Header().Get("Cache-Control"))
		require.Empty(t, rec.Header().Get("Etag"))
		require.Equal(t, http.StatusOK, status(other, path).Code)
		require.Equal(t, http.StatusOK, status("127.0.0.1", path).Code)
	}
	require.Equal(t, http.StatusOK, status(slow, "/pull/notes/small").Code)
	close(read)
	all.Wait()
	for _, r := range recs {
		require.Equal(t, http.StatusOK, r.Code)
		require.Greater(t, r.Body.Len(), size)
	}
	for _, path := range paths {
		require.Equal(t, http.StatusOK, status(slow, path).Code, "what was read takes no room")
	}
}
