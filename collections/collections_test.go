package collections_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dlclark/regexp2/v2"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/skerry-sync/skerry/collections"
	"github.com/skerry-sync/skerry/collections/access"
	"github.com/skerry-sync/skerry/collections/capcert"
	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/store/encrypted"
	"github.com/skerry-sync/skerry/collections/value"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(tests{m}) }

// tests end the clock of regexp2, which goes on for a second after patterns were matched.
type tests struct{ *testing.M }

func (t tests) Run() int {
	defer regexp2.StopTimeoutClock()
	return t.M.Run()
}

const open = `{"version": 1, "collections": [
	{"name": "notes", "storagePath": "notes/{id}", "readRoles": ["public"], "writeRoles": ["public"], "encryption": "none", "maxBodyBytes": 1000, "listable": true},
	{"name": "log", "storagePath": "log/{id}", "readRoles": ["public"], "writeRoles": ["public"], "encryption": "none", "maxBodyBytes": 1000, "appendOnly": {"requireAuthorSignature": false}},
	{"name": "files", "storagePath": "files/{id}", "readRoles": ["public"], "writeRoles": ["public"], "encryption": "none", "maxBodyBytes": 1000, "allowedMimeTypes": ["image/*"]},
	{"name": "mine", "storagePath": "mine/{identity}", "readRoles": ["self"], "writeRoles": ["self"], "encryption": "none", "maxBodyBytes": 1000}]}`

func ask(h http.Handler, method, path, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, r)
	return rec
}

// A body without a length is cut off where it becomes too long.
func TestBodyOverTheLimit(t *testing.T) {
	w := newWorld(t, []byte(open), nil)
	srv := httptest.NewServer(w)
	defer srv.Close()
	read := &endless{}
	resp, err := http.Post(srv.URL+"/push/notes/a", "application/json", struct{ io.Reader }{read})
	if err == nil { // or the connection was closed before all of it was taken
		require.Equal(t, http.StatusRequestEntityTooLarge, resp.StatusCode)
		require.NoError(t, resp.Body.Close())
	}
	require.Less(t, read.n.Load(), int64(32<<20))
	rec := ask(w, "GET", "/pull/notes/a", "")
	require.Contains(t, rec.Body.String(), `"hash":""`)
	http.DefaultClient.CloseIdleConnections()
}

type endless struct{ n atomic.Int64 } // bytes taken

func (e *endless) Read(b []byte) (int, error) {
	if e.n.Add(int64(len(b))) > 64<<20 {
		return 0, errors.New("all of it is taken")
	}
	for i := range b {
		b[i] = 'x'
	}
	return len(b), nil
}

// broken is a store that fails.
type broken struct{ store.Store }

var errBroken = errors.New("secret detail of the store")

func (broken) Get(context.Context, string) (*store.Object, error) { return nil, errBroken }
func (broken) List(context.Context, string, string, int) ([]string, error) {
	return nil, errBroken
}
func (broken) Put(context.Context, string, *store.Object, store.Condition) error {
	return errBroken
}

// A store that fails is answered for with 500, and what it says is not told to callers.
func TestBrokenStore(t *testing.T) {
	w := newWorld(t, []byte(open), func(o *collections.Options) {
		o.Documents = document.In(broken{store.NewMemory()}, nil)
	})
	for _, rec := range []*httptest.ResponseRecorder{
		ask(w, "GET", "/pull/notes/a", ""), ask(w, "POST", "/push/notes/a", `{"data":{}}`),
		ask(w, "GET", "/list/notes", ""), ask(w, "POST", "/push/log/a", `{"data":{}}`),
		ask(w, "GET", "/pull/files/a", ""),
		ask(w, "POST", "/push/files/a", "x", "Content-Type", "image/png"),
	} {
		require.Equal(t, http.StatusInternalServerError, rec.Code)
		require.JSONEq(t, `{"error":"Internal Server Error"}`, rec.Body.String())
	}
	rec := ask(w, "GET", `/batch/pull?collections=notes&params={"notes":[{"id":"a"}]}`, "")
	require.Equal(t, http.StatusOK, rec.Code)
	require.JSONEq(t, `{"collections":{"notes":[{"error":"Internal error"}]}}`, rec.Body.String())
}

