package remote_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/skerry-sync/skerry/collections"
	"github.com/skerry-sync/skerry/collections/access"
	"github.com/skerry-sync/skerry/collections/capcert"
	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/collections/pairing"
	"github.com/skerry-sync/skerry/collections/remote"
	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/value"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is one whose document of the collection "posts" may be another's, too.
type server struct {
	*httptest.Server
	t        *testing.T
	docs     *document.Documents
	manager  *remote.Manager
	config   *config.Config
	down     atomic.Bool
	slow     atomic.Bool
	requests atomic.Int64
}

const posts = `{"version": 1, "collections": [{"name": "posts", "storagePath": "posts/featured", "readRoles": [%q], "writeRoles": [%[1]q], "encryption": "none", "maxBodyBytes": 65536}]%s}`

func serve(t *testing.T, role, extensions string) *server {
	return serveConfig(t, fmt.Sprintf(posts, role, extensions))
}

func serveConfig(t *testing.T, text string) *server {
	nonces, err := access.NewNonces(access.NonceOptions{})
	require.NoError(t, err)
	return serveFor(t, text, &access.Caps{Nonces: nonces})
}

// serveFor serves a configuration to whom a resolver lets in.
func serveFor(t *testing.T, text string, who access.Resolver) *server {
	c, err := config.Parse([]byte(text))
	require.NoError(t, err)
	s := &server{t: t, docs: document.In(store.NewMemory(), nil), config: c}
	log := slog.New(slog.DiscardHandler)
	s.manager = remote.New(s.docs, nil, log)
	h, err := collections.New(
		c,
		collections.Options{
			Documents: s.docs, Prefix: "/v1", Resolver: who,
			Hooks: []collections.Hook{s.manager.Hook()}, Log: log,
		},
	)
	require.NoError(t, err)
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.Add(1)
		if s.down.Load() {
			panic(http.ErrAbortHandler)
		}
		if s.slow.Load() {
			time.Sleep(20 * time.Millisecond)
		}
		h.ServeHTTP(w, r)
	}))
	s.Config.ErrorLog = slog.NewLogLogger(log.Handler(), slog.LevelError)
	t.Cleanup(s.Close)
	require.NoError(t, s.manager.Set(c))
	t.Cleanup(s.manager.Close)
	return s
}

// of returns a server whose collection is another's, in a mode.
func of(t *testing.T, primary *server, mode, more string) *server {
	return serve(
		t, "public",
		fmt.Sprintf(
			`, "extensions": {"remotes": {"posts": {"url": %q, "pullPath": "/pull/posts/featured", "pushPath": "/push/posts/featured", "writeMode": %q%s}}}`,
			primary.URL+"/v1", mode, more,
		),
	)
}

func (s *server) do(method, body string) (int, string) {
	path := "/v1/pull/posts/featured"
	if method == http.MethodPost {
		path = "/v1/push/posts/featured"
	}
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.URL+path, strings.NewReader(body))
	require.NoError(s.t, err)
	r.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(r)
	require.NoError(s.t, err)
	b, err := io.ReadAll(resp.Body)
	require.NoError(s.t, err)
	require.NoError(s.t, resp.Body.Close())
	return resp.StatusCode, string(b)
}

// has returns what the store has, and its hash.
func (s *server) has() (data, hash string) {
	d, err := s.docs.Get(context.Background(), "posts/featured")
	require.NoError(s.t, err)
	if d == nil {
		return "", ""
	}
	return string(value.AppendCanonical(nil, d.Data)), d.Hash
}

func (s *server) write(data string) {
	_, hash := s.has()
	base := "null"
	if hash != "" {
		base = `"` + hash + `"`
	}
	status, answer := s.do(http.MethodPost, `{"data":`+data+`,"baseHash":`+base+`}`)
	require.Equal(s.t, http.StatusOK, status, answer)
}

func (s *server) sync() {
	require.NoError(s.t, s.manager.SyncNow(s.t.Context(), s.config.Collections[0]))
}

