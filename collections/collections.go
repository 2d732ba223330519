// Package collections serves document collections over HTTP, by the wire of the Starfish v3
// packages, so that their published clients work unchanged.
//
// What belongs here: the HTTP door, that is routes, their statuses, bodies and headers, limits of
// rates and sizes, and the events that other parts hang on. What never belongs here: certificates
// (capcert), who has which role (access), what a document is (document), where it lies (store), and
// the configuration (config): each has a package below this one. Nor does it put them together and
// run: package service does, for the command and for apps.
//
// Start at New. The wire is described in docs/protocol/starfish-v3.md.
package collections

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"github.com/skerry-sync/skerry/collections/access"
	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/collections/reach"
	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/value"
)

// Describe says to whom GET /config tells which collections there are.
type Describe string

// The ways of describing.
const (
	DescribeNone   Describe = ""              // to nobody
	DescribePublic Describe = "public"        // to anybody, all of them
	DescribeByRole Describe = "role-filtered" // to each caller those that it may read or write
)

// Options set up a Server. Documents and Resolver must be given.
type Options struct {
	Documents *document.Documents
	Resolver  access.Resolver
	Enricher  access.Enricher // nil adds no roles
	// Revocations, unless nil, are what POST /revocations adds lists to, which their issuers have
	// signed. The published servers have no such route.
	Revocations *access.Revocations

	// MustIdentify tells an anonymous caller whose roles are not enough 401 instead of 403.
	MustIdentify bool
	// Whole, unless nil, tells whether a push replaces all of a document also among concurrent ones,
	// of which then one stands, instead of merging them field by field.
	Whole func() bool

	// Vary names the headers, beside those of certificates, by which the Resolver tells who a caller
	// is.
	Vary []string

	Prefix string   // of all paths, such as /v1; "" is none
	Origin *url.URL // under which callers know the server, if a proxy changes the Host of requests
	// KnownHost reports whether the Host of a request is a name of this server, which callers may have
	// signed requests for. nil is Known without names.
	KnownHost func(r *http.Request) bool
	Describe  Describe
	// of proxies before the server that append to X-Forwarded-For; 0 trusts nothing that a caller says
	// of its address
	ProxyHops     int
	ResolveWithin time.Duration // 0 is 5 s
	MaxBatch      int           // documents in one batch; 0 is 100
	MaxElements   int64         // elements of logs in one batch; 0 is 5,000
	// MaxBatchBytes is from how many bytes on the answer to a batch gets no further documents; 0 is
	// 16 MiB.
	MaxBatchBytes int
	// Linear refuses patterns of schemas for which some strings take long, as a configuration with
	// extensions.rules does: how long differs between nodes, and so would what they accept.
	Linear bool
	// AdmitOnly says that only Admit is called: nothing is stored, and collections may be encrypted
	// elsewhere.
	AdmitOnly bool

	Log   *slog.Logger // nil is slog.Default
	Audit Auditor      // nil keeps no record
	Hooks []Hook
	// Observe, unless nil, is told of each request that a route has answered.
	Observe func(o *Observation)

	matchClock func() time.Time // for tests; nil is time.Now
}

// Observation is what a request has cost.
type Observation struct {
	Action     string             // pull, push or list; "" for what is about no collection
	Collection *config.Collection // nil if it is about none, or several
	Status     int
	Took       time.Duration
}

// Hook is told of requests, and may answer them in the server's stead. Fields that are nil do
// nothing.
type Hook struct {
	// BeforePull runs before a document is read for a pull.
	BeforePull func(ctx context.Context, e *Event) error
	// BeforePush runs before a document is written for a push; body is the request's, of JSON
	// collections. An answer that is not nil is given instead of writing.
	BeforePush func(ctx context.Context, e *Event, body []byte) (*Answer, error)
	// AfterWrite runs after a push has been done. Whoever pushed waits for it, but its failure is only
	// logged.
	AfterWrite func(ctx context.Context, e *Event) error
}

// Event tells of a request on a collection.
type Event struct {
	Collection *config.Collection
	Params     map[string]string // of the path
	Key        string            // storage path
	Identity   string            // of the caller, "" for nobody in particular
	Hash       string            // of what was written
	Time       int64             // of the write, in Unix milliseconds; 0 for files
	TimeGiven  bool              // by the caller
	Data       *value.Object     // what was pushed, of JSON collections
	Proof      *store.Proof      // what the caller has signed; nil of one who has signed nothing
	Fields     Fields            // of documents, of a push: what the caller may see and write

	reach *reach.Map
}

// Made returns the storage path that a template of the configuration's stands for with the
// parameters of the event, for what a server writes by itself. It returns what reach.Map.Made
// returns.
func (e *Event) Made(template string) (string, error) { return e.reach.Made(template, e.Params) }

// Longest returns how many bytes of JSON a server may write at a storage path by itself: as many as
// may be pushed there, or 1 MiB if that is more.
func (e *Event) Longest(key string) int64 {
	if o := e.reach.At(key); o != nil {
		return max(longestOther, o.Collection.MaxBodyBytes)
	}
	return longestOther
}

