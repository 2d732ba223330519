package collections_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections"
	"github.com/skerry-sync/skerry/collections/access"
	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/collections/remote"
	"github.com/skerry-sync/skerry/collections/store"
)

// piped is a listener whose connections are pipes, for which a fake clock counts.
type piped struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPiped() *piped { return &piped{conns: make(chan net.Conn), closed: make(chan struct{})} }

func (p *piped) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *piped) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *piped) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 80} }

func (p *piped) dial() net.Conn {
	here, there := net.Pipe()
	p.conns <- there
	return here
}

// slowly serves a handler with a time limit, hands over connections, and stops.
func slowly(t *testing.T, h http.Handler, timeout time.Duration, do func(dial func() net.Conn)) {
	p := newPiped()
	srv := &http.Server{
		Handler: wrap(
			t, h, collections.Wrapping{Timeout: timeout, Compress: true, Headers: true},
		),
		ReadHeaderTimeout: timeout,
		ErrorLog:          slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(collections.HeaderTimeouts(srv, p))
	}()
	defer func() {
		require.NoError(t, srv.Close())
		<-done
	}()
	do(p.dial)
}

// drip sends text at once and then a byte each second, until the peer has had enough.
func drip(c net.Conn, text string) {
	_, err := io.WriteString(c, text)
	for err == nil {
		time.Sleep(time.Second)
		_, err = io.WriteString(c, " ")
	}
}

func answerOf(t *testing.T, c net.Conn) (status int, body string) {
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	require.NoError(t, err)
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.NoError(t, c.Close())
	return resp.StatusCode, string(b)
}

const limit = 2500 * time.Millisecond // between two bytes that drip

// Whoever sends a request slowly is told that its time is over when it is, whichever part is slow.
func TestSlowRequests(t *testing.T) {
	for name, text := range map[string]string{
		"headers": "GET /pull/notes/a HTTP/1.1\r\nHost: x\r\nX-Slow: ",
		"a document": "POST /push/notes/a HTTP/1.1\r\n" +
			"Host: x\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n{",
		"chunks": "POST /push/notes/a HTTP/1.1\r\n" +
			"Host: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n384\r\n{",
		"a file": "POST /push/files/a HTTP/1.1\r\n" +
			"Host: x\r\nContent-Type: image/png\r\nContent-Length: 900\r\n\r\nx",
		"revocations": "POST /revocations HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\n{",
		"a signed one": "POST /push/mine/abc HTTP/1.1\r\nHost: x\r\n" +
			"Content-Type: application/json\r\nContent-Length: 900\r\n\r\n{",
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, []byte(open), func(o *collections.Options) {
				o.Resolver = access.ResolverFunc(
					func(_ context.Context, r *access.Request) (access.Auth, error) {
						_, err := r.Body()
						return access.Anonymous, err
					},
				)
				revocations, err := access.NewRevocations(t.Context(), nil, nil)
				require.NoError(t, err)
				o.Revocations = revocations
			})
			slowly(t, w, limit, func(dial func() net.Conn) {
				began := time.Now()
				c := dial()
				dripped := make(chan struct{})
				go func() {
					defer close(dripped)
					drip(c, text)
				}()
				defer func() {
					_ = c.Close()
					<-dripped
				}()
				status, body := answerOf(t, c)
				require.Equal(t, http.StatusRequestTimeout, status, "%s: %s", name, body)
				require.JSONEq(t, `{"error":"Request timeout"}`, body, name)
				require.Equal(t, limit, time.Since(began), name)
			})
		})
	}
}

