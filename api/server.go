package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	"github.com/skerry-sync/skerry"
	"github.com/skerry-sync/skerry/internal/disk"
	"github.com/skerry-sync/skerry/internal/netaddr"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/node/invites"
	"github.com/skerry-sync/skerry/node/vaults"
	"github.com/skerry-sync/skerry/vault"
)

// Server answers the API for one node.
type Server struct {
	node    *node.Node
	invites *invites.Service
	vaults  *vaults.Service
	version string
	mux     *http.ServeMux
}

// NewServer returns a server for n; version is what Status reports. What n has no room for, the
// server refuses.
func NewServer(n *skerry.Node, version string) *Server {
	s := &Server{
		node: n.Node, invites: n.Invites, vaults: n.Vaults, version: version,
		mux: http.NewServeMux(),
	}
	handle(s, "status", s.status)
	handle(s, "doctor/network", s.doctorNetwork)
	handle(s, "blob/add", s.blobAdd)
	handle(s, "blob/ls", s.blobList)
	handle(s, "blob/rm", s.blobRemove)
	handle(s, "blob/verify", s.blobVerify)
	handle(s, "blob/export", s.blobExport)
	handle(s, "blob/stat", s.blobStat)
	handle(s, "blob/pin", s.blobPin)
	handle(s, "blob/unpin", s.blobUnpin)
	handle(s, "blob/pins", s.blobPins)
	handle(s, "blob/gc", s.blobCollect)
	handle(s, "blob/fetch", s.blobFetch)
	handle(s, "share", s.share)
	handle(s, "get", s.get)
	handle(s, "replica/new", s.replicaNew)
	handle(s, "replica/ls", s.replicaList)
	handle(s, "replica/join", s.replicaJoin)
	handle(s, "replica/leave", s.replicaLeave)
	handle(s, "replica/share", s.replicaShare)
	handle(s, "replica/info", s.replicaInfo)
	handle(s, "replica/invites", s.replicaInvites)
	handle(s, "replica/uninvite", s.replicaUninvite)
	handle(s, "replica/grant", s.replicaGrant)
	handle(s, "replica/revoke", s.replicaRevoke)
	handle(s, "replica/grants", s.replicaGrants)
	handle(s, "replica/rotate", s.replicaRotate)
	handle(s, "replica/policy", s.replicaPolicy)
	handle(s, "replica/set", s.replicaSet)
	handle(s, "replica/get", s.replicaGet)
	handle(s, "replica/del", s.replicaDelete)
	handle(s, "replica/list", s.entries)
	handle(s, "replica/export", s.replicaExport)
	handle(s, "replica/watch", s.replicaWatch)
	handle(s, "replica/sync", s.replicaSync)
	handle(s, "replica/verify", s.replicaVerify)
	handle(s, "author/new", s.authorNew)
	handle(s, "author/ls", s.authorList)
	handle(s, "author/default", s.authorDefault)
	handle(s, "author/export", s.authorExport)
	handle(s, "author/import", s.authorImport)
	handle(s, "replica/rename", s.replicaRename)
	handle(s, "identity/ls", s.identityList)
	handle(s, "identity/add", s.identityAdd)
	handle(s, "identity/export", s.identityExport)
	handle(s, "identity/rm", s.identityRemove)
	handle(s, "project/new", s.projectNew)
	handle(s, "project/ls", s.projectList)
	handle(s, "project/show", s.projectShow)
	handle(s, "project/asset", s.assetAdd)
	handle(s, "project/ref", s.referenceAdd)
	handle(s, "project/history", s.projectHistory)
	handle(s, "seed/register", s.seedRegister)
	handle(s, "seed/unregister", s.seedUnregister)
	handle(s, "seed/status", s.seedStatus)
	handle(s, "vault/init", s.vaultInit)
	handle(s, "vault/open", s.vaultAsk)
	handle(s, "vault/vaults", s.vaultAll)
	handle(s, "vault/ls", s.vaultList)
	handle(s, "vault/add", s.vaultAdd)
	handle(s, "vault/rm", s.vaultRemove)
	handle(s, "vault/join", s.vaultJoin)
	handle(s, "vault/requests", s.vaultRequests)
	handle(s, "vault/request", s.vaultRequest)
	handle(s, "vault/approve", s.vaultApprove)
	handle(s, "vault/deny", s.vaultDeny)
	s.mux.HandleFunc("POST /v1/keyring", s.keyringCall)
	s.mux.HandleFunc("GET /v1/blob", s.readBlob)
	s.mux.HandleFunc("POST /v1/blob", s.importBlob)
	s.mux.HandleFunc("GET /v1/value", s.readValue)
	s.mux.HandleFunc("POST /v1/value", s.writeValue)
	s.mux.HandleFunc("POST /v1/replica/import", s.replicaImport)
	return s
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	guarded(s.mux, s.node.Log()).ServeHTTP(w, r)
}