// What is stored and cannot be read is as if it was not there, and can be written over.
func TestCorruptDocument(t *testing.T) {
	w := newWorld(t, []byte(open), nil)
	require.NoError(
		t, w.store.Put(t.Context(), "notes/a", &store.Object{Body: []byte("{")}, store.Whatever),
	)
	require.Contains(t, ask(w, "GET", "/pull/notes/a", "").Body.String(), `{"data":{},"hash":""`)
	require.Equal(
		t, http.StatusConflict, ask(w, "POST", "/push/notes/a", `{"data":{},"baseHash":null}`).Code,
	)
	require.Equal(t, http.StatusOK, ask(w, "POST", "/push/notes/a", `{"data":{},"baseHash":""}`).Code)
}

// A file is served in parts, and never taken for a page.
func TestFileRange(t *testing.T) {
	w := newWorld(t, []byte(open), nil)
	require.Equal(
		t, http.StatusOK, ask(w, "POST", "/push/files/a", "0123456789", "Content-Type", "image/png").Code,
	)
	rec := ask(w, "GET", "/pull/files/a", "", "Range", "bytes=2-4")
	require.Equal(t, http.StatusPartialContent, rec.Code)
	require.Equal(t, "234", rec.Body.String())
	require.Equal(t, "nosniff", rec.Header().Get("X-Content-Type-Options"))
	rec = ask(w, "GET", "/pull/files/a", "", "If-None-Match", rec.Header().Get("ETag"))
	require.Equal(t, http.StatusNotModified, rec.Code)
}

// record is an auditor and hooks that remember.
type record struct {
	mu      sync.Mutex
	entries []collections.AuditEntry
	events  []collections.Event
}

func (r *record) Record(_ context.Context, e collections.AuditEntry) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.entries = append(r.entries, e)
	return errors.New("the record is full") // which nobody is told
}

func TestHooksAndAudit(t *testing.T) {
	r := &record{}
	w := newWorld(t, []byte(open), func(o *collections.Options) {
		o.Audit = r
		o.Hooks = []collections.Hook{{
			BeforePull: func(_ context.Context, e *collections.Event) error {
				if e.Key == "notes/shut" {
					return &collections.RefusedError{Status: http.StatusMethodNotAllowed, Reason: "shut"}
				}
				return nil
			},
			BeforePush: func(
				_ context.Context, e *collections.Event, body []byte,
			) (*collections.Answer, error) {
				if e.Key == "notes/elsewhere" {
					return &collections.Answer{Status: http.StatusConflict, Body: string(body)}, nil
				}
				return nil, nil
			},
			AfterWrite: func(ctx context.Context, e *collections.Event) error {
				r.events = append(r.events, *e)
				return errors.New("the queue is away") // which nobody is told
			},
		}}
	})
	require.Equal(t, http.StatusMethodNotAllowed, ask(w, "GET", "/pull/notes/shut", "").Code)
	rec := ask(w, "POST", "/push/notes/elsewhere", `{"data":{}}`)
	require.Equal(t, http.StatusConflict, rec.Code)
	require.Equal(t, `"{\"data\":{}}"`, rec.Body.String())
	require.Equal(t, http.StatusOK, ask(w, "POST", "/push/notes/a", `{"data":{"x":1}}`).Code)
	require.Equal(
		t, http.StatusOK, ask(w, "POST", "/push/files/a", "x", "Content-Type", "image/png").Code,
	)
	require.Equal(
		t, http.StatusUnauthorized, ask(w, "GET", "/pull/mine/a", "", "Authorization", "Cap x").Code,
	)
	require.Len(t, r.events, 2)
	require.Equal(t, "notes/a", r.events[0].Key)
	require.Equal(t, 1, r.events[0].Data.Len())
	require.NotZero(t, r.events[0].Time)
	require.NotEmpty(t, r.events[1].Hash)
	var got []int
	for _, e := range r.entries {
		got = append(got, e.Status)
	}
	require.Equal(t, []int{405, 409, 200, 200, 401}, got)
}