// The next request on a connection has a time limit of its own.
func TestTimeLimitOfEachRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, []byte(open), nil)
		slowly(t, w, limit, func(dial func() net.Conn) {
			c := dial()
			answers := bufio.NewReader(c)
			for i := range 5 {
				body := fmt.Sprintf(`{"data":{"n":%d},"baseHash":null}`, i)
				_, err := fmt.Fprintf(
					c,
					"POST /push/notes/%d HTTP/1.1\r\n"+
						"Host: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n",
					i, len(body),
				)
				require.NoError(t, err)
				time.Sleep(limit - time.Second)
				_, err = io.WriteString(c, body)
				require.NoError(t, err)
				resp, err := http.ReadResponse(answers, nil)
				require.NoError(t, err)
				_, err = io.Copy(io.Discard, resp.Body)
				require.NoError(t, err)
				require.NoError(t, resp.Body.Close())
				require.Equal(t, http.StatusOK, resp.StatusCode)
				time.Sleep(limit - time.Second) // nobody is hurried between two
			}
			require.NoError(t, c.Close())
		})
	})
}

// stuck is a store that answers nobody before it must.
type stuck struct{ store.Store }

func (stuck) Get(ctx context.Context, _ string) (*store.Object, error) {
	<-ctx.Done()
	return nil, fmt.Errorf("connection lost: %w", ctx.Err())
}

func (stuck) Put(ctx context.Context, _ string, _ *store.Object, _ store.Condition) error {
	<-ctx.Done()
	return fmt.Errorf("connection lost: %w", ctx.Err())
}

func (stuck) List(ctx context.Context, _, _ string, _ int) ([]string, error) {
	<-ctx.Done()
	return nil, fmt.Errorf("connection lost: %w", ctx.Err())
}

// A store or another server that does not answer costs callers no more than their time, and neither
// does waiting for one's turn behind somebody whom a store keeps waiting.
func TestSlowStoresAndServers(t *testing.T) {
	post := func(path, media string) string {
		return "POST " + path + " HTTP/1.1\r\nHost: x\r\nContent-Type: " + media +
			"\r\nContent-Length: 11\r\n\r\n{\"data\":{}}"
	}
	get := func(path string) string { return "GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n" }
	for _, text := range []string{
		get("/pull/notes/a"), get("/pull/files/a"), get("/list/notes"), get("/pull/log/a?full=true"),
		get(`/batch/pull?collections=notes&params={"notes":[{"id":"a"}]}`),
		post("/push/notes/a", "application/json"), post("/push/files/a", "image/png"),
		post("/push/log/a", "application/json"),
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, []byte(open), func(o *collections.Options) {
				o.Documents = document.In(stuck{store.NewMemory()}, nil)
			})
			slowly(t, w, limit, func(dial func() net.Conn) {
				began := time.Now()
				first, second := dial(), dial()
				for _, c := range []net.Conn{first, second} {
					_, err := io.WriteString(c, text)
					require.NoError(t, err)
				}
				for _, c := range []net.Conn{first, second} {
					status, body := answerOf(t, c)
					require.Equal(t, http.StatusRequestTimeout, status, "%s: %s", text, body)
				}
				require.Equal(t, limit, time.Since(began), text)
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		const through = `, "extensions": {"remotes": {"notes": {"url": "http://primary.example", "pullPath": "/x", "pushPath": "/x", "writeMode": "push_through"}}}}`
		text := strings.Replace(strings.TrimSuffix(open, "}"), "notes/{id}", "notes/a", 1)
		text = strings.Replace(text, `, "listable": true`, "", 1) + through
		hang := &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		})}
		var m *remote.Manager
		w := newWorld(t, []byte(text), func(o *collections.Options) {
			m = remote.New(o.Documents, hang, o.Log)
			o.Hooks = append(o.Hooks, m.Hook())
		})
		require.NoError(t, m.Set(w.Config()))
		slowly(t, w, limit, func(dial func() net.Conn) {
			began := time.Now()
			c := dial()
			_, err := io.WriteString(c, post("/push/notes/a", "application/json"))
			require.NoError(t, err)
			status, body := answerOf(t, c)
			require.Equal(t, http.StatusRequestTimeout, status, body)
			require.Equal(t, limit, time.Since(began))
		})
		m.Close()
	})
}

type roundTrip func(r *http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
