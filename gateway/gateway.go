// Package gateway lets browsers, curl and video players read content over HTTP: any blob by its hash, any file of a directory by its path, and
// any part of them. What is not here is fetched from peers while it is read.
//
// What belongs here: addresses, headers and listings. What never belongs here: changing anything, and what programs ask a node for, which is the API's.
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
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/chunked"
	"github.com/skerry-sync/skerry/blobs/directory"
	"github.com/skerry-sync/skerry/internal/netaddr"
	"github.com/skerry-sync/skerry/internal/visible"
	"github.com/skerry-sync/skerry/node"
)

// Gateway serves the content of one node. It implements http.Handler.
type Gateway struct {
	node *node.Node
	log  *slog.Logger
	mux  *http.ServeMux
	far  bool // others can reach it: what it sends counts as the node's upload
}

// New returns a gateway for n.
func New(n *node.Node, log *slog.Logger) *Gateway {
	g := &Gateway{node: n, log: log, mux: http.NewServeMux()}
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
	if g.far {
		w = &limited{w, r, g.node}
	}
	g.mux.ServeHTTP(w, r)
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
	var missing *node.MissingError
	var ref *blobs.ReferenceError
	status := http.StatusBadGateway
	switch {
	case errors.Is(err, blobs.ErrNotHash):
		status = http.StatusBadRequest
	case errors.As(err, &ref), errors.As(err, &missing), errors.Is(err, blobs.ErrNotFound), errors.Is(err, blobs.ErrIncomplete), errors.Is(err, fs.ErrNotExist),
		errors.Is(err, blobs.ErrNotSequence), errors.Is(err, directory.ErrNotDirectory):
		status = http.StatusNotFound
	case errors.Is(err, context.Canceled):
		return // nobody listens
	case errors.Is(err, context.DeadlineExceeded):
		status = http.StatusGatewayTimeout
	}
	w.Header().Del("ETag")
	w.Header().Del("Cache-Control")
	http.Error(w, visible.Lines(err.Error()), status) // it can name a path of a directory
}

// session opens a session for a request, and the hash that it names.
func (g *Gateway) session(r *http.Request) (*node.Session, blobs.Hash, error) {
	h, err := blobs.ParseHash(r.PathValue("hash"))
	if err != nil {
		return nil, h, err
	}
	return g.node.NewSession(r.Context(), nil), h, nil
}

func (g *Gateway) blob(w http.ResponseWriter, r *http.Request) {
	s, h, err := g.session(r)
	if err != nil {
		g.fail(w, err)
		return
	}
	defer g.end(s)
	content, err := s.Open(h)
	if err != nil {
		g.fail(w, err)
		return
	}
	g.send(w, r, content, h.String(), "")
}

func (g *Gateway) end(s *node.Session) {
	if _, err := s.Close(); err != nil {
		g.log.Warn("gateway", "error", err)
	}
}

// send answers with content, or the part of it that is asked for. name, if there is one, gives the type; or else the first bytes do.
func (g *Gateway) send(w http.ResponseWriter, r *http.Request, content io.ReadSeeker, tag, name string) {
	h := w.Header()
	h.Set("ETag", `"`+tag+`"`)
	h.Set("Cache-Control", "public, max-age=31536000, immutable") // another content has another address
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
	if strings.Contains(h.Get("Content-Type"), "html") || strings.Contains(h.Get("Content-Type"), "xml") {
		// Content is a stranger's: a page in it must not act as one of this address.
		h.Set("Content-Security-Policy", "sandbox")
	}
	http.ServeContent(w, r, "", time.Time{}, c)
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
	s, h, err := g.session(r)
	if err != nil {
		g.fail(w, err)
		return
	}
	defer g.end(s)
	name := strings.Trim(r.PathValue("path"), "/")
	dir, err := s.Directory(h)
	if err == nil {
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
		g.send(w, r, s.OpenChunks(chunks), h.String(), "")
	case err == nil:
		g.fail(w, fmt.Errorf("%w: %s is a file in chunks, not a directory", fs.ErrNotExist, h))
	case !errors.Is(err, chunked.ErrNotChunked):
		g.fail(w, err)
	default:
		g.child(w, r, s, h, name)
	}
}