// guarded returns a handler that answers with an error in one sentence when h panics, or cuts the
// answer off if a part of it has been sent already.
func guarded(h http.Handler, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent := &sentWriter{ResponseWriter: w}
		defer func() {
			fault := recover()
			if fault == nil {
				return
			}
			if err, ok := fault.(error); ok && errors.Is(err, http.ErrAbortHandler) {
				panic(http.ErrAbortHandler) // a handler's way to break off
			}
			log.Error("a fault in skerry itself ended a request", "path", r.URL.Path, "fault", fault,
				"stack", string(debug.Stack()))
			if sent.any {
				panic(http.ErrAbortHandler) // so that what was sent is not taken for whole
			}
			fail(w, &Error{Failed, "a fault in skerry itself ended " + r.URL.Path +
				"; the log has a report"})
		}()
		h.ServeHTTP(sent, r)
	})
}

// sentWriter notes whether an answer has begun.
type sentWriter struct {
	http.ResponseWriter
	any bool
}

// Unwrap is for http.ResponseController.
func (w *sentWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *sentWriter) WriteHeader(status int) {
	w.any = true
	w.ResponseWriter.WriteHeader(status)
}

func (w *sentWriter) Write(b []byte) (int, error) {
	w.any = true
	return w.ResponseWriter.Write(b)
}

// maxRequest bounds the JSON of a request; values of more than this travel as files or imports.
const maxRequest = 64 << 20

// answer writes the lines of one answer. It may be used from several goroutines.
type answer struct {
	mu   sync.Mutex
	w    http.ResponseWriter
	last time.Time // of the last progress
}

const progressEvery = 100 * time.Millisecond

func (a *answer) write(l Line) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.writeLocked(l)
}

func (a *answer) writeLocked(l Line) error {
	b, err := json.Marshal(l)
	if err != nil {
		return err
	}
	_, err = a.w.Write(append(b, '\n'))
	return err
}

// progress sends p unless it follows too soon on the last. A nil answer takes none.
func (a *answer) progress(p Progress) {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if now := time.Now(); now.Sub(a.last) >= progressEvery {
		a.last = now
		_ = a.writeLocked(Line{Progress: &p}) // a client that is gone ends the request's context
		a.flush()
	}
}

// warn tells a person something, although the operation goes on. A nil answer takes nothing.
func (a *answer) warn(format string, args ...any) {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	_ = a.writeLocked(Line{Warning: fmt.Sprintf(format, args...)}) // likewise
	a.flush()
}

func (a *answer) flush() { _ = http.NewResponseController(a.w).Flush() } // likewise

func (a *answer) item(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return a.write(Line{Item: b})
}

// finish sends the end of the answer.
func (a *answer) finish(result any, err error) {
	l := Line{}
	if err == nil {
		l.Result, err = json.Marshal(result)
	}
	if err != nil {
		l = Line{Error: AsError(err)}
	}
	_ = a.write(l) // likewise
}

