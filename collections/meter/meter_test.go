package meter_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections"
	"github.com/skerry-sync/skerry/collections/access"
	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/collections/meter"
	"github.com/skerry-sync/skerry/collections/queue"
	"github.com/skerry-sync/skerry/collections/remote"
	"github.com/skerry-sync/skerry/collections/store"
)

func TestMeter(t *testing.T) {
	const col = `{"collections": [{"name": "notes", "storagePath": "notes/{id}", "readRoles": ["public"], "writeRoles": ["public"], "encryption": "none", "maxBodyBytes": 50}]}`
	c, err := config.Parse(
		[]byte(
			`{"version": 1, ` + col[1:len(col)-1] + `, "namespaces": {"a": ` + strings.Replace(
				col, "notes/{id}", "own/{id}", 1,
			) + `}}`,
		),
	)
	require.NoError(t, err)
	m := meter.New()
	h, err := collections.New(c, collections.Options{
		Documents: document.In(store.NewMemory(), nil), Observe: m.Observe,
		Log: slog.New(slog.DiscardHandler),
		Resolver: access.ResolverFunc(func(context.Context, *access.Request) (access.Auth, error) {
			return access.Anonymous, nil
		}),
	})
	require.NoError(t, err)
	for _, x := range []string{
		"GET /health", "GET /pull/notes/x", "GET /pull/notes/y", "GET /a/pull/own/x",
		"POST /push/notes/x", "GET /pull/notes/a%20b", "GET /nowhere",
	} {
		method, path, _ := strings.Cut(x, " ")
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(method, path, http.NoBody))
	}
	require.NoError(
		t,
		testutil.CollectAndCompare(
			m, strings.NewReader(`# HELP skerry_collections_requests_total Requests that were answered.
# TYPE skerry_collections_requests_total counter
skerry_collections_requests_total{action="other",collection="",status="200"} 1
skerry_collections_requests_total{action="pull",collection="a/notes",status="200"} 1
skerry_collections_requests_total{action="pull",collection="notes",status="200"} 2
skerry_collections_requests_total{action="push",collection="notes",status="415"} 1
`), "skerry_collections_requests_total",
		),
	)

	m.Queue = func() queue.Stats {
		return queue.Stats{Published: 5, Failed: 1, Dropped: 2, Waiting: 3}
	}
	m.Remotes = func() []remote.Status {
		return []remote.Status{
			{Collection: "posts", Synced: time.Unix(1000, 0)}, {Collection: "news", Err: errors.New("away")},
		}
	}
	require.NoError(
		t,
		testutil.CollectAndCompare(
			m,
			strings.NewReader(
				`# HELP skerry_collections_queue_messages_total Writes that were to be announced.
# TYPE skerry_collections_queue_messages_total counter
skerry_collections_queue_messages_total{outcome="dropped"} 2
skerry_collections_queue_messages_total{outcome="failed"} 1
skerry_collections_queue_messages_total{outcome="published"} 5
# HELP skerry_collections_remote_failing Whether the last sync with the other server failed.
# TYPE skerry_collections_remote_failing gauge
skerry_collections_remote_failing{collection="news"} 1
skerry_collections_remote_failing{collection="posts"} 0
# HELP skerry_collections_remote_synced_seconds When a collection was last in step with the other server, in Unix seconds.
# TYPE skerry_collections_remote_synced_seconds gauge
skerry_collections_remote_synced_seconds{collection="news"} 0
skerry_collections_remote_synced_seconds{collection="posts"} 1000
`,
			), "skerry_collections_queue_messages_total", "skerry_collections_remote_failing",
			"skerry_collections_remote_synced_seconds",
		),
	)
	problems, err := testutil.CollectAndLint(m)
	require.NoError(t, err)
	require.Empty(t, problems)
	prometheus.NewPedanticRegistry().MustRegister(m)
}