func (s *server) becomes(data string) {
	require.Eventually(s.t, func() bool {
		now, _ := s.has()
		return now == data
	}, 10*time.Second, 10*time.Millisecond, data)
}

func TestPullOnly(t *testing.T) {
	primary := serve(t, "public", "")
	primary.write(`{"n":1}`)
	s := of(t, primary, "pull_only", `, "syncTriggers": ["scheduled"], "intervalMs": 20`)
	s.becomes(`{"n":1}`)
	primary.write(`{"n":2,"__proto__":{"x":1}}`)
	s.becomes(`{"n":2}`)
	status, answer := s.do(http.MethodPost, `{"data":{}}`)
	require.Equal(t, http.StatusMethodNotAllowed, status)
	require.Equal(t, `{"error":"This collection is read-only on this server"}`, answer)

	// While the other server is down what is here is what there is.
	primary.down.Store(true)
	require.Eventually(t, func() bool {
		return s.manager.Statuses()[0].Err != nil
	}, 5*time.Second, 10*time.Millisecond)
	status, answer = s.do(http.MethodGet, "")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, answer, `{"n":2}`)
	primary.down.Store(false)
	primary.write(`{"n":3}`)
	s.becomes(`{"n":3}`)
}

func TestOnPull(t *testing.T) {
	primary := serve(t, "public", "")
	s := of(t, primary, "pull_only", `, "syncTriggers": ["on_pull"], "onPullMinIntervalMs": 0`)
	primary.write(`{"n":1}`)
	_, answer := s.do(http.MethodGet, "")
	require.Contains(t, answer, `{"n":1}`)
	primary.write(`{"n":2}`)
	_, answer = s.do(http.MethodGet, "")
	require.Contains(t, answer, `{"n":2}`)

	rarely := of(
		t, primary, "pull_only", `, "syncTriggers": ["on_pull"], "onPullMinIntervalMs": 3600000`,
	)
	rarely.becomes(`{"n":2}`)
	before := primary.requests.Load()
	for range 5 {
		rarely.do(http.MethodGet, "")
	}
	require.Equal(t, before, primary.requests.Load())

	// A server that is down is not asked for each pull.
	primary.down.Store(true)
	s.do(http.MethodGet, "")
	before = primary.requests.Load()
	for range 5 {
		status, _ := s.do(http.MethodGet, "")
		require.Equal(t, http.StatusOK, status)
	}
	require.Equal(t, before, primary.requests.Load())
}

// A pull does not wait for a sync that hangs, whoever has begun it, and those that follow do not
// wait at all.
func TestOnPullWhileASyncHangs(t *testing.T) {
	asked, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	primary := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		once.Do(func() { close(asked) })
		<-release
	}))
	defer primary.Close()
	s := of(
		t, &server{Server: primary}, "pull_only",
		`, "syncTriggers": ["on_pull"], "onPullMinIntervalMs": 0`,
	)
	<-asked // by the sync at the start
	answered := make(chan int)
	go func() {
		for range 6 {
			if status, _ := s.do(http.MethodGet, ""); status != http.StatusOK {
				answered <- status
				return
			}
		}
		answered <- http.StatusOK
	}()
	select {
	case status := <-answered:
		require.Equal(t, http.StatusOK, status)
	case <-time.After(25 * time.Second):
		t.Error("the pulls wait for the sync")
	}
	close(release)
}

// Pulls that wait for the same sync do not each begin one more.
func TestManyPullsAtOnce(t *testing.T) {
	primary := serve(t, "public", "")
	s := of(t, primary, "pull_only", `, "syncTriggers": ["on_pull"], "onPullMinIntervalMs": 0`)
	primary.write(`{"n":1}`)
	_, answer := s.do(http.MethodGet, "")
	require.Contains(t, answer, `{"n":1}`)
	before := primary.requests.Load()
	const pulls = 50
	var wg sync.WaitGroup
	primary.slow.Store(true) // so that the pulls meet
	for range pulls {
		wg.Go(func() {
			_, answer := s.do(http.MethodGet, "")
			require.Contains(t, answer, `{"n":1}`)
		})
	}
	wg.Wait()
	require.Less(t, primary.requests.Load()-before, int64(pulls))
}

