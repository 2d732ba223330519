package queue_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/skerry-sync/skerry/collections"
	"github.com/skerry-sync/skerry/collections/access"
	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/collections/queue"
	"github.com/skerry-sync/skerry/collections/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const announced = `{"version": 1, "collections": [
	{"name": "posts", "storagePath": "posts/{id}", "readRoles": ["public"], "writeRoles": ["public"], "encryption": "none", "maxBodyBytes": 1000},
	{"name": "comments", "storagePath": "c/{post}/{id}", "readRoles": ["public"], "writeRoles": ["writer"], "encryption": "none", "maxBodyBytes": 1000},
	{"name": "clicks", "storagePath": "clicks", "readRoles": ["public"], "writeRoles": ["public"], "encryption": "none", "maxBodyBytes": 1000, "appendOnly": {"persist": false, "requireAuthorSignature": false}},
	{"name": "pictures", "storagePath": "p/{id}", "readRoles": ["public"], "writeRoles": ["public"], "encryption": "none", "maxBodyBytes": 1000, "allowedMimeTypes": ["image/*"]},
	{"name": "quiet", "storagePath": "quiet/{id}", "readRoles": ["public"], "writeRoles": ["public"], "encryption": "none", "maxBodyBytes": 1000}],
	"namespaces": {"a": {"collections": [{"name": "posts", "storagePath": "a/posts/{id}", "readRoles": ["public"], "writeRoles": ["public"], "encryption": "none", "maxBodyBytes": 1000}]}},
	"extensions": {"queue": {"collections": {
		"posts": true, "a/posts": {"topic": "tenant.posts"}, "quiet": false,
		"comments": {"topic": "data.comments", "subjectParam": "post", "includeParams": true, "includeBody": true, "includeIdentity": true},
		"clicks": {"topic": "analytics.clicks", "includeBody": true}, "pictures": {"includeParams": true}}}}}`

// serve returns a server that announces on a queue.
func serve(t *testing.T, q queue.Queue) (http.Handler, *queue.Announcer) {
	c, err := config.Parse([]byte(announced))
	require.NoError(t, err)
	a := queue.NewAnnouncer(q, func() *config.Config { return c }, slog.New(slog.DiscardHandler))
	resolver := access.ResolverFunc(func(context.Context, *access.Request) (access.Auth, error) {
		return access.Auth{Identity: "alice", Roles: []string{"writer"}}, nil
	})
	s, err := collections.New(
		c, collections.Options{Documents: document.In(store.NewMemory(), func() time.Time {
			return time.UnixMilli(1_700_000_000_000)
		}), Resolver: resolver, Hooks: []collections.Hook{a.Hook()}, Log: slog.New(slog.DiscardHandler)},
	)
	require.NoError(t, err)
	return s, a
}

func push(t *testing.T, h http.Handler, path, media, body string) {
	r := httptest.NewRequest(http.MethodPost, "/"+path, strings.NewReader(body))
	r.Header.Set("Content-Type", media)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	require.Equal(t, http.StatusOK, w.Code, "%s: %s", path, w.Body)
}

// Each message is as the published package writes it.
func TestMessages(t *testing.T) {
	m := &queue.Memory{}
	h, a := serve(t, m)
	const json = "application/json"
	push(t, h, "push/posts/one", json, `{"data":{"title":"x"}}`)
	push(t, h, "a/push/a/posts/two", json, `{"data":{"title":"y"}}`)
	push(t, h, "push/c/p1/c.1", json, `{"data":{"b":1,"a":[2]}}`)
	push(t, h, "push/c/p.1/c2", json, `{"data":{}}`)
	push(t, h, "push/clicks", json, `{"data":{"on":"button"},"ts":5}`)
	push(t, h, "push/p/cat", "image/png", "meow")
	push(t, h, "push/quiet/x", json, `{"data":{}}`)
	require.NoError(t, a.Close())
	var got []string
	for _, x := range m.Messages() {
		got = append(got, x.Subject+" "+string(x.Body))
	}
	const at = `"timestamp":1700000000000`
	require.Len(t, got, 6)
	require.Equal(t, []string{
		`posts {"collection":"posts","hash":"` + hashOf(t, got[0]) + `",` + at + `}`,
		`tenant.posts {"collection":"posts","hash":"` + hashOf(t, got[1]) + `",` + at + `}`,
		`data.comments.p1 {"collection":"comments","hash":"` + hashOf(
			t, got[2],
		) + `",` + at + `,"params":{"post":"p1","id":"c.1"},"body":{"b":1,"a":[2]},"identity":"alice"}`,
		`data.comments {"collection":"comments","hash":"` + hashOf(
			t, got[3],
		) + `",` + at + `,"params":{"post":"p.1","id":"c2"},"body":{},"identity":"alice"}`,
		`analytics.clicks {"collection":"clicks","hash":"` + hashOf(
			t, got[4],
		) + `","timestamp":5,"body":{"on":"button"}}`,
	}, got[:5])
	require.Contains(t, got[5], `pictures {"collection":"pictures"`)
	require.Contains(t, got[5], `"params":{"id":"cat"}}`)
	require.Equal(t, queue.Stats{Published: 6}, a.Stats())
}