// A hook that panics costs one answer.
func TestPanic(t *testing.T) {
	w := newWorld(t, []byte(open), func(o *collections.Options) {
		o.Hooks = []collections.Hook{{BeforePull: func(_ context.Context, e *collections.Event) error {
			if e.Key == "notes/abort" {
				panic(http.ErrAbortHandler)
			}
			panic("a mistake")
		}}}
	})
	rec := ask(w, "GET", "/pull/notes/a", "")
	require.Equal(t, http.StatusInternalServerError, rec.Code)
	require.Equal(t, `{"error":"Internal Server Error"}`, rec.Body.String())
	require.PanicsWithValue(t, http.ErrAbortHandler, func() { ask(w, "GET", "/pull/notes/abort", "") })
}

// A new configuration counts for what comes from then on; a bad one changes nothing.
func TestReload(t *testing.T) {
	w := newWorld(t, []byte(open), nil)
	c, err := config.Parse([]byte(strings.ReplaceAll(open, "notes", "texts")))
	require.NoError(t, err)
	require.NoError(t, w.Reload(c))
	require.Equal(t, http.StatusNotFound, ask(w, "GET", "/pull/notes/a", "").Code)
	require.Equal(t, http.StatusOK, ask(w, "GET", "/pull/texts/a", "").Code)
	bad, err := config.Parse(
		[]byte(strings.Replace(open, `"listable": true`, `"objectSchema": {"type": "nonsense"}`, 1)),
	)
	require.NoError(t, err)
	var invalid *config.InvalidError
	require.ErrorAs(t, w.Reload(bad), &invalid)
	require.Contains(t, invalid.Problems[0], `collection "notes": objectSchema`)
	require.Same(t, c, w.Config())
	_, err = collections.New(c, bare(func(o *collections.Options) { o.Prefix = "v1/" }))
	require.Error(t, err)
}

// Behind a proxy the caller's address is the one that it has added, and the host the one that
// callers know.
func TestBehindAProxy(t *testing.T) {
	limited := strings.Replace(
		open, `"listable": true`,
		`"rateLimit": {"pull": {"windowMs": 60000, "maxRequests": 1, "bucket": "ip"}}`, 1,
	)
	pull := func(w *world, forwarded string) *httptest.ResponseRecorder {
		return ask(w, "GET", "/pull/notes/a", "", "X-Forwarded-For", forwarded)
	}
	w := newWorld(t, []byte(limited), nil)
	require.Equal(t, http.StatusOK, pull(w, "192.0.2.1").Code)
	rec := pull(w, "192.0.2.2")
	require.Equal(
		t, http.StatusTooManyRequests, rec.Code, "what a caller says of itself counts for nothing",
	)
	require.Equal(t, "60", rec.Header().Get("Retry-After"))
	w = newWorld(t, []byte(limited), func(o *collections.Options) { o.ProxyHops = 1 })
	require.Equal(t, http.StatusOK, pull(w, "192.0.2.1").Code)
	require.Equal(t, http.StatusOK, pull(w, "192.0.2.1, 192.0.2.2").Code)
	require.Equal(t, http.StatusTooManyRequests, pull(w, "198.51.100.7, 192.0.2.1").Code)

	key, err := capcert.NewKey(bytes.Repeat([]byte{1}, 32))
	require.NoError(t, err)
	id, err := capcert.UserID(key.Public)
	require.NoError(t, err)
	origin, err := url.Parse("https://sync.example")
	require.NoError(t, err)
	for _, o := range []*url.URL{nil, origin} {
		w := newWorld(t, []byte(open), func(opts *collections.Options) { opts.Origin = o })
		cert, err := capcert.MintDevice(
			key, capcert.Subject{Key: key.Public, KEM: "00"}, capcert.RootScope(),
			capcert.Terms{NotBefore: w.now.Unix(), Expires: w.now.Unix() + 10, Nonce: make([]byte, 16)},
		)
		require.NoError(t, err)
		req := capcert.Request{Method: "GET", PathAndQuery: "/pull/mine/" + id, Host: "sync.example"}
		sig := req.Sign(key, w.now.UnixMilli(), make([]byte, 16))
		rec := ask(
			w, "GET", "/pull/mine/"+id, "", "Authorization", cert.Authorization(), access.HeaderSignature,
			sig.Signature, access.HeaderTime, "1700000000000", access.HeaderNonce, sig.Nonce,
		)
		if o == nil {
			require.Equal(t, http.StatusUnauthorized, rec.Code)
		} else {
			require.Equal(t, http.StatusOK, rec.Code)
		}
	}
}