func TestPushThrough(t *testing.T) {
	primary := serve(t, "public", "")
	s := of(t, primary, "push_through", "")
	status, answer := s.do(http.MethodPost, `{"data":{"n":1},"baseHash":null}`)
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, answer, `"hash":"`)
	data, _ := primary.has()
	require.Equal(t, `{"n":1}`, data)
	s.becomes(`{"n":1}`)
	status, answer = s.do(http.MethodPost, `{"data":{"n":2},"baseHash":null}`)
	require.Equal(t, http.StatusConflict, status)
	require.Equal(t, `{"error":"hash_mismatch"}`, answer)
	status, answer = s.do(http.MethodPost, `[]`)
	require.Equal(t, http.StatusBadRequest, status)
	require.Equal(t, `{"error":"Primary returned 400"}`, answer)
	primary.down.Store(true)
	status, answer = s.do(http.MethodPost, `{"data":{"n":2},"baseHash":null}`)
	require.Equal(t, http.StatusBadGateway, status)
	require.Equal(t, `{"error":"Failed to reach primary"}`, answer)
}

func TestPushOnly(t *testing.T) {
	primary := serve(t, "public", "")
	s := of(t, primary, "push_only", `, "syncTriggers": ["scheduled"], "intervalMs": 1`)
	s.write(`{"n":1}`)
	status, answer := s.do(http.MethodGet, "")
	require.Equal(t, http.StatusMethodNotAllowed, status)
	require.Equal(t, `{"error":"This collection is write-only on this server"}`, answer)
	require.Zero(t, primary.requests.Load())
}

func TestBidirectional(t *testing.T) {
	primary := serve(t, "public", "")
	s := of(t, primary, "bidirectional", "")
	s.write(`{"a":1,"o":{"x":1}}`) // before the other has anything
	primary.becomes(`{"a":1,"o":{"x":1}}`)
	s.sync()
	primary.write(`{"a":2,"o":{"x":1,"y":1},"theirs":1}`)
	s.write(`{"a":3,"o":{"x":5},"ours":1}`)
	s.becomes(`{"a":2,"o":{"x":5,"y":1},"ours":1,"theirs":1}`)
	primary.becomes(`{"a":2,"o":{"x":5,"y":1},"ours":1,"theirs":1}`)
	s.sync()

	// What one side removes stays removed.
	primary.write(`{"a":2,"ours":1}`)
	s.sync()
	s.becomes(`{"a":2,"ours":1}`)
	s.write(`{"ours":1}`)
	primary.becomes(`{"ours":1}`)

	// What is written while the other is down is there when it is back.
	primary.down.Store(true)
	s.write(`{"ours":2}`)
	require.Eventually(t, func() bool {
		return s.manager.Statuses()[0].Err != nil
	}, 5*time.Second, 10*time.Millisecond)
	primary.down.Store(false)
	s.sync()
	primary.becomes(`{"ours":2}`)
}

// Two that are in step with the same server come to the same, whoever writes when.
func TestManySides(t *testing.T) {
	primary := serve(t, "public", "")
	primary.write(`{}`)
	sides := []*server{of(t, primary, "bidirectional", ""), of(t, primary, "bidirectional", "")}
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range 60 {
		s := append(sides, primary)[rng.IntN(3)]
		_, hash := s.has()
		base := "null"
		if hash != "" {
			base = `"` + hash + `"`
		}
		// The document may have changed meanwhile, which is refused.
		s.do(
			http.MethodPost,
			fmt.Sprintf(
				`{"data":{"k%d":%d,"s":{"k%d":%d}},"baseHash":%s}`, rng.IntN(4), i, rng.IntN(4), i, base,
			),
		)
	}
	require.Eventually(t, func() bool {
		for _, s := range sides {
			if s.manager.SyncNow(t.Context(), s.config.Collections[0]) != nil {
				return false
			}
		}
		want, _ := primary.has()
		for _, s := range sides {
			if got, _ := s.has(); got != want {
				return false
			}
		}
		return true
	}, 20*time.Second, 10*time.Millisecond)
}

