package collections

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/reach"
)

// routes are what a configuration is answered by.
type routes struct {
	config   *config.Config
	reach    *reach.Map
	describe Describe
	byShape  map[shape][]*route
	pulls    map[*config.Collection][]*limiter // which each way of pulling counts in
	matching matching
}

// shape is what routes that may match a path have in common with it.
type shape struct {
	method   string
	segments int
}

// route is a path that is answered.
type route struct {
	segments []segment
	serve    func(x *exchange) error
	action   string // pull, push, list; "" for those that are about no collection
	col      *config.Collection
	bundle   []*config.Collection // of a pull of all of them; col is nil then
	limits   []*limiter
	schema   *schema
}

type segment struct {
	text  string
	param bool
}

func newRoutes(c *config.Config, o *Options) (*routes, error) {
	rs := &routes{
		config: c, reach: reach.New(c), describe: o.Describe,
		matching: matching{linear: o.Linear || c.Rules != nil, now: o.matchClock},
		byShape:  map[shape][]*route{}, pulls: map[*config.Collection][]*limiter{},
	}
	rs.add(http.MethodGet, "health", &route{serve: (*exchange).health})
	rs.add(http.MethodGet, "config", &route{serve: (*exchange).describe})
	rs.add(http.MethodGet, "openapi.json", &route{serve: (*exchange).openAPI})
	if o.Revocations != nil {
		rs.add(http.MethodPost, "revocations", &route{serve: (*exchange).revoke})
	}
	invalid := &config.InvalidError{}
	rs.addCollections("", c.Collections, invalid)
	rs.add(http.MethodGet, "batch/pull", &route{serve: batchOf(c.Collections)})
	for _, n := range c.Namespaces {
		rs.addCollections(n.Name+"/", n.Collections, invalid)
		rs.add(http.MethodGet, n.Name+"/batch/pull", &route{serve: batchOf(n.Collections)})
	}
	if len(invalid.Problems) > 0 {
		return nil, invalid
	}
	return rs, nil
}

// add adds a route. Of those that match a path, the first that was added answers it.
func (rs *routes) add(method, template string, r *route) {
	for _, s := range strings.Split(template, "/") {
		inner, isParam := strings.CutPrefix(s, "{")
		if isParam {
			s = strings.TrimSuffix(inner, "}")
		}
		r.segments = append(r.segments, segment{s, isParam})
	}
	sh := shape{method, len(r.segments)}
	rs.byShape[sh] = append(rs.byShape[sh], r)
}

func (rs *routes) addCollections(
	under string, all []*config.Collection, invalid *config.InvalidError,
) {
	whole := rs.config.RateLimit
	var bundles [][]*config.Collection
	for _, c := range all {
		rs.pulls[c] = newLimiters(c.Counters("pull", whole))
		schema, err := compileSchema(c.ObjectSchema, rs.matching)
		if err != nil {
			invalid.Problems = append(
				invalid.Problems, "collection \""+c.Name+"\": objectSchema: "+err.Error(),
			)
		}
		if c.Bundle != "" {
			i := slices.IndexFunc(bundles, func(b []*config.Collection) bool {
				return b[0].Bundle == c.Bundle
			})
			if i < 0 {
				i, bundles = len(bundles), append(bundles, nil)
			}
			bundles[i] = append(bundles[i], c)
			continue
		}
		if !c.PushOnly {
			rs.add(
				http.MethodGet, under+"pull/"+c.StoragePath,
				&route{serve: (*exchange).pull, action: reach.Pull, col: c, limits: rs.pulls[c]},
			)
		}
		if c.Listable {
			prefix := c.StoragePath[:max(0, strings.LastIndexByte(c.StoragePath, '/'))]
			rs.add(
				http.MethodGet, strings.TrimSuffix(under+"list/"+prefix, "/"),
				&route{
					serve: (*exchange).list, action: reach.List, col: c,
					limits: newLimiters(c.Counters(reach.List, whole)),
				},
			)
		}
		if !c.PullOnly {
			rs.add(
				http.MethodPost, under+"push/"+c.StoragePath,
				&route{
					serve: (*exchange).push, action: reach.Push, col: c,
					limits: newLimiters(c.Counters(reach.Push, whole)), schema: schema,
				},
			)
		}
	}
	for _, b := range bundles {
		path := b[0].StoragePath
		rs.add(
			http.MethodGet, under+"pull/"+path,
			&route{serve: (*exchange).pullBundle, action: reach.Pull, bundle: b},
		)
		for _, c := range b {
			if c.PullOnly {
				continue
			}
			schema, err := compileSchema(c.ObjectSchema, rs.matching)
			if err != nil {
				continue // it has been told
			}
			rs.add(
				http.MethodPost, under+"push/"+path+"/"+c.Name,
				&route{
					serve: (*exchange).push, action: reach.Push, col: c,
					limits: newLimiters(c.Counters(reach.Push, whole)), schema: schema,
				},
			)
		}
	}
}

// find returns the route that answers a path, nil if there is none, and what stands in the places
// of its parameters, whatever that is.
func (rs *routes) find(method, path string) (*route, map[string]string) {
	var few [12]string
	parts := appendSegments(few[:0], path[1:])
	plain := parts
	if strings.IndexByte(path, '%') >= 0 {
		plain = make([]string, len(parts))
		for i, s := range parts {
			plain[i] = s
			if u, err := url.PathUnescape(s); err == nil && utf8.ValidString(u) {
				plain[i] = u
			}
		}
	}
next:
	for _, r := range rs.byShape[shape{method, len(parts)}] {
		n := 0
		for i, s := range r.segments {
			if s.param {
				n++
			}
			if s.param && plain[i] == "" || !s.param && plain[i] != s.text {
				continue next
			}
		}
		params := make(map[string]string, n)
		for i, s := range r.segments {
			if !s.param {
				continue
			}
			params[s.text] = plain[i]
		}
		return r, params
	}
	return nil, nil
}

// appendSegments appends what strings.Split would return.
func appendSegments(to []string, path string) []string {
	for {
		s, rest, more := strings.Cut(path, "/")
		to = append(to, s)
		if !more {
			return to
		}
		path = rest
	}
}

// locate finds what a request is about. A path of another collection's is as if there was no route.
func (x *exchange) locate() (err error) {
	id, named := x.params[config.IdentityParam]
	if named {
		if x.params[config.IdentityParam], named = config.IdentityOf(id); !named {
			return refuse(http.StatusBadRequest, badParam)
		}
	}
	switch r := x.route; {
	case r.action == "":
	case r.col == nil: // whose objects are each looked for when it is read
		_, err = x.routes.reach.Object(r.bundle[0], x.params)
	case r.action == reach.List:
		x.object, err = x.routes.reach.Of(r.col, x.params)
	default:
		x.object, err = x.routes.reach.Object(r.col, x.params)
	}
	switch {
	case errors.Is(err, reach.ErrElsewhere) && x.route.col != nil:
		return errNoRoute
	case errors.Is(err, reach.ErrParam):
		return badPath(err)
	}
	return nil
}

// badPath returns the answer to a path that is an ErrParam.
func badPath(err error) error { return refuse(http.StatusBadRequest, badPathReason(err)) }

func badPathReason(err error) string {
	var p *reach.ParamError
	if errors.As(err, &p) {
		return badParam + ": " + p.Reason
	}
	return badParam
}

// errNoRoute reports a path that no route answers.
var errNoRoute = errors.New("no route answers this path")