// Answer is an answer to a request: of HTTP the status, and a JSON value.
type Answer struct {
	Status int
	Body   any
}

// RefusedError is returned by a hook that refuses a request.
type RefusedError struct {
	Status int
	Reason string // which the caller is told
}

func (e *RefusedError) Error() string { return e.Reason }

// Auditor keeps a record of what was asked for. A failure is logged.
type Auditor interface {
	Record(ctx context.Context, e AuditEntry) error
}

// AuditEntry is the record of a request. One that was denied has no Key.
type AuditEntry struct {
	Time       int64             `json:"timestamp"` // Unix milliseconds
	Action     string            `json:"action"`    // pull, push or list
	Namespace  string            `json:"namespace,omitempty"`
	Collection string            `json:"collection"`
	Identity   string            `json:"identity,omitempty"`
	Key        string            `json:"documentKey"`
	Success    bool              `json:"success"`
	Status     int               `json:"statusCode"`
	Params     map[string]string `json:"params,omitempty"`
}

// Server answers requests. Its methods may be called by several goroutines at once.
type Server struct {
	opts    Options
	now     atomic.Pointer[routes]
	foreign atomic.Bool // somebody has signed a request for another server
	answers answers
	bodies  answers
	turns   chan struct{} // of those who read long logs; as many as may at once
}

// New returns a server of a configuration. It returns a *config.InvalidError if the configuration
// has schemas that are not valid. That a list of revocations cannot be read is logged and no error:
// whoever calls Load of Options.Revocations from time to time reads it then.
func New(c *config.Config, opts Options) (*Server, error) {
	if opts.Log == nil {
		opts.Log = slog.Default()
	}
	if opts.ResolveWithin == 0 {
		opts.ResolveWithin = 5 * time.Second
	}
	if opts.MaxBatch == 0 {
		opts.MaxBatch = 100
	}
	if opts.MaxElements == 0 {
		opts.MaxElements = 5000
	}
	if opts.MaxBatchBytes == 0 {
		opts.MaxBatchBytes = 16 << 20
	}
	if opts.KnownHost == nil {
		opts.KnownHost = Known()
	}
	if opts.Prefix != "" && (!strings.HasPrefix(opts.Prefix, "/") ||
		strings.HasSuffix(opts.Prefix, "/")) {
		return nil, fmt.Errorf("the prefix %q must begin with a slash and not end with one", opts.Prefix)
	}
	if c == nil || opts.Documents == nil || opts.Resolver == nil {
		return nil, errors.New("a server of collections needs a configuration, Documents and a Resolver")
	}
	s := &Server{opts: opts, turns: make(chan struct{}, longAtOnce)}
	if err := s.Reload(c); err != nil {
		return nil, err
	}
	if opts.Revocations == nil {
		return s, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), readAtStart)
	defer cancel()
	if err := opts.Revocations.Judge(ctx, s.standing); err != nil {
		opts.Log.Error("lists of revocations could not be read", "error", err)
	}
	return s, nil
}

// readAtStart is how long a store may take until the lists of revocations in it have been read
// anew.
const readAtStart = time.Minute

// Check returns what New finds wrong with a configuration by itself, a *config.InvalidError:
// schemas that are not valid.
func Check(c *config.Config) error {
	_, err := newRoutes(c, &Options{})
	return err
}

// checkEncryption returns an error if a collection is to be encrypted and the store keeps all as it
// comes.
func (o *Options) checkEncryption(c *config.Config) error {
	if o.AdmitOnly || store.Encodes(o.Documents.Store()) {
		return nil
	}
	for _, col := range c.All() {
		if col.Encryption.AtRest() {
			return fmt.Errorf("collection %q has \"encryption\": %q, and the store encrypts nothing: "+
				"give it a codec (store.Coded, encrypted.New)", col.Name, col.Encryption)
		}
	}
	return nil
}

// Reload makes requests that come from now on be answered by another configuration. It returns what
// New returns, and then nothing has changed.
func (s *Server) Reload(c *config.Config) error {
	if c == nil {
		return errors.New("there is no configuration to reload")
	}
	if err := s.opts.checkEncryption(c); err != nil {
		return err
	}
	r, err := newRoutes(c, &s.opts)
	if err != nil {
		return err
	}
	s.now.Store(r)
	return nil
}

// Config returns the configuration that counts.
func (s *Server) Config() *config.Config { return s.now.Load().config }

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := r.URL.EscapedPath()
	rest, ok := strings.CutPrefix(path, s.opts.Prefix)
	if !ok || !strings.HasPrefix(rest, "/") {
		notFound(w)
		return
	}
	routes := s.now.Load()
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	route, params := routes.find(method, rest)
	if route == nil {
		notFound(w)
		return
	}
	x := &exchange{s: s, routes: routes, w: w, r: r, route: route, params: params, rest: rest}
	if err := x.locate(); err != nil {
		x.failed(err)
		return
	}
	if s.opts.Observe == nil {
		x.serve()
		return
	}
	began, sw := time.Now(), &statusWriter{ResponseWriter: w, status: http.StatusOK}
	x.w = sw
	x.serve()
	s.opts.Observe(
		&Observation{
			Action: route.action, Collection: route.col, Status: sw.status, Took: time.Since(began),
		},
	)
}

