package collections

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/skerry-sync/skerry/collections/access"
	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/reach"
	"github.com/skerry-sync/skerry/collections/store"
)

// caller is who makes a request, with the roles that it has for what it asks for.
type caller struct {
	access.Auth
	known bool // a resolver has been asked

	unavailable *access.UnavailableError // some role could not be found out
}

// clone returns a copy that may be given more roles.
func (c *caller) clone() *caller {
	own := *c
	own.Roles = slices.Clone(c.Roles)
	return &own
}

// forbidden is what a caller is told whose roles are not enough.
func (x *exchange) forbidden(who *caller) (status int, reason string) {
	if x.s.opts.MustIdentify && who.Identity == "" {
		return http.StatusUnauthorized, "Unauthorized"
	}
	if who.unavailable == nil {
		return http.StatusForbidden, "Forbidden"
	}
	x.w.Header().Set("Retry-After", seconds(max(time.Second, who.unavailable.RetryAfter)))
	return http.StatusServiceUnavailable, who.unavailable.Reason
}

// authorize finds out who the caller is, if that matters, and refuses whoever may not do with the
// object what the route does.
func (x *exchange) authorize(ctx context.Context) (err error) {
	x.who, err = x.permit(ctx, x.object, x.route.action)
	if err != nil {
		col := x.route.col
		x.audit(
			ctx,
			AuditEntry{
				Action: x.route.action, Namespace: col.Namespace, Collection: col.Name,
				Identity: x.who.Identity, Status: statusOf(err), Params: x.params,
			},
		)
	}
	return err
}

// permit returns the caller with the roles that it has for an object, and refuses it if it may not
// do something with it. All that reads and writes for a caller asks here.
func (x *exchange) permit(
	ctx context.Context, o *reach.Object, action string,
) (who *caller, err error) {
	if x.routes.reach.Open(o.Collection, action) && (x.base == nil || action == reach.Pull) {
		who = &caller{}
	} else if who, err = x.callerFor(ctx, o.Params, action); err != nil {
		return who, err
	}
	return who, x.decide(who, o, action)
}

// callerFor returns the caller with the roles that it has where a path has some parameters.
func (x *exchange) callerFor(
	ctx context.Context, params map[string]string, action string,
) (*caller, error) {
	if x.base == nil {
		if err := x.identify(ctx); err != nil {
			return &caller{}, err
		}
	}
	who := x.base.clone()
	if !who.known {
		return who, nil
	}
	return who, x.enrich(ctx, who, access.Place{Params: params, Write: action == reach.Push})
}

// maxScopeSteps is how many steps of one request may go into matching storage paths with the paths
// of a certificate's scope, which anybody can make long: for each object at most the bytes of the
// one times those of the other.
const maxScopeSteps = 25_000_000

// mayMatch counts the steps of matching a storage path with the paths of a caller's scope, and
// reports whether the request has them left. It is asked before each path is matched.
func (x *exchange) mayMatch(who *caller, key string) bool {
	if s := who.Scope; s != nil {
		for _, p := range s.Paths {
			x.scopeSteps += len(p) * len(key)
		}
	}
	return x.scopeSteps <= maxScopeSteps
}

func tooManyPaths() error {
	return refuse(http.StatusForbidden, "Certificate has too many paths for so many documents")
}

// decide refuses a caller who may not do something with an object.
func (x *exchange) decide(who *caller, o *reach.Object, action string) error {
	if !x.mayMatch(who, o.Key) {
		return tooManyPaths()
	}
	switch x.routes.reach.Decide(&who.Auth, o, action) {
	case reach.Allowed:
		return nil
	case reach.NoRole:
		return refuse(x.forbidden(who))
	case reach.Shut:
		return refuse(http.StatusForbidden, "identity restricted")
	}
	return refuse(http.StatusForbidden, "Forbidden")
}

func statusOf(err error) int {
	var a *answered
	var refused *RefusedError
	switch {
	case errors.As(err, &a):
		return a.Status
	case errors.As(err, &refused):
		return refused.Status
	}
	return http.StatusInternalServerError
}

