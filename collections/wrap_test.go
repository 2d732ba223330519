package collections_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections"
	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/collections/store"
)

func wrap(t *testing.T, h http.Handler, w collections.Wrapping) http.Handler {
	wrapped, err := collections.Wrap(h, w)
	require.NoError(t, err)
	return wrapped
}

func TestCompressionAndHeaders(t *testing.T) {
	w := newWorld(t, []byte(open), nil)
	h := wrap(t, w, collections.Wrapping{Headers: true, Compress: true})
	require.Equal(
		t, http.StatusOK,
		ask(
			w, "POST", "/push/notes/a",
			`{"data":{"a":"`+strings.Repeat("x", 900)+`","b":"`+strings.Repeat("y", 50)+`"}}`,
		).Code,
	)
	rec := ask(h, "GET", "/pull/notes/a", "", "Accept-Encoding", "gzip")
	require.Equal(t, "gzip", rec.Header().Get("Content-Encoding"))
	require.Less(t, rec.Body.Len(), 400)
	require.NotEmpty(t, rec.Header().Get("ETag"))
	require.Equal(t, "DENY", rec.Header().Get("X-Frame-Options"))
	rec = ask(
		h, "GET", "/pull/notes/a", "", "Accept-Encoding", "gzip", "If-None-Match",
		rec.Header().Get("ETag"),
	)
	require.Equal(t, http.StatusNotModified, rec.Code)
	rec = ask(h, "GET", "/pull/notes/b", "", "Accept-Encoding", "gzip")
	require.Empty(t, rec.Header().Get("Content-Encoding"), "it is short")
	rec = ask(h, "GET", "/pull/notes/a", "")
	require.Empty(t, rec.Header().Get("Content-Encoding"))
	require.Equal(t, []string{"Accept-Encoding"}, rec.Header().Values("Vary"))
	h = wrap(t, w, collections.Wrapping{
		Shared: collections.Sharing{Origins: []string{"https://app.example"}}, Compress: true,
	})
	for range 2 {
		require.Equal(
			t, []string{"Origin", "Accept-Encoding"},
			ask(h, "GET", "/pull/notes/a", "").Header().Values("Vary"),
		)
	}
}

// The context of a request with a time limit is like any other.
func TestTimeLimit(t *testing.T) {
	run := func(
		parent context.Context, timeout time.Duration, f func(ctx context.Context),
	) (after context.Context) {
		h := wrap(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			after = r.Context()
			f(after)
		}), collections.Wrapping{Timeout: timeout})
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil).WithContext(parent))
		return after
	}
	ctx := run(t.Context(), time.Hour, func(ctx context.Context) {
		at, ok := ctx.Deadline()
		require.True(t, ok)
		require.WithinDuration(t, time.Now().Add(time.Hour), at, time.Minute)
		require.NoError(t, ctx.Err())
	})
	require.ErrorIs(t, ctx.Err(), context.Canceled)
	<-ctx.Done()
	ctx = run(t.Context(), time.Hour, func(ctx context.Context) {
		child, cancel := context.WithCancel(ctx)
		require.NoError(t, child.Err())
		cancel()
		require.NoError(t, ctx.Err())
	})
	<-ctx.Done()
	run(t.Context(), 20*time.Millisecond, func(ctx context.Context) {
		child := context.WithValue(ctx, &struct{}{}, 1)
		<-child.Done()
		require.ErrorIs(t, child.Err(), context.DeadlineExceeded)
	})
	run(t.Context(), time.Nanosecond, func(ctx context.Context) {
		time.Sleep(time.Millisecond)
		require.ErrorIs(t, ctx.Err(), context.DeadlineExceeded)
		<-ctx.Done()
	})
	parent, cancel := context.WithCancel(t.Context())
	run(parent, time.Hour, func(ctx context.Context) {
		cancel()
		require.ErrorIs(t, ctx.Err(), context.Canceled)
		<-ctx.Done()
	})
	sooner, cancel := context.WithDeadline(t.Context(), time.Now().Add(time.Minute))
	defer cancel()
	run(sooner, time.Hour, func(ctx context.Context) {
		at, _ := ctx.Deadline()
		require.WithinDuration(t, time.Now().Add(time.Minute), at, 10*time.Second)
	})
}

// A request that takes too long is answered with 408.
func TestTimeout(t *testing.T) {
	slow := &store.Funcs{OnGet: func(ctx context.Context, _ string) (*store.Object, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	w := newWorld(t, []byte(open), func(o *collections.Options) {
		o.Documents = document.In(slow, nil)
	})
	rec := ask(
		wrap(t, w, collections.Wrapping{Timeout: 10 * time.Millisecond}), "GET", "/pull/notes/a", "",
	)
	require.Equal(t, http.StatusRequestTimeout, rec.Code)
	require.JSONEq(t, `{"error":"Request timeout"}`, rec.Body.String())
}

func TestAuditFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "audit.log")
	for range 2 {
		f, err := collections.OpenAuditFile(name)
		require.NoError(t, err)
		w := newWorld(t, []byte(open), func(o *collections.Options) { o.Audit = f })
		require.Equal(t, http.StatusOK, ask(w, "GET", "/pull/notes/a", "").Code)
		require.NoError(t, f.Close())
	}
	b, err := os.ReadFile(name)
	require.NoError(t, err)
	line := `{"timestamp":1700000000000,"action":"pull","collection":"notes","documentKey":"notes/a","success":true,"statusCode":200,"params":{"id":"a"}}` + "\n"
	require.Equal(t, line+line, string(b))
}

// A list of revocations is taken from anybody who has it, if its issuer has signed it.
func TestRevocationsRoute(t *testing.T) {
	w := newWorld(t, []byte(open), nil)
	require.Equal(t, http.StatusNotFound, ask(w, "POST", "/revocations", "{}").Code)
	w = newWorld(t, []byte(open), func(o *collections.Options) { o.Revocations = newRevocations(t) })
	require.Equal(t, http.StatusBadRequest, ask(w, "POST", "/revocations", "{").Code)
	require.Equal(t, http.StatusBadRequest, ask(w, "POST", "/revocations", "{}").Code)
	one, two := signedRevocations(t, 1), signedRevocations(t, 2)
	require.Equal(t, http.StatusOK, ask(w, "POST", "/revocations", two).Code)
	require.Equal(t, http.StatusConflict, ask(w, "POST", "/revocations", one).Code)
	rec := httptest.NewRecorder()
	w.ServeHTTP(rec, httptest.NewRequest("GET", "/revocations", nil))
	require.Equal(t, http.StatusNotFound, rec.Code)
}