// A server whose collection is not for everybody lets in whoever has the passphrase.
func TestSigned(t *testing.T) {
	root, err := pairing.Root("correct horse battery staple")
	require.NoError(t, err)
	id, err := capcert.UserID(root.Key.Public)
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "passphrase")
	require.NoError(t, os.WriteFile(file, []byte("correct horse battery staple\n"), 0o600))
	primary := serve(t, "cap:write:*", "")
	_, err = primary.docs.Push(
		t.Context(), "posts/featured", value.NewObject(value.Member{Key: "by", Value: id}), nil, nil,
		false,
	)
	require.NoError(t, err)
	s := of(t, primary, "push_through", fmt.Sprintf(`, "passphraseFile": %q`, file))
	s.becomes(`{"by":"` + id + `"}`)
	s.write(`{"n":2}`)
	data, _ := primary.has()
	require.Equal(t, `{"n":2}`, data)

	stranger := of(t, primary, "pull_only", `, "headers": {"X-Token": "secret"}`)
	require.ErrorContains(
		t, stranger.manager.SyncNow(t.Context(), stranger.config.Collections[0]), "403",
	)
	c, err := config.Parse(
		fmt.Appendf(
			nil, posts, "public",
			`, "extensions": {"remotes": {"posts": {"url": "http://127.0.0.1:1", "pullPath": "/x", "writeMode": "pull_only", "passphraseFile": "/nowhere"}}}`,
		),
	)
	require.NoError(t, err)
	require.ErrorContains(t, stranger.manager.Set(c), "/nowhere")
}

func parse(t *testing.T, text string) *value.Object {
	o, err := value.ParseObject([]byte(text), value.MaxDepth)
	require.NoError(t, err)
	return o
}

func TestMerge(t *testing.T) {
	for _, x := range [][4]string{
		{`{}`, `{"a":1}`, `{"b":1}`, `{"a":1,"b":1}`},
		{`{"a":1}`, `{"a":2}`, `{"a":1}`, `{"a":2}`},
		{`{"a":1}`, `{"a":1}`, `{"a":2}`, `{"a":2}`},
		{`{"a":1}`, `{"a":2}`, `{"a":3}`, `{"a":3}`},
		{`{"a":1,"b":1}`, `{"a":1}`, `{"b":1}`, `{}`},
		{`{"a":1}`, `{}`, `{"a":2}`, `{"a":2}`},
		{`{"a":1}`, `{"a":2}`, `{}`, `{"a":2}`},
		{`{"o":{"x":1,"y":1}}`, `{"o":{"x":2,"y":1}}`, `{"o":{"x":1}}`, `{"o":{"x":2}}`},
		{`{"o":{"x":1}}`, `{"o":{"x":1}}`, `{"o":{}}`, `{"o":{}}`},
		{`{"a":[1]}`, `{"a":[1,2]}`, `{"a":[1,3]}`, `{"a":[1,3]}`},
	} {
		got := remote.Merge(parse(t, x[0]), parse(t, x[1]), parse(t, x[2]))
		require.Equal(t, x[3], string(value.AppendCanonical(nil, got)), "%q", x)
	}
	// Without what was, it is the merge of the published packages.
	ours, theirs := parse(t, `{"a":1,"o":{"x":1,"y":1},"l":[1]}`), parse(
		t, `{"a":2,"o":{"x":2,"z":1},"n":null}`,
	)
	require.Equal(
		t, value.Hash(value.Merge(ours, theirs)), value.Hash(remote.Merge(nil, ours, theirs)),
	)
}