// child answers with a child of a sequence that is no directory, by its number.
func (g *Gateway) child(w http.ResponseWriter, r *http.Request, s *node.Session, h blobs.Hash, name string) {
	n, err := strconv.ParseUint(name, 10, 32)
	if err != nil {
		g.fail(w, fmt.Errorf("%w: %s is not a directory; the children of a sequence are /seq/HASH/NUMBER", fs.ErrNotExist, h))
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

func (g *Gateway) inDirectory(w http.ResponseWriter, r *http.Request, s *node.Session, h blobs.Hash, dir *directory.Directory, name string) {
	if name != "" {
		e, content, err := dir.Find(name)
		if err == nil {
			for range maxLinks {
				if e.Kind != directory.Link {
					break
				}
				if e, content, err = dir.Find(path.Join(path.Dir(e.Path), e.Target)); err != nil {
					g.fail(w, err)
					return
				}
			}
			if e.IsFile() {
				tag := blobs.HashOf([]byte(h.String() + "/" + e.Path)).String()
				if len(content.Hashes) == 1 {
					tag = content.Hashes[0].String()
				}
				g.send(w, r, s.OpenChunks(content), tag, e.Path)
				return
			}
			name = e.Path
		}
	}
	list := listing(dir, name)
	if len(list) == 0 && name != "" && !isEmptyDir(dir, name) {
		g.fail(w, fmt.Errorf("%w: %q is not in the directory %s", fs.ErrNotExist, name, h))
		return
	}
	if !strings.HasSuffix(r.URL.Path, "/") { // so that the names in the list are below it
		// "./" keeps a name such as https:example.org from being an address of another server.
		w.Header().Set("Location", "./"+url.PathEscape(path.Base(r.URL.Path))+"/")
		w.WriteHeader(http.StatusMovedPermanently)
		return
	}
	g.list(w, r, h, name, list)
}

// maxLinks is how many symbolic links are followed, one after the other.
const maxLinks = 16

func isEmptyDir(dir *directory.Directory, name string) bool {
	e, _, err := dir.Find(name)
	return err == nil && e.Kind == directory.Empty
}

// Item is a line of a directory's list.
type Item struct {
	Name   string `json:"name"`
	Kind   string `json:"kind"` // "file", "directory" or "link"
	Size   uint64 `json:"size"`
	Target string `json:"target,omitempty"` // of a link
}

// Shown is the item's name as a page shows it: it cannot turn the letters of the page round.
func (x Item) Shown() string { return visible.Text(x.Name) }

// ShownTarget is the target likewise.
func (x Item) ShownTarget() string { return visible.Text(x.Target) }

// Href is the item's address, from that of its directory.
func (x Item) Href() string {
	href := "./" + url.PathEscape(x.Name)
	if x.Kind == "directory" {
		href += "/"
	}
	return href
}

// listing returns what lies in a directory of the directory, by name.
func listing(dir *directory.Directory, name string) (out []Item) {
	prefix := ""
	if name != "" {
		prefix = name + "/"
	}
	for _, e := range dir.Manifest {
		rest, ok := strings.CutPrefix(e.Path, prefix)
		if !ok {
			continue
		}
		item := Item{Name: rest, Kind: "file", Size: e.Size, Target: e.Target}
		switch first, _, below := strings.Cut(rest, "/"); {
		case below:
			item = Item{Name: first, Kind: "directory"}
		case e.Kind == directory.Empty:
			item.Kind = "directory"
		case e.Kind == directory.Link:
			item.Kind = "link"
		}
		// Paths are in order, so all that lie in one directory follow on each other.
		if n := len(out); n > 0 && item.Kind == "directory" && out[n-1].Name == item.Name {
			out[n-1].Size += e.Size
			continue
		}
		if item.Kind == "directory" {
			item.Size = e.Size
		}
		out = append(out, item)
	}
	return out
}

var page = template.Must(template.New("list").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{{.Name}}/</title>
<style>body{font:1rem/1.5 system-ui,sans-serif;margin:2rem auto;max-width:50rem;padding:0 1rem}table{width:100%;border-collapse:collapse}
td{padding:.2rem .5rem;border-bottom:1px solid #8884}td+td{text-align:right;white-space:nowrap}code{word-break:break-all}</style>
<h1>{{.Name}}/</h1><p><code>{{.Hash}}</code></p>
<table>{{if .Up}}<tr><td><a href="../">../</a><td>{{end}}
{{range .Items}}<tr><td><a href="{{.Href}}">{{.Shown}}{{if eq .Kind "directory"}}/{{end}}</a>{{if .Target}} → {{.ShownTarget}}{{end}}<td>{{.Size}}
{{end}}</table></html>
`))

// list answers with a directory's list: a page, or JSON for who asks for it.
func (g *Gateway) list(w http.ResponseWriter, r *http.Request, h blobs.Hash, name string, items []Item) {
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	w.Header().Set("Vary", "Accept")
	if strings.Contains(r.Header.Get("Accept"), "application/json") {
		w.Header().Set("Content-Type", "application/json")
		if items == nil {
			items = []Item{}
		}
		_ = json.NewEncoder(w).Encode(items) // a client that is gone needs no answer
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	title := path.Base("/" + name)
	if title == "/" {
		title = ""
	}
	if err := page.Execute(w, map[string]any{"Name": visible.Text(title), "Hash": h, "Up": name != "", "Items": items}); err != nil {
		g.log.Debug("gateway", "error", err)
	}
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
	l.srv = &http.Server{Handler: netaddr.Local(ln.Addr(), g), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(g.log.Handler(), slog.LevelDebug)}
	go func() { l.done <- l.srv.Serve(ln) }()
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