// handle adds an operation.
func handle[Req, Res any](s *Server, name string, fn func(context.Context, Req, *answer) (Res, error)) {
	s.mux.HandleFunc("POST /v1/"+name, func(w http.ResponseWriter, r *http.Request) {
		a := begin(w)
		var req Req
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
		if err == nil && len(bytes.TrimSpace(body)) > 0 {
			err = decodeStrict(body, &req)
		}
		if err != nil {
			var known *Error
			if !errors.As(err, &known) {
				err = UsageErrorf("request %s: %v", name, jsonProblem(err, "what docs/api.md says"))
			}
			a.finish(nil, err)
			return
		}
		// What an operation stores is kept until it has ended, and by then something else keeps it.
		ctx, release := s.node.Blobs.Hold(r.Context())
		defer release()
		defer s.caught(name, a)
		res, err := fn(ctx, req, a)
		a.finish(res, err)
	})
}

// caught ends an operation that panics with an error in one sentence; the log has what helps to
// find the fault.
func (s *Server) caught(name string, a *answer) {
	r := recover()
	if r == nil {
		return
	}
	s.node.Log().Error("a fault in skerry itself ended an operation", "operation", name, "fault", r,
		"stack", string(debug.Stack()))
	a.finish(nil, &Error{Failed, "a fault in skerry itself ended " + name +
		"; the node goes on, and its log has a report"})
}

func begin(w http.ResponseWriter) *answer {
	// Progress may be told before all of the body has been read. Where this is not to be had, progress
	// comes late.
	_ = http.NewResponseController(w).EnableFullDuplex()
	w.Header().Set("Content-Type", "application/x-ndjson")
	return &answer{w: w}
}

// fail answers a request for bytes that cannot be had: a status that is not 200, and the error as
// JSON.
func fail(w http.ResponseWriter, err error) {
	e := AsError(err)
	w.Header().Set("Content-Type", "application/json")
	status, ok := map[Kind]int{Usage: 400, NotFound: 404, NotAllowed: 403, Unreachable: 504, Unsigned: 403}[e.Kind]
	if !ok {
		status = 500
	}
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(e) // a client that is gone needs no answer
}

// Listener serves the API on a Unix socket.
type Listener struct {
	Path   string
	srv    *http.Server
	done   chan error
	remove string // a directory made for the socket, or empty
}

// maxSocketPath is less than what any system allows for the path of a Unix socket.
const maxSocketPath = 100

// Listen serves s on a socket in the data directory dir, that only its owner can use. Where the
// path would be too long for a socket, it lies in a directory of its own under the system's
// temporary one.
func Listen(s *Server, dir string, log *slog.Logger) (*Listener, error) {
	return listen(s, filepath.Join(dir, "api.sock"), log)
}

// ListenKeyring serves a keyring likewise, on the socket path; see KeyringHandler. It returns an
// error if another process answers there, or if something else than a socket has that name.
func ListenKeyring(k vault.Keyring, path string, log *slog.Logger) (*Listener, error) {
	return listen(guarded(KeyringHandler(k), log), path, log)
}

func listen(h http.Handler, path string, log *slog.Logger) (*Listener, error) {
	l := &Listener{Path: path, done: make(chan error, 1)}
	if len(l.Path) > maxSocketPath {
		tmp, err := os.MkdirTemp("", "skerry-")
		if err != nil {
			return nil, fmt.Errorf("api socket: %w", err)
		}
		l.remove, l.Path = tmp, filepath.Join(tmp, filepath.Base(path))
		if len(l.Path) > maxSocketPath {
			err := UsageErrorf("socket %s: its name is too long for a socket", path)
			return nil, errors.Join(err, l.clean())
		}
	}
	ln, err := disk.ListenUnix(l.Path)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("socket: %w", err), l.clean())
	}
	l.srv = &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	go func() { l.done <- l.srv.Serve(netaddr.Limit(ln, netaddr.MaxLocalConns)) }()
	return l, nil
}

// Close ends all requests and waits for the server.
func (l *Listener) Close() error {
	err := l.srv.Close()
	if served := <-l.done; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return errors.Join(err, l.clean())
}

// clean removes the directory that was made for the socket.
func (l *Listener) clean() error {
	if l.remove == "" {
		return nil
	}
	return os.RemoveAll(l.remove)
}