// identify asks the resolver who the caller is. One who is not let in is nobody.
func (x *exchange) identify(ctx context.Context) error {
	x.base = &caller{}
	x.toCallerOnly()
	within, cancel := context.WithTimeout(access.WithSource(ctx, x.address()), x.s.opts.ResolveWithin)
	defer cancel()
	req := &access.Request{
		HTTP: x.r, Body: x.signedBody, Targets: x.targets(), Hosts: x.hosts(),
		Batch: x.route.action == "",
	}
	if x.object != nil {
		req.Path = x.object.Key
	}
	who, err := x.s.opts.Resolver.Resolve(within, req)
	var denied *access.DeniedError
	var body *answered // what is wrong with the body, which the resolver has asked for
	switch {
	case err != nil && ctx.Err() != nil: // whatever else is said of it, the time is over
		return ctx.Err()
	case errors.As(err, &body):
		return body
	case err == nil:
		var ok bool
		if who.Identity, ok = config.IdentityOf(who.Identity); !ok {
			break
		}
		x.base.Auth, x.base.known = who, true
		x.proved()
		return nil
	case errors.As(err, &denied):
		x.s.opts.Log.Debug(
			"denied", "path", x.r.URL.Path, "status", denied.Status, "reason", denied.Reason,
		)
		switch denied.Status {
		case http.StatusForbidden:
			return refuse(denied.Status, "Forbidden")
		case http.StatusRequestEntityTooLarge:
			return refuse(denied.Status, denied.Reason)
		}
		return refuse(http.StatusUnauthorized, "Unauthorized")
	case within.Err() != nil && ctx.Err() == nil:
		return refuse(http.StatusServiceUnavailable, "Unauthorized")
	}
	// Whoever asks may well be who it is: it is this server that does not work.
	x.s.opts.Log.Error("it could not be found out who a caller is", "path", x.r.URL.Path, "error", err)
	return refuse(http.StatusInternalServerError, internal)
}

// enrich adds the roles that depend on what is asked for.
func (x *exchange) enrich(ctx context.Context, who *caller, at access.Place) error {
	if id, ok := at.Params[config.IdentityParam]; ok && id == who.Identity {
		who.Roles = append(who.Roles, config.RoleSelf)
	}
	if x.s.opts.Enricher == nil {
		return nil
	}
	more, err := x.s.opts.Enricher(access.WithSource(ctx, x.address()), &who.Auth, at)
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.As(err, &who.unavailable) {
		x.s.opts.Log.Warn(
			"some roles of a caller could not be found out", "path", x.r.URL.Path, "error", err,
		)
	} else if err != nil {
		x.s.opts.Log.Error(
			"the roles of a caller could not be found out", "path", x.r.URL.Path, "error", err,
		)
		return refuse(http.StatusInternalServerError, "Authorization error")
	}
	who.Roles = append(who.Roles, more...)
	return nil
}

// targets returns the readings of path and query that a signature may be one of: as they came, and
// without the prefix, which published clients leave out.
func (x *exchange) targets() []string {
	query := ""
	if x.r.URL.RawQuery != "" || x.r.URL.ForceQuery {
		query = "?" + x.r.URL.RawQuery
	}
	whole := x.s.opts.Prefix + x.rest + query
	if x.s.opts.Prefix == "" {
		return []string{whole}
	}
	return []string{whole, x.rest + query}
}

// address is where a request comes from, as far as it can be trusted: the caller's own address
// behind as many proxies as there are.
func (x *exchange) address() string {
	if hops := x.s.opts.ProxyHops; hops > 0 {
		var chain []string
		for _, h := range strings.Split(strings.Join(x.r.Header.Values("X-Forwarded-For"), ","), ",") {
			if h = strings.TrimSpace(h); h != "" {
				chain = append(chain, h)
			}
		}
		if len(chain) >= hops {
			return chain[len(chain)-hops]
		}
	}
	host, _, err := net.SplitHostPort(x.r.RemoteAddr)
	if err != nil {
		return x.r.RemoteAddr
	}
	return host
}

// maxSigned is how long the body of a signed request may be, unless the collection takes longer
// ones.
const maxSigned = 64 << 10

