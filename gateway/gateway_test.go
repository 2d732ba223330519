package gateway

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	ma "github.com/multiformats/go-multiaddr"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/directory"
	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/node/content"
	"github.com/skerry-sync/skerry/node/libp2pnet"
	"github.com/skerry-sync/skerry/node/limits"
	"github.com/skerry-sync/skerry/ticket"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.DiscardHandler)

func start(t *testing.T) (*node.Node, *Listener) {
	n, _, l := startWith(t, node.Config{})
	return n, l
}

func startWith(t *testing.T, cfg node.Config) (*node.Node, *Gateway, *Listener) {
	cfg.Dir = t.TempDir()
	n, err := node.Open(t.Context(), cfg)
	require.NoError(t, err)
	addr, err := ma.NewMultiaddr("/ip4/127.0.0.1/tcp/0")
	require.NoError(t, err)
	net, err := libp2pnet.New(libp2pnet.Config{Key: n.Key(), Listen: []ma.Multiaddr{addr}, Log: quiet})
	require.NoError(t, err)
	require.NoError(t, n.GoOnline(net))
	g := New(n, quiet)
	l, err := Listen(g, "0")
	require.NoError(t, err)
	require.True(
		t, strings.HasPrefix(l.URL, "http://127.0.0.1:"),
		"on the loopback interface, unless told otherwise",
	)
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		require.NoError(t, l.Close())
		require.NoError(t, n.Close())
	})
	return n, g, l
}

// get asks for a path; headers come in pairs.
func get(t *testing.T, l *Listener, path string, headers ...string) (*http.Response, []byte) {
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, l.URL+path, nil)
	require.NoError(t, err)
	for i := 0; i < len(headers); i += 2 {
		if req.Header.Set(headers[i], headers[i+1]); headers[i] == "Host" {
			req.Host = headers[i+1]
		}
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp, b
}

func TestBlob(t *testing.T) {
	n, l := start(t)
	data := testkit.Random(7, 3<<20)
	info, err := n.Blobs().ImportBytes(t.Context(), data)
	require.NoError(t, err)
	at := "/blobs/" + info.Hash.String()
	resp, b := get(t, l, at)
	require.Equal(t, 200, resp.StatusCode)
	require.True(t, bytes.Equal(data, b))
	require.Equal(t, `"`+info.Hash.String()+`"`, resp.Header.Get("ETag"))
	require.Contains(t, resp.Header.Get("Cache-Control"), "immutable")
	require.Equal(t, "application/octet-stream", resp.Header.Get("Content-Type"))

	resp, b = get(t, l, at, "Range", "bytes=1000000-1000099")
	require.Equal(t, 206, resp.StatusCode)
	require.Equal(t, data[1000000:1000100], b)
	require.Equal(t, "bytes 1000000-1000099/3145728", resp.Header.Get("Content-Range"))
	resp, b = get(t, l, at, "Range", "bytes=-5")
	require.Equal(t, 206, resp.StatusCode)
	require.Equal(t, data[len(data)-5:], b)
	resp, _ = get(t, l, at, "Range", "bytes=-0")
	require.Equal(t, 416, resp.StatusCode)
	require.Equal(t, "bytes */3145728", resp.Header.Get("Content-Range"))
	resp, _ = get(t, l, at, "Range", "bytes=9999999-")
	require.Equal(t, 416, resp.StatusCode)
	resp, b = get(t, l, at, "If-None-Match", `"`+info.Hash.String()+`"`)
	require.Equal(t, 304, resp.StatusCode)
	require.Empty(t, b)

	head, err := http.Head(l.URL + at)
	require.NoError(t, err)
	require.NoError(t, head.Body.Close())
	require.EqualValues(t, len(data), head.ContentLength)

	html, err := n.Blobs().ImportBytes(t.Context(), []byte("<!doctype html><script>alert(1)</script>"))
	require.NoError(t, err)
	resp, _ = get(t, l, "/blobs/"+html.Hash.String())
	require.Equal(t, "text/html; charset=utf-8", resp.Header.Get("Content-Type"))
	require.Equal(t, "sandbox", resp.Header.Get("Content-Security-Policy"))

	for path, status := range map[string]int{
		"/blobs/zz": 400, "/blobs/" + blobs.HashOf([]byte("nowhere")).String(): 404, "/nothing": 404,
		"/seq/" + html.Hash.String(): 404, "/seq/" + html.Hash.String() + "/x": 404,
	} {
		resp, b := get(t, l, path)
		require.Equal(t, status, resp.StatusCode, "%s: %s", path, b)
		require.Empty(t, resp.Header.Get("ETag"))
	}
	post, err := http.Post(l.URL+at, "text/plain", strings.NewReader("x"))
	require.NoError(t, err)
	require.NoError(t, post.Body.Close())
	require.Equal(t, 405, post.StatusCode)

	// A page of another name that is made to point here reads nothing.
	resp, _ = get(t, l, at, "Host", "evil.example")
	require.Equal(t, 421, resp.StatusCode)
	resp, _ = get(t, l, at, "Host", "localhost:1234")
	require.Equal(t, 200, resp.StatusCode)
}