// statusWriter remembers the status of an answer.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// exchange is a request that is being answered.
type exchange struct {
	s      *Server
	routes *routes
	w      http.ResponseWriter
	r      *http.Request
	route  *route
	params map[string]string
	rest   string        // path without the prefix
	object *reach.Object // that it is about; nil if about none, or several
	body   []byte
	read   bool // the body has been
	// who asks, without roles that depend on what for; nil if that has not been found out
	base *caller
	who  *caller // who asks, for the object

	held, bodyHeld     int    // bytes of the answer, and of the body, that are counted
	heldBy, bodyHeldBy string // the party that they count for

	parsed int  // bytes of logs, since the last turn
	before int  // bytes that were counted before that
	turn   bool // to parse more of them
	skips  bool // some of their elements

	scopeSteps int // see maxScopeSteps
}

// answered is an error that has its answer.
type answered struct {
	Answer
}

func (a *answered) Error() string { return fmt.Sprint(a.Status) }

func (x *exchange) serve() {
	defer x.giveRoom()
	defer x.endTurn()
	defer func() {
		if p := recover(); p == http.ErrAbortHandler {
			panic(p)
		} else if p != nil { // a mistake of ours, or of a hook: it costs one answer
			x.failed(fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
		}
	}()
	if err := x.route.serve(x); err != nil {
		x.failed(err)
	}
}

// refuse returns an error that is answered with a status and a reason.
func refuse(status int, reason string) error {
	return &answered{Answer{status, value.NewObject(value.Member{Key: "error", Value: reason})}}
}

const (
	badParam = "Invalid path parameter"
	internal = "Internal Server Error"
)

// failed answers a request that an error has ended.
func (x *exchange) failed(err error) {
	var a *answered
	var refused *RefusedError
	var unavailable *access.UnavailableError
	var readOnly *store.ReadOnlyError
	switch {
	case errors.Is(err, errNoRoute):
		notFound(x.w)
	case errors.As(err, &a) && a.Body == nil:
		x.w.WriteHeader(a.Status)
	case errors.As(err, &a):
		reply(x.w, a.Status, a.Body)
	case errors.As(err, &refused):
		fail(x.w, refused.Status, refused.Reason)
	case errors.As(err, &readOnly):
		x.s.opts.Log.Warn("a write was refused", "path", x.r.URL.Path, "error", err)
		fail(x.w, http.StatusMethodNotAllowed, "This server is read-only")
	case errors.Is(err, store.ErrSignedLater):
		fail(x.w, http.StatusConflict, "The stored file was signed later")
	case errors.Is(err, store.ErrAhead):
		x.s.opts.Log.Error("a write was refused", "path", x.r.URL.Path, "error", err)
		x.w.Header().Set("Retry-After", "60")
		fail(x.w, http.StatusServiceUnavailable, "This server's clock is behind")
	case errors.As(err, &unavailable):
		x.w.Header().Set("Retry-After", seconds(max(time.Second, unavailable.RetryAfter)))
		fail(x.w, http.StatusServiceUnavailable, unavailable.Reason)
	case x.r.Context().Err() != nil: // nobody is there to be answered, or the time is over
		fail(x.w, http.StatusRequestTimeout, timedOut)
	default:
		x.s.opts.Log.Error("request failed", "method", x.r.Method, "path", x.r.URL.Path, "error", err)
		fail(x.w, http.StatusInternalServerError, internal)
	}
}

func (x *exchange) audit(ctx context.Context, e AuditEntry) {
	if x.s.opts.Audit == nil {
		return
	}
	e.Time = x.s.opts.Documents.Now()
	e.Success = e.Status >= 200 && e.Status < 300
	if err := x.s.opts.Audit.Record(context.WithoutCancel(ctx), e); err != nil {
		x.s.opts.Log.Error(
			"no record of a request was kept", "action", e.Action, "collection", e.Collection, "error", err,
		)
	}
}

func notFound(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/plain; charset=UTF-8")
	w.WriteHeader(http.StatusNotFound)
	_, _ = w.Write([]byte("404 Not Found")) // whoever has gone misses nothing
}

func fail(w http.ResponseWriter, status int, reason string) {
	reply(w, status, value.NewObject(value.Member{Key: "error", Value: reason}))
}

func reply(w http.ResponseWriter, status int, body any) {
	replyBytes(w, status, value.Append(nil, body))
}

func replyBytes(w http.ResponseWriter, status int, body []byte) {
	w.Header()["Content-Type"] = jsonType
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

var jsonType = []string{config.JSON}