func hashOf(t *testing.T, m string) string {
	_, m, ok := strings.Cut(m, `"hash":"`)
	require.True(t, ok)
	require.Greater(t, len(m), 64)
	return m[:64]
}

// A queue that is away delays nobody, and gets in the end what was written meanwhile, in its order.
func TestQueueAway(t *testing.T) {
	var away atomic.Bool
	away.Store(true)
	m := &queue.Memory{}
	h, a := serve(t, queue.Func(func(ctx context.Context, subject, id string, b []byte) error {
		if away.Load() {
			return errors.New("away")
		}
		return m.Publish(ctx, subject, id, b)
	}))
	for i := range 100 {
		push(t, h, fmt.Sprintf("push/c/p/%03d", i), "application/json", `{"data":{}}`)
	}
	require.EqualValues(t, 100, a.Stats().Waiting)
	away.Store(false)
	require.Eventually(t, func() bool {
		return a.Stats().Published == 100
	}, 10*time.Second, 10*time.Millisecond)
	for i, x := range m.Messages() {
		require.Contains(t, string(x.Body), fmt.Sprintf(`"id":"%03d"`, i))
	}
	require.NoError(t, a.Close())
}

// A message that will never be taken holds up none behind it.
func TestRefusedMessage(t *testing.T) {
	m := &queue.Memory{}
	h, a := serve(t, queue.Func(func(ctx context.Context, subject, id string, b []byte) error {
		if strings.Contains(string(b), `"id":"bad"`) {
			return fmt.Errorf("too large: %w", queue.ErrRefused)
		}
		return m.Publish(ctx, subject, id, b)
	}))
	for _, id := range []string{"one", "bad", "two"} {
		push(t, h, "push/c/p/"+id, "application/json", `{"data":{}}`)
	}
	require.NoError(t, a.Close())
	require.Len(t, m.Messages(), 2)
	require.Equal(t, queue.Stats{Published: 2, Dropped: 1}, a.Stats())
}

// What waits is bounded, and an Announcer that is closed does not wait for ever.
func TestFullQueue(t *testing.T) {
	block := make(chan struct{})
	h, a := serve(t, queue.Func(func(ctx context.Context, _, _ string, _ []byte) error {
		select {
		case <-block:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}))
	for range queue.MaxWaiting + 10 {
		push(t, h, "push/clicks", "application/json", `{"data":{}}`)
	}
	s := a.Stats()
	require.EqualValues(t, queue.MaxWaiting, s.Waiting)
	require.EqualValues(t, 10, s.Dropped)
	close(block)
	require.NoError(t, a.Close())
	require.EqualValues(t, queue.MaxWaiting, a.Stats().Published)
}

func TestMemoryIsBounded(t *testing.T) {
	m := &queue.Memory{Limit: 2}
	for _, s := range []string{"a", "b", "c"} {
		require.NoError(t, m.Publish(t.Context(), s, "", nil))
	}
	require.Len(t, m.Messages(), 2)
	require.Equal(t, "b", m.Messages()[0].Subject)
}

// Of what is announced and not stored, several may be alike in one millisecond: a queue that drops
// messages with an id that it has had drops none of them, unless the caller names the time.
func TestAlike(t *testing.T) {
	q := &queue.Memory{}
	h, a := serve(t, q)
	for range 3 {
		push(t, h, "push/clicks", "application/json", `{"data":{"on":"buy"}}`)
		push(t, h, "push/clicks", "application/json", `{"data":{"on":"buy"},"ts":7}`)
	}
	require.NoError(t, a.Close())
	require.NoError(t, a.Close(), "again")
	ids := map[string]bool{}
	for _, m := range q.Messages() {
		ids[m.ID] = true
	}
	require.Len(t, q.Messages(), 6)
	require.Len(t, ids, 4)
}
