// Package gateway lets browsers, curl and video players read content over HTTP: any blob by its
// hash, any file of a directory by its path, and any part of them. What is not here is fetched from
// peers while it is read.
//
// What belongs here: addresses, headers and listings. What never belongs here: changing anything,
// and what programs ask a node for, which is the API's.
//
//	GET /blobs/HASH                 a blob
//	GET /seq/HASH/path/in/dir       a file of a directory, or a list of what is in it
//	GET /seq/HASH                   a directory's list, or the content of a file in chunks
//	GET /seq/HASH/N                 child number N of a sequence that is no directory
//
// See docs/gateway.md.
package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/chunked"
	"github.com/skerry-sync/skerry/blobs/directory"
	"github.com/skerry-sync/skerry/internal/netaddr"
	"github.com/skerry-sync/skerry/internal/sandbox"
	"github.com/skerry-sync/skerry/internal/serve"
	"github.com/skerry-sync/skerry/internal/visible"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/node/content"
)

// Gateway serves the content of one node. It implements http.Handler.
type Gateway struct {
	node  *node.Node
	log   *slog.Logger
	mux   *http.ServeMux
	far   bool // others can reach it: what it sends counts as the node's upload
	shelf *shelf
	came  *fetched
}

// New returns a gateway for n.
func New(n *node.Node, log *slog.Logger) *Gateway {
	g := &Gateway{node: n, log: log, mux: http.NewServeMux(), shelf: newShelf(), came: newFetched(n)}
	g.mux.HandleFunc("GET /blobs/{hash}", g.blob)
	g.mux.HandleFunc("GET /seq/{hash}", g.sequence)
	g.mux.HandleFunc("GET /seq/{hash}/{path...}", g.sequence)
	g.mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, "skerry gateway\n\nGET /blobs/HASH\nGET /seq/HASH/path/in/dir\n")
	})
	return g
}

// ServeHTTP implements http.Handler.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	w = &hurried{ResponseWriter: w}
	if g.far {
		w = &limited{w, r, g.node}
	}
	g.mux.ServeHTTP(w, r)
}

// writeTime is how long a client may take for a piece of the answer, at most 32 KiB of content.
const writeTime = 30 * time.Second

// hurried ends the connection of a client that does not take its answer.
type hurried struct{ http.ResponseWriter }

// Unwrap is for http.ResponseController.
func (h *hurried) Unwrap() http.ResponseWriter { return h.ResponseWriter }

// hurry gives what is written next its time. Not all writers of tests have one.
func (h *hurried) hurry() {
	rc := http.NewResponseController(h.ResponseWriter)
	_ = rc.SetWriteDeadline(time.Now().Add(writeTime))
}

func (h *hurried) WriteHeader(status int) {
	h.hurry()
	h.ResponseWriter.WriteHeader(status)
}

func (h *hurried) Write(b []byte) (int, error) {
	h.hurry()
	return h.ResponseWriter.Write(b)
}

// limited writes no faster than the node may upload.
type limited struct {
	http.ResponseWriter
	r    *http.Request
	node *node.Node
}

func (l *limited) Write(b []byte) (int, error) {
	if err := l.node.PassUpload(l.r.Context(), len(b)); err != nil {
		return 0, err
	}
	return l.ResponseWriter.Write(b)
}

// fail answers with an error, in words.
func (g *Gateway) fail(w http.ResponseWriter, err error) {
	var missing *content.MissingError
	var ref *blobs.ReferenceError
	status := http.StatusBadGateway
	switch {
	case errors.Is(err, blobs.ErrNotHash):
		status = http.StatusBadRequest
	case errors.As(err, &ref), errors.As(err, &missing), errors.Is(err, blobs.ErrNotFound),
		errors.Is(err, blobs.ErrIncomplete), errors.Is(err, fs.ErrNotExist),
		errors.Is(err, blobs.ErrNotSequence), errors.Is(err, directory.ErrNotDirectory):
		status = http.StatusNotFound
	case errors.Is(err, errBusy):
		status = http.StatusServiceUnavailable
		w.Header().Set("Retry-After", "5")
	case errors.Is(err, errTooLarge), errors.Is(err, errNoRoom):
		status = http.StatusInsufficientStorage
	case errors.Is(err, context.Canceled):
		return // nobody listens
	case errors.Is(err, context.DeadlineExceeded):
		status = http.StatusGatewayTimeout
	}
	w.Header().Del("ETag")
	w.Header().Del("Cache-Control")
	http.Error(w, visible.Lines(err.Error()), status) // it can name a path of a directory
}

// session opens a session for a request, and the hash that it names. end must be called.
func (g *Gateway) session(
	r *http.Request,
) (s *content.Session, h blobs.Hash, end func(), err error) {
	if h, err = blobs.ParseHash(r.PathValue("hash")); err != nil {
		return nil, h, nil, err
	}
	s = g.node.NewSession(r.Context(), nil)
	x := &one{of: g.came, ctx: r.Context()}
	s.WatchBy(x)
	return s, h, func() {
		if _, err := s.Close(); err != nil {
			g.log.Warn("gateway", "error", err)
		}
		x.end()
	}, nil
}

