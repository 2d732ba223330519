package collections

import (
	"errors"
	"net/http"
	"strings"

	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/collections/value"
)

// Admitted is a push that a server would do.
type Admitted struct {
	Event
	Body   []byte           // of the request: in collections of files, the file
	Media  string           // of a file
	Author *document.Author // whose proof the data bears; nil if nobody's
	At     *int64           // time of an element in Unix milliseconds; nil if the request names none
}

// Admit returns what a push asks for, if the server would do it as far as that depends neither on what is stored already nor on how much else is asked for. Nothing is stored, and no hook is
// told. It returns a *RefusedError for what the server would refuse, or an *access.UnavailableError if that cannot be found out now.
func (s *Server) Admit(r *http.Request) (*Admitted, error) {
	rest, ok := strings.CutPrefix(r.URL.EscapedPath(), s.opts.Prefix)
	if !ok || !strings.HasPrefix(rest, "/") || r.Method != http.MethodPost {
		return nil, &RefusedError{http.StatusNotFound, "it is no push"}
	}
	routes := s.now.Load()
	route, params, ok := routes.find(r.Method, rest)
	switch {
	case !ok || route.action != "push":
		return nil, &RefusedError{http.StatusNotFound, "it is no push of any collection"}
	case params == nil || !s.spell(params):
		return nil, &RefusedError{http.StatusBadRequest, badParam}
	}
	x := &exchange{s: s, routes: routes, w: discard{}, r: r, route: route, params: params, rest: rest}
	if err := x.authorize(r.Context()); err != nil {
		return nil, x.reason(err)
	}
	key, err := x.key()
	if err != nil {
		return nil, x.reason(err)
	}
	e := x.event(key)
	p, err := x.admit(e)
	if err != nil {
		return nil, x.reason(err)
	}
	return &Admitted{*e, p.body, p.media, p.author, p.at}, nil
}

// reason says why something is refused.
func (x *exchange) reason(err error) error {
	if x.who != nil && x.who.unavailable != nil && statusOf(err) == http.StatusServiceUnavailable {
		return x.who.unavailable
	}
	var a *answered
	if !errors.As(err, &a) {
		return err
	}
	reason := http.StatusText(a.Status)
	if o, ok := a.Body.(*value.Object); ok {
		if s, ok := o.String("error"); ok {
			reason = s
		}
	}
	return &RefusedError{a.Status, reason}
}

// discard is where answers go that nobody waits for.
type discard struct{}

func (discard) Header() http.Header         { return http.Header{} }
func (discard) Write(b []byte) (int, error) { return len(b), nil }
func (discard) WriteHeader(int)             {}

// Of returns the collection that a storage path is one of: of several, the first that callers may write to. It returns nil if there is none.
func (s *Server) Of(key string) (found *config.Collection) {
	for _, c := range s.now.Load().config.All() {
		if _, ok := config.Match(c.KeyTemplate(), key); !ok {
			continue
		}
		if !c.PullOnly && len(c.WriteRoles) > 0 {
			return c
		}
		if found == nil {
			found = c
		}
	}
	return found
}
