package collections

import (
	"errors"
	"net/http"
	"strings"

	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/collections/reach"
	"github.com/skerry-sync/skerry/collections/store"
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

// Admit returns what a push asks for, if the server would do it as far as that depends neither on
// what is stored already nor on how much else is asked for. Nothing is stored, and no hook is told.
// It returns a *RefusedError for what the server would refuse, or an *access.UnavailableError if
// that cannot be found out now.
func (s *Server) Admit(r *http.Request) (*Admitted, error) {
	rest, ok := strings.CutPrefix(r.URL.EscapedPath(), s.opts.Prefix)
	if !ok || !strings.HasPrefix(rest, "/") || r.Method != http.MethodPost {
		return nil, &RefusedError{http.StatusNotFound, "it is no push"}
	}
	routes := s.now.Load()
	route, params := routes.find(r.Method, rest)
	if route == nil || route.action != reach.Push {
		return nil, &RefusedError{http.StatusNotFound, "it is no push of any collection"}
	}
	x := &exchange{s: s, routes: routes, w: discard{}, r: r, route: route, params: params, rest: rest}
	if err := x.locate(); err != nil {
		return nil, x.reason(err)
	}
	if err := x.authorize(r.Context()); err != nil {
		return nil, x.reason(err)
	}
	e := x.event()
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
	if errors.Is(err, errNoRoute) {
		return &RefusedError{http.StatusNotFound, "it is no push of any collection"}
	}
	var a *answered
	if !errors.As(err, &a) {
		return err
	}
	return &RefusedError{a.Status, x.reasonOf(err)}
}

// reasonOf returns what a caller is told of a refusal.
func (x *exchange) reasonOf(err error) string {
	var refused *RefusedError
	if errors.As(err, &refused) {
		return refused.Reason
	}
	var a *answered
	if !errors.As(err, &a) {
		return internal
	}
	if o, ok := a.Body.(*value.Object); ok {
		if s, ok := o.String("error"); ok {
			return s
		}
	}
	return http.StatusText(a.Status)
}

// discard is where answers go that nobody waits for.
type discard struct{}

func (discard) Header() http.Header         { return http.Header{} }
func (discard) Write(b []byte) (int, error) { return len(b), nil }
func (discard) WriteHeader(int)             {}

// Reach returns what leads from paths to objects, by the configuration that counts.
func (s *Server) Reach() *reach.Map { return s.now.Load().reach }

// Longest returns how many bytes may be stored under a key of a store. Documents may be kept with
// the request that has written them, encrypted, and spelled in more bytes than they came in.
func (s *Server) Longest(key string) int64 {
	owner, _, _ := strings.Cut(document.Owner(key), store.Mark)
	col := s.Of(owner)
	switch {
	case col == nil:
		return longestOther
	case col.Binary():
		return max(longestOther, 4*col.MaxBodyBytes) // as it may have been more before
	}
	return max(4*longestOther, 10*col.MaxBodyBytes+longestRequest) // a list has up to longestOther
}

const (
	// longestOther is of what belongs to no collection, and of collections of short documents.
	longestOther   = 1 << 20
	longestRequest = 256 << 10 // of a request without its body
)

// Of returns the collection whose a storage path is; nil if it is none's.
func (s *Server) Of(key string) *config.Collection {
	if o := s.Reach().At(key); o != nil {
		return o.Collection
	}
	return nil
}