// signedBody reads the body of a request whose signature covers it.
func (x *exchange) signedBody() ([]byte, error) {
	if x.r.Method != http.MethodPost {
		return nil, nil
	}
	limit := int64(maxSigned)
	if x.route.col != nil {
		limit = max(limit, x.route.col.MaxBodyBytes)
	}
	if x.r.ContentLength < 0 {
		return nil, &access.DeniedError{
			Status: http.StatusRequestEntityTooLarge, Reason: "missing Content-Length on write",
		}
	}
	if x.r.ContentLength > limit {
		return nil, &access.DeniedError{
			Status: http.StatusRequestEntityTooLarge, Reason: "request body too large",
		}
	}
	return x.readBody(limit)
}

// readBody reads the body, which must not be longer than limit.
func (x *exchange) readBody(limit int64) ([]byte, error) {
	if x.read {
		return x.body, nil
	}
	for _, coding := range x.r.Header.Values("Content-Encoding") {
		if !strings.EqualFold(strings.TrimSpace(coding), "identity") && coding != "" {
			return nil, refuse(http.StatusUnsupportedMediaType, "Content-Encoding is not supported")
		}
	}
	var err error
	body := http.MaxBytesReader(x.w, x.r.Body, limit)
	n := x.r.ContentLength
	if n > limit { // which MaxBytesReader finds out
		n = -1
	}
	x.body, err = readGrowing(body, n, x.takeBody)
	var tooLong *http.MaxBytesError
	var noRoom *answered
	switch {
	case errors.As(err, &noRoom):
		return nil, err
	case errors.As(err, &tooLong):
		return nil, refuse(http.StatusRequestEntityTooLarge, tooLarge)
	case errors.Is(err, io.ErrUnexpectedEOF): // at which the server ends the context, too
		return nil, refuse(http.StatusBadRequest, "The body ends too early")
	case x.r.Context().Err() != nil:
		return nil, x.r.Context().Err()
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, refuse(http.StatusRequestTimeout, timedOut)
	case err != nil:
		return nil, refuse(http.StatusBadRequest, "The body could not be read")
	}
	x.read = true
	x.proved()
	return x.body, nil
}

// announced is for how many bytes of a body there is memory before they come.
const announced = 64 << 10

// readGrowing reads a body of n bytes, or to its end if n is negative. What is announced costs its
// sender nothing, so the memory for it grows with what comes. take is asked before it does.
func readGrowing(r io.Reader, n int64, take func(more int) error) ([]byte, error) {
	size := func(most int) int {
		if n < 0 || int64(most) < n {
			return most
		}
		return int(n)
	}
	b := make([]byte, 0, size(announced))
	if n < 0 { // most of these have no body
		b = make([]byte, 0, 512)
	}
	for int64(len(b)) != n {
		if len(b) == cap(b) {
			next := size(2 * len(b))
			if next > announced {
				if err := take(next - len(b)); err != nil {
					return nil, err
				}
			}
			b = append(make([]byte, 0, next), b...)
		}
		got, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+got]
		switch {
		case errors.Is(err, io.EOF) && n < 0:
			return b, nil
		case errors.Is(err, io.EOF) && int64(len(b)) < n:
			return nil, io.ErrUnexpectedEOF
		case err != nil && !errors.Is(err, io.EOF):
			return nil, err
		}
	}
	return b, nil
}

// proved adds the body to what the caller has signed, whichever of the two is known first.
func (x *exchange) proved() {
	if x.base != nil && x.base.Proof != nil && x.read {
		x.base.Proof.Body = x.body
	}
}

const (
	tooLarge = "Payload too large"
	timedOut = "Request timeout"
)

// context returns the context in which a store is used for an object.
func (x *exchange) context(o *reach.Object, who *caller) context.Context {
	col := o.Collection
	return store.WithRequest(
		x.r.Context(),
		&store.Request{
			Namespace: col.Namespace, Collection: col.Name, Params: o.Params, Key: o.Key,
			Identity: who.Identity, Roles: who.Roles, Action: x.actionOf(),
		},
	)
}

func (x *exchange) actionOf() string {
	if x.route.action == "" {
		return reach.Pull
	}
	return x.route.action
}