// A resolver of one's own says who a caller is; one that takes too long is not waited for.
// bare are options of a server that keeps documents in memory and knows nobody.
func bare(set ...func(*collections.Options)) collections.Options {
	o := collections.Options{Documents: document.In(store.NewMemory(), nil),
		Resolver: access.ResolverFunc(func(context.Context, *access.Request) (access.Auth, error) {
			return access.Anonymous, nil
		})}
	for _, fn := range set {
		fn(&o)
	}
	return o
}

// A server that would let in nobody, keep nothing, or keep in clear what is to be encrypted, is not
// made; nor does one become such by another configuration.
func TestServersThatAreNotMade(t *testing.T) {
	plain, err := config.Parse([]byte(open))
	require.NoError(t, err)
	sealed, err := config.Parse(configOf(strings.Replace(
		column("mine", "mine/{identity}", `"self"`, `"self"`, ""), `"none"`, `"identity"`, 1)))
	require.NoError(t, err)
	for name, set := range map[string]func(*collections.Options){
		"documents": func(o *collections.Options) { o.Documents = nil },
		"resolver":  func(o *collections.Options) { o.Resolver = nil },
	} {
		_, err := collections.New(plain, bare(set))
		require.Error(t, err, name)
	}
	_, err = collections.New(sealed, bare())
	require.ErrorContains(t, err, `collection "mine"`)
	s, err := collections.New(plain, bare())
	require.NoError(t, err)
	require.Error(t, s.Reload(sealed))
	require.Same(t, plain, s.Config())
	codec, err := encrypted.New(sealed, encrypted.Secrets{Identity: []string{"a secret of the test"}})
	require.NoError(t, err)
	_, err = collections.New(sealed, bare(func(o *collections.Options) {
		o.Documents = document.In(store.Coded(store.NewMemory(), codec), nil)
	}))
	require.NoError(t, err)
}

func TestOwnResolver(t *testing.T) {
	var resolve access.ResolverFunc
	w := newWorld(t, []byte(open), func(o *collections.Options) {
		o.ResolveWithin = 10 * time.Millisecond
		o.Resolver = access.ResolverFunc(
			func(ctx context.Context, r *access.Request) (access.Auth, error) {
				return resolve(ctx, r)
			},
		)
	})
	resolve = func(_ context.Context, r *access.Request) (access.Auth, error) {
		return access.Auth{Identity: r.HTTP.Header.Get("X-User"), Roles: []string{"user"}}, nil
	}
	require.Equal(t, http.StatusOK, ask(w, "GET", "/pull/mine/alice", "", "X-User", "alice").Code)
	require.Equal(t, http.StatusForbidden, ask(w, "GET", "/pull/mine/alice", "", "X-User", "bob").Code)
	resolve = func(ctx context.Context, _ *access.Request) (access.Auth, error) {
		<-ctx.Done()
		return access.Auth{}, ctx.Err()
	}
	require.Equal(t, http.StatusServiceUnavailable, ask(w, "GET", "/pull/mine/alice", "").Code)
	resolve = func(context.Context, *access.Request) (access.Auth, error) {
		return access.Auth{}, errors.New("the directory is away")
	}
	require.Equal(t, http.StatusInternalServerError, ask(w, "GET", "/pull/mine/alice", "").Code)
}