func TestDirectory(t *testing.T) {
	n, l := start(t)
	dir := t.TempDir()
	large := testkit.Random(7, 9<<20)
	for name, content := range map[string][]byte{
		"index.html": []byte("<h1>hello</h1>"), "sub/a b#c?.txt": []byte("text"),
		"sub/deep/x.json": []byte("{}"), "film.mp4": large,
	} {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), content, 0o644))
	}
	require.NoError(t, os.Mkdir(filepath.Join(dir, "empty"), 0o755))
	require.NoError(t, os.Symlink("sub/deep/x.json", filepath.Join(dir, "link.json")))
	info, err := directory.Import(t.Context(), n.Blobs(), dir, directory.ImportOptions{})
	require.NoError(t, err)
	require.Equal(t, 1, info.Chunked)
	at := "/seq/" + info.Hash.String()

	resp, b := get(t, l, at)
	require.Equal(t, 200, resp.StatusCode)
	require.Equal(t, at+"/", resp.Request.URL.Path, "sent on to where names are relative")
	require.Contains(t, string(b), `href="./film.mp4"`)
	resp, b = get(t, l, at+"/sub/")
	require.Equal(t, 200, resp.StatusCode)
	require.Contains(t, string(b), `href="./a%20b%23c%3F.txt"`)
	_, b = get(t, l, at+"/", "Accept", "application/json")
	require.JSONEq(t, `[
		{"name":"empty","href":"./empty/","kind":"directory","size":0},
		{"name":"film.mp4","href":"./film.mp4","kind":"file","size":9437184},
		{"name":"index.html","href":"./index.html","kind":"file","size":14},
		{"name":"link.json","href":"./link.json","kind":"link","size":0,"target":"sub/deep/x.json"},
		{"name":"sub","href":"./sub/","kind":"directory","size":6}]`, string(b))

	resp, b = get(t, l, at+"/sub/a%20b%23c%3F.txt")
	require.Equal(t, 200, resp.StatusCode)
	require.Equal(t, "text", string(b))
	require.Contains(t, resp.Header.Get("Content-Type"), "text/plain")
	require.Equal(t, `"`+blobs.HashOf([]byte("text")).String()+`"`, resp.Header.Get("ETag"))
	resp, b = get(t, l, at+"/link.json")
	require.Equal(t, "{}", string(b))
	require.Contains(t, resp.Header.Get("Content-Type"), "json")

	// A film in chunks: any part of it.
	resp, b = get(t, l, at+"/film.mp4", "Range", "bytes=5000000-5999999")
	require.Equal(t, 206, resp.StatusCode)
	require.Equal(t, "video/mp4", resp.Header.Get("Content-Type"))
	require.True(t, bytes.Equal(large[5000000:6000000], b))

	resp, _ = get(t, l, at+"/empty/")
	require.Equal(t, 200, resp.StatusCode)
	for _, path := range []string{"/nothing", "/sub/nothing/", "/film.mp4/x"} {
		resp, _ := get(t, l, at+path)
		require.Equal(t, 404, resp.StatusCode, path)
	}
	// A sequence that is no directory: its children by number.
	seq, err := n.Blobs().ImportBytes(t.Context(), blobs.Sequence{blobs.EmptyHash, info.Hash}.Bytes())
	require.NoError(t, err)
	resp, b = get(t, l, "/seq/"+seq.Hash.String()+"/1")
	require.Equal(t, 200, resp.StatusCode)
	require.Equal(t, info.Hash, blobs.HashOf(b))
	resp, _ = get(t, l, "/seq/"+seq.Hash.String()+"/2")
	require.Equal(t, 404, resp.StatusCode)
}

// connect has one node fetch a little from another.
func connect(t *testing.T, from, to *node.Node) {
	t.Helper()
	other, err := to.Blobs().ImportBytes(t.Context(), []byte("for the connection"))
	require.NoError(t, err)
	_, err = from.Get(
		t.Context(), other.Hash, content.Raw, (&ticket.Blob{Addrs: to.Addrs()}).Peers(), nil,
	)
	require.NoError(t, err)
}

// What is not here is fetched while it is read, and no more than that.
func TestFetchesWhatIsRead(t *testing.T) {
	a, _ := start(t)
	b, l := start(t)
	ctx := context.Background()
	data := testkit.Random(7, 32<<20)
	info, err := a.Blobs().ImportBytes(ctx, data)
	require.NoError(t, err)
	connect(t, b, a)

	resp, got := get(t, l, "/blobs/"+info.Hash.String(), "Range", "bytes=20000000-20065535")
	require.Equal(t, 206, resp.StatusCode)
	require.True(t, bytes.Equal(data[20000000:20065536], got))
	st, err := b.Blobs().Stat(ctx, info.Hash)
	require.NoError(t, err)
	require.Less(t, st.Present, uint64(1<<20))
	_, got = get(t, l, "/blobs/"+info.Hash.String())
	require.True(t, bytes.Equal(data, got))
}

// counter counts what is written, and calls full at a number of bytes.
type counter struct {
	http.ResponseWriter
	bytes, most int
	full        func()
}

func (c *counter) Write(b []byte) (int, error) {
	if c.bytes += len(b); c.bytes >= c.most {
		c.full()
	}
	return len(b), nil
}

// A gateway that others can reach sends no faster than the node may upload; one for this machine
// does.
func TestUploadLimit(t *testing.T) {
	const limit, size = 64 << 10, 4 << 20
	n, err := node.Open(
		t.Context(), node.Config{Dir: t.TempDir(), Limits: limits.Config{Upload: limit}},
	)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	x, err := n.Blobs().ImportBytes(t.Context(), testkit.Random(7, size))
	require.NoError(t, err)
	for addr, limited := range map[string]bool{"0.0.0.0:0": true, "127.0.0.1:0": false} {
		g := New(n, quiet)
		l, err := Listen(g, addr)
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		c := &counter{ResponseWriter: httptest.NewRecorder(), most: limit, full: cancel}
		if !limited {
			c.full = func() {}
		}
		r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/blobs/"+x.Hash.String(), nil)
		g.ServeHTTP(c, r)
		cancel()
		require.Equal(t, limited, c.bytes < 2*limit, "%s: %d bytes", addr, c.bytes)
		require.Equal(t, !limited, c.bytes == size)
		require.NoError(t, l.Close())
	}
}