func (g *Gateway) blob(w http.ResponseWriter, r *http.Request) {
	s, h, end, err := g.session(r)
	if err != nil {
		g.fail(w, err)
		return
	}
	defer end()
	content, err := s.Open(h)
	if err != nil {
		g.fail(w, err)
		return
	}
	g.send(w, r, content, h.String(), "")
}

// send answers with content, or the part of it that is asked for. name, if there is one, gives the
// type; or else the first bytes do.
func (g *Gateway) send(
	w http.ResponseWriter, r *http.Request, content io.ReadSeeker, tag, name string,
) {
	h := w.Header()
	h.Set("ETag", `"`+tag+`"`)
	// another content has another address
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	if kind := mime.TypeByExtension(path.Ext(name)); kind != "" {
		h.Set("Content-Type", kind)
	}
	c := &checked{ReadSeeker: content}
	first, err := c.probe()
	if err != nil { // what is missing from the start can still be told
		g.fail(w, err)
		return
	}
	if h.Get("Content-Type") == "" {
		h.Set("Content-Type", http.DetectContentType(first))
	}
	// Whoever knows the hash may show it in a page; the content itself is a stranger's.
	sandbox.Protect(h, h.Get("Content-Type"), sandbox.Policy{Embedding: sandbox.CrossOrigin})
	if err := serve.Content(w, r, c); err != nil {
		g.fail(w, err)
		return
	}
	if c.err != nil && r.Context().Err() == nil {
		g.log.Info("gateway: an answer was cut short", "path", r.URL.Path, "error", c.err)
	}
}

// checked remembers why reading failed.
type checked struct {
	io.ReadSeeker
	err error
}

func (c *checked) Read(p []byte) (int, error) {
	n, err := c.ReadSeeker.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		c.err = err
	}
	return n, err
}

// probe returns the first bytes, as many as it takes to tell their type.
func (c *checked) probe() ([]byte, error) {
	first := make([]byte, 512)
	n, err := io.ReadFull(c.ReadSeeker, first)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	}
	_, err = c.Seek(0, io.SeekStart)
	return first[:n], err
}

func (g *Gateway) sequence(w http.ResponseWriter, r *http.Request) {
	s, h, end, err := g.session(r)
	if err != nil {
		g.fail(w, err)
		return
	}
	defer end()
	name := strings.Trim(r.PathValue("path"), "/")
	dir, err := g.shelf.take(r, s, h)
	if err == nil {
		defer dir.end()
		g.inDirectory(w, r, s, h, dir, name)
		return
	}
	if !errors.Is(err, directory.ErrNotDirectory) {
		g.fail(w, err)
		return
	}
	chunks, err := s.Chunks(h)
	switch {
	case err == nil && name == "":
		content, err := s.OpenIndex(chunks)
		if err != nil {
			g.fail(w, err)
			return
		}
		g.send(w, r, content, h.String(), "")
	case err == nil:
		g.fail(w, fmt.Errorf("%w: %s is a file in chunks, not a directory", fs.ErrNotExist, h))
	case !errors.Is(err, chunked.ErrNotChunked):
		g.fail(w, err)
	default:
		g.child(w, r, s, h, name)
	}
}

// child answers with a child of a sequence that is no directory, by its number.
func (g *Gateway) child(
	w http.ResponseWriter, r *http.Request, s *content.Session, h blobs.Hash, name string,
) {
	n, err := strconv.ParseUint(name, 10, 32)
	if err != nil {
		g.fail(
			w,
			fmt.Errorf(
				"%w: %s is not a directory; the children of a sequence are /seq/HASH/NUMBER", fs.ErrNotExist, h,
			),
		)
		return
	}
	list, err := s.Open(h)
	if err != nil {
		g.fail(w, err)
		return
	}
	if list.Size()%blobs.HashSize != 0 || int64(n) >= list.Size()/blobs.HashSize {
		g.fail(w, fmt.Errorf("%w: %s has no child %d", fs.ErrNotExist, h, n))
		return
	}
	var child blobs.Hash
	if _, err := list.ReadAt(child[:], int64(n)*blobs.HashSize); err != nil {
		g.fail(w, err)
		return
	}
	content, err := s.Open(child)
	if err != nil {
		g.fail(w, err)
		return
	}
	g.send(w, r, content, child.String(), "")
}

// Listener serves a gateway at an address.
type Listener struct {
	URL  string
	srv  *http.Server
	done chan error
}

// Listen serves g at addr, a port or host and port. Without a host, that is the loopback interface.
func Listen(g *Gateway, addr string) (*Listener, error) {
	if !strings.Contains(addr, ":") {
		addr = ":" + addr
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("gateway address %q: %w", addr, err)
	}
	if host == "" {
		host = "127.0.0.1"
	}
	ln, err := net.Listen("tcp", net.JoinHostPort(host, port))
	if err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	g.far = !ln.Addr().(*net.TCPAddr).IP.IsLoopback()
	l := &Listener{URL: "http://" + ln.Addr().String(), done: make(chan error, 1)}
	l.srv = &http.Server{
		Handler: netaddr.Local(ln.Addr(), g), ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(g.log.Handler(), slog.LevelDebug),
	}
	go func() { l.done <- l.srv.Serve(netaddr.Limit(ln, netaddr.MaxPublicConns)) }()
	return l, nil
}

// Close ends all requests and waits for the server.
func (l *Listener) Close() error {
	err := l.srv.Close()
	if served := <-l.done; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}