// A role that cannot be found out now matters to those alone whose other roles are not enough.
func TestUnavailableRoles(t *testing.T) {
	var wrote bool
	w := newWorld(t, []byte(`{"version": 1, "collections": [
		{"name": "shop", "storagePath": "shop/{id}", "readRoles": ["member"], "writeRoles": ["owner"], "encryption": "none", "maxBodyBytes": 1000},
		{"name": "one", "storagePath": "both/{id}", "bundle": "b", "readRoles": ["member"], "writeRoles": ["owner"], "encryption": "none", "maxBodyBytes": 1000},
		{"name": "two", "storagePath": "both/{id}", "bundle": "b", "readRoles": ["owner"], "writeRoles": ["owner"], "encryption": "none", "maxBodyBytes": 1000}]}`),
		func(o *collections.Options) {
			o.Resolver = access.ResolverFunc(func(context.Context, *access.Request) (access.Auth, error) {
				return access.Auth{Identity: "alice", Roles: []string{"user"}}, nil
			})
			known := func(context.Context, *access.Auth, access.Place) ([]string, error) {
				return []string{"member"}, nil
			}
			away := func(_ context.Context, _ *access.Auth, at access.Place) ([]string, error) {
				wrote = at.Write
				return nil, &access.UnavailableError{
					Reason: "Chain unavailable", RetryAfter: 90 * time.Second, Err: errors.New("away"),
				}
			}
			o.Enricher = access.Compose(known, away)
		})
	require.Equal(t, http.StatusOK, ask(w, "GET", "/pull/shop/1", "").Code)
	require.False(t, wrote)
	refused := func(got *httptest.ResponseRecorder) {
		t.Helper()
		require.Equal(t, http.StatusServiceUnavailable, got.Code)
		require.JSONEq(t, `{"error":"Chain unavailable"}`, got.Body.String())
		require.Equal(t, "90", got.Header().Get("Retry-After"))
	}
	refused(ask(w, "POST", "/push/shop/1", `{"data":{},"baseHash":null}`))
	require.True(t, wrote)
	refused(ask(w, "GET", "/pull/both/1", ""))
}

// Whatever path is asked for, nothing but parameters of safe characters reaches the store.
func FuzzPath(f *testing.F) {
	for _, p := range []string{
		"/pull/notes/a", "/pull/notes/%2e%2e", "/pull/notes/a%2fb", "/pull/notes/..",
		"/list/notes?limit=5&after=..%2f", "/pull/files/%00",
		"/batch/pull?collections=notes&params=%7B%22notes%22%3A%5B%7B%22id%22%3A%22..%22%7D%5D%7D",
		"/pull/log/x?checkpoint=5&limit=9",
	} {
		f.Add(p)
	}
	c, err := config.Parse([]byte(open))
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, path string) {
		u, err := url.ParseRequestURI(path)
		if err != nil || !strings.HasPrefix(path, "/") {
			return
		}
		check := func(key string) {
			require.NotContains(t, key, "..")
			require.NotContains(t, key, "//")
			require.Equal(t, strings.Map(func(r rune) rune {
				if r < 0x20 || r > 0x7e {
					return -1
				}
				return r
			}, key), key)
		}
		s := &store.Funcs{OnGet: func(_ context.Context, key string) (*store.Object, error) {
			check(key)
			require.GreaterOrEqual(t, strings.Count(key, "/"), 1)
			return nil, store.ErrNotFound
		},
			OnList: func(_ context.Context, prefix, _ string, _ int) ([]string, error) {
				check(prefix)
				return nil, nil
			}}
		srv, err := collections.New(
			c,
			collections.Options{
				Documents: document.In(s, nil),
				Resolver: access.ResolverFunc(func(context.Context, *access.Request) (access.Auth, error) {
					return access.Anonymous, nil
				}),
			},
		)
		require.NoError(t, err)
		rec := httptest.NewRecorder()
		srv.ServeHTTP(
			rec,
			&http.Request{
				Method: "GET", URL: u, Host: "x", Header: http.Header{}, Body: http.NoBody,
				RemoteAddr: net.JoinHostPort("127.0.0.1", "1"),
			},
		)
		require.Less(t, rec.Code, 500)
	})
}

func newRevocations(t *testing.T) *access.Revocations {
	r, err := access.NewRevocations(t.Context(), nil, nil)
	require.NoError(t, err)
	return r
}

func signedRevocations(t *testing.T, generation int64) string {
	key, err := capcert.NewKey(bytes.Repeat([]byte{1}, 32))
	require.NoError(t, err)
	l, err := capcert.SignRevocations(key, generation, nil, []string{"x"})
	require.NoError(t, err)
	return string(value.Append(nil, l.Object()))
}
