package collections

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/skerry-sync/skerry/collections/config"
)

// routes are what a configuration is answered by.
type routes struct {
	config     *config.Config
	describe   Describe
	restricted bool // some identities are
	byShape    map[shape][]*route
	pulls      map[*config.Collection][]*limiter // which each way of pulling counts in
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
	bundle   []*config.Collection
	template string // of the storage path
	limits   []*limiter
	schema   *schema
}

type segment struct {
	text  string
	param bool
}

func newRoutes(c *config.Config, describe Describe, revocations bool) (*routes, error) {
	rs := &routes{config: c, describe: describe, restricted: hasRestrictions(c), byShape: map[shape][]*route{}, pulls: map[*config.Collection][]*limiter{}}
	rs.add(http.MethodGet, "health", &route{serve: (*exchange).health})
	rs.add(http.MethodGet, "config", &route{serve: (*exchange).describe})
	rs.add(http.MethodGet, "openapi.json", &route{serve: (*exchange).openAPI})
	if revocations {
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

func (rs *routes) addCollections(under string, all []*config.Collection, invalid *config.InvalidError) {
	whole := rs.config.RateLimit
	var bundles [][]*config.Collection
	for _, c := range all {
		rs.pulls[c] = newLimiters(c.Counters("pull", whole))
		schema, err := compileSchema(c.ObjectSchema)
		if err != nil {
			invalid.Problems = append(invalid.Problems, "collection \""+c.Name+"\": objectSchema: "+err.Error())
		}
		if c.Bundle != "" {
			i := slices.IndexFunc(bundles, func(b []*config.Collection) bool { return b[0].Bundle == c.Bundle })
			if i < 0 {
				i, bundles = len(bundles), append(bundles, nil)
			}
			bundles[i] = append(bundles[i], c)
			continue
		}
		if !c.PushOnly {
			rs.add(http.MethodGet, under+"pull/"+c.StoragePath, &route{serve: (*exchange).pull, action: "pull", col: c, template: c.StoragePath, limits: rs.pulls[c]})
		}
		if c.Listable {
			prefix := c.StoragePath[:max(0, strings.LastIndexByte(c.StoragePath, '/'))]
			rs.add(http.MethodGet, strings.TrimSuffix(under+"list/"+prefix, "/"), &route{serve: (*exchange).list, action: "list", col: c, template: prefix, limits: newLimiters(c.Counters("list", whole))})
		}
		if !c.PullOnly {
			rs.add(http.MethodPost, under+"push/"+c.StoragePath, &route{serve: (*exchange).push, action: "push", col: c, template: c.StoragePath, limits: newLimiters(c.Counters("push", whole)), schema: schema})
		}
	}
	for _, b := range bundles {
		path := b[0].StoragePath
		rs.add(http.MethodGet, under+"pull/"+path, &route{serve: (*exchange).pullBundle, action: "pull", bundle: b, template: path})
		for _, c := range b {
			if c.PullOnly {
				continue
			}
			schema, err := compileSchema(c.ObjectSchema)
			if err != nil {
				continue // it has been told
			}
			rs.add(http.MethodPost, under+"push/"+path+"/"+c.Name, &route{serve: (*exchange).push, action: "push", col: c, bundle: b, template: path + "/" + c.Name, limits: newLimiters(c.Counters("push", whole)), schema: schema})
		}
	}
}

// maxParam is how long a parameter may be in bytes.
const maxParam = 1024

// isParam reports whether v may be a parameter: it consists of letters, digits, dots, underscores, colons, at signs and hyphens of ASCII.
func isParam(v string) bool {
	for i := range len(v) {
		switch c := v[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_', c == ':', c == '@', c == '-':
		default:
			return false
		}
	}
	return v != "" && len(v) <= maxParam
}

// find returns the route that answers a path and the parameters in it, which are nil if one is not what it may be.
func (rs *routes) find(method, path string) (*route, map[string]string, bool) {
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
			if !isParam(plain[i]) {
				return r, nil, true
			}
			params[s.text] = plain[i]
		}
		return r, params, true
	}
	return nil, nil, false
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

// resolve puts parameters into the template of a path.
func resolve(template string, params map[string]string) string {
	for k, v := range params {
		template = strings.ReplaceAll(template, "{"+k+"}", v)
	}
	return template
}

// isUnsafe reports whether a storage path would lead out of its place, or is another spelling of one.
func isUnsafe(key string) bool {
	return strings.Contains(key, "..") || strings.Contains(key, "//") || strings.Contains("/"+key+"/", "/./") || strings.ContainsFunc(key, func(r rune) bool { return r < 0x20 })
}

// key returns the storage path that is asked for.
func (x *exchange) key() (string, error) {
	key := resolve(x.route.template, x.params)
	if isUnsafe(key) {
		return "", refuse(http.StatusBadRequest, badParam)
	}
	return key, nil
}
