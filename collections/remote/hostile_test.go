package remote_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/client"
	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/collections/remote"
	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/value"
	"github.com/skerry-sync/skerry/internal/netaddr"
	"github.com/skerry-sync/skerry/internal/testkit"
)

// beside is a server without HTTP whose collection is a foreign one's.
func beside(t *testing.T, url, mode string) *server {
	c, err := config.Parse(
		fmt.Appendf(nil, posts, "public", fmt.Sprintf(`, "extensions": {"remotes": {"posts":
		{"url": %q, "pullPath": "/pull", "pushPath": "/push", "writeMode": %q, "headers": {"X-Api-Key": "secret"}}}}`,
			url, mode)),
	)
	require.NoError(t, err)
	s := &server{t: t, docs: document.In(store.NewMemory(), nil), config: c}
	s.manager = remote.New(s.docs, nil, slog.New(slog.DiscardHandler))
	require.NoError(t, s.manager.Set(c))
	t.Cleanup(s.manager.Close)
	require.Eventually(t, func() bool { // the sync with which it begins: what comes now is the test's
		first := s.manager.Statuses()[0]
		return !first.Synced.IsZero() || !first.Failed.IsZero()
	}, 10*time.Second, time.Millisecond)
	return s
}

func (s *server) syncError() error {
	return s.manager.SyncNow(s.t.Context(), s.config.Collections[0])
}

func object(t *testing.T, text string) *value.Object {
	o, err := value.ParseObject([]byte(text), value.MaxDepth)
	require.NoError(t, err)
	return o
}

// A server that redirects elsewhere gets neither a key nor a document there.
func TestRedirectsStayAtTheServer(t *testing.T) {
	var elsewhere atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		elsewhere.Add(1)
		_, _ = io.WriteString(w, `{"data":{"taken":true},"hash":"x"}`)
	}))
	t.Cleanup(other.Close)
	var redirectPull atomic.Bool
	first := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/moved":
			_, _ = io.WriteString(w, `{"data":{"n":1},"hash":""}`)
		case r.Method == http.MethodGet && !redirectPull.Load():
			http.Redirect(w, r, "/moved", http.StatusTemporaryRedirect)
		default:
			http.Redirect(w, r, other.URL+r.URL.Path, http.StatusTemporaryRedirect)
		}
	}))
	t.Cleanup(first.Close)
	s := beside(t, first.URL, "bidirectional")
	require.NoError(t, s.syncError(), "within the server")
	_, err := s.docs.Push(t.Context(), "posts/featured", object(t, `{"n":1}`), nil, nil, false)
	require.NoError(t, err)
	require.ErrorIs(t, s.syncError(), netaddr.ErrRedirect, "of a push")
	redirectPull.Store(true)
	require.ErrorIs(t, s.syncError(), netaddr.ErrRedirect, "of a pull")
	require.Zero(t, elsewhere.Load())
}

// What a server answers costs no more than its document may, however well it is compressed.
func TestAnswerThatGrows(t *testing.T) {
	testkit.SeenElsewhere(t)
	const size = 200 << 20
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, err := io.WriteString(z, `{"hash":"x","data":{"s":"`)
	require.NoError(t, err)
	part := strings.Repeat("a", 1<<20)
	for range size >> 20 {
		_, err = io.WriteString(z, part)
		require.NoError(t, err)
	}
	_, err = io.WriteString(z, `"}}`)
	require.NoError(t, err)
	require.NoError(t, z.Close())
	hostile := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(packed.Bytes())
	}))
	t.Cleanup(hostile.Close)
	s := beside(t, hostile.URL, "pull_only")
	require.Error(t, s.syncError())
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	require.ErrorIs(t, s.syncError(), client.ErrTooLong)
	runtime.ReadMemStats(&after)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(16<<20))
}

// What is taken from another server, and what becomes of it together with what is here, is no
// longer than callers may push.
func TestLengthOfWhatIsTaken(t *testing.T) {
	const most = 65536 // maxBodyBytes
	var answer atomic.Pointer[string]
	var pushed atomic.Int64
	foreign := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			pushed.Add(1)
		}
		if text := answer.Load(); text != nil {
			_, _ = io.WriteString(w, *text)
		} else {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(foreign.Close)
	says := func(field string, length int) {
		text := fmt.Sprintf(`{"hash":"x%d","data":{%q:%q}}`, length, field, strings.Repeat("a", length))
		answer.Store(&text)
	}
	s := beside(t, foreign.URL, "pull_only")
	around := len(`{"s":""}`)
	says("s", most-around+1)
	require.ErrorContains(t, s.syncError(), "maxBodyBytes of collection posts is 65536")
	data, _ := s.has()
	require.Empty(t, data)
	says("s", most-around)
	require.NoError(t, s.syncError())
	data, _ = s.has()
	require.Len(t, data, most)

	answer.Store(nil)
	s = beside(t, foreign.URL, "bidirectional")
	_, err := s.docs.Push(t.Context(), "posts/featured", object(t, `{"t":1}`), nil, nil, false)
	require.NoError(t, err)
	says("s", most-around)
	require.ErrorContains(t, s.syncError(), "what both servers have written has")
	require.Zero(t, pushed.Load())
	data, _ = s.has()
	require.Equal(t, `{"t":1}`, data)
}

// What is no refusal is not handed on as one: 101 would make a proxy's connection a tunnel.
func TestStatusOfAHostilePrimary(t *testing.T) {
	for status, want := range map[int]int{
		http.StatusSwitchingProtocols: 502, http.StatusNoContent: 502, http.StatusNotModified: 502,
		http.StatusTeapot: 418, 599: 599,
	} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost {
				w.WriteHeader(status)
			}
		}))
		s := of(t, &server{Server: srv}, "push_through", "")
		got, answer := s.do(http.MethodPost, `{"data":{},"baseHash":null}`)
		require.Equal(t, want, got)
		require.Equal(t, fmt.Sprintf(`{"error":"Primary returned %d"}`, status), answer)
		srv.Close()
	}
}

// An answer to a push that is handed on is short, whatever the collection's documents may be.
func TestLongAnswerToAPush(t *testing.T) {
	for length, want := range map[int]int{1000: http.StatusOK, 128 << 10: http.StatusBadGateway} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost {
				_, _ = fmt.Fprintf(w, `{"hash":"x","more":[%s0]}`, strings.Repeat("0,", length/2))
			}
		}))
		s := of(t, &server{Server: srv}, "push_through", "")
		got, _ := s.do(http.MethodPost, `{"data":{},"baseHash":null}`)
		require.Equal(t, want, got)
		srv.Close()
	}
}
