// Package reach decides who may reach what: it leads from a path to the collection whose it is,
// from there to the object (a document, a file or a log), and to what a caller may do with it.
//
// What belongs here: these decisions, and nothing else takes them. All ways to documents ask here,
// that is pull, push, list, batch, bundle, the keyring beside a document, lists that servers keep,
// copies of other servers' documents, and nodes that check what others have written. What never
// belongs here: who a caller is (access), what a template of paths is (config), HTTP, and stores.
//
// Start at Map. What a certificate's scope binds is described in docs/protocol/starfish-v3.md,
// section 4.
package reach

import (
	"errors"
	"slices"
	"strings"

	"github.com/skerry-sync/skerry/collections/access"
	"github.com/skerry-sync/skerry/collections/config"
)

// What may be done with an object.
const (
	Pull = "pull"
	Push = "push"
	List = "list"
)

var (
	// ErrParam reports a parameter that is missing, or that no request may name.
	ErrParam = errors.New("a parameter of the path is missing or not allowed")
	// ErrElsewhere reports a path that belongs to another collection, which stands before the one
	// asked.
	ErrElsewhere = errors.New("the path belongs to another collection")
)

// ParamError is an ErrParam that says why.
type ParamError struct{ Reason string }

func (e *ParamError) Error() string { return ErrParam.Error() + ": " + e.Reason }

// Is reports whether it is ErrParam.
func (e *ParamError) Is(target error) bool { return target == ErrParam }

// noPath returns why a template stands for no path with parameters.
func noPath(t config.Template, params map[string]string) error {
	if reason := t.TooLong(params); reason != "" {
		return &ParamError{reason}
	}
	return ErrParam
}

// Object is a document, a file or a log: that of a collection with some parameters.
type Object struct {
	Collection *config.Collection
	Params     map[string]string
	Key        string // storage path. Of a list, what stands before the last parameter
}

// Map leads to the objects of a configuration.
type Map struct {
	config     *config.Config
	restricted bool // some identities are
	places     map[*config.Collection]*place
	byLength   map[int][]*place // in the order of the configuration
}

// place is where the objects of a collection are.
type place struct {
	col      *config.Collection
	template config.Template
	prefix   config.Template // without its last segment
	// before are those whose paths may be among this one's, and then belong to them.
	before []*place
}

// New returns the map of a configuration.
func New(c *config.Config) *Map {
	m := &Map{
		config: c, restricted: access.HasRestrictions(c), places: map[*config.Collection]*place{},
		byLength: map[int][]*place{},
	}
	for _, col := range c.All() {
		key := col.KeyTemplate()
		p := &place{
			col: col, template: config.ParseTemplate(key),
			prefix: config.ParseTemplate(key[:max(0, strings.LastIndexByte(key, '/'))]),
		}
		n := p.template.Len()
		for _, b := range m.byLength[n] {
			if b.template.Overlaps(p.template) {
				p.before = append(p.before, b)
			}
		}
		m.places[col] = p
		m.byLength[n] = append(m.byLength[n], p)
	}
	return m
}

// Object returns the object of a collection with some parameters. It returns ErrParam or
// ErrElsewhere.
func (m *Map) Object(col *config.Collection, params map[string]string) (*Object, error) {
	p := m.places[col]
	key, ok := p.template.Fill(params)
	if !ok {
		return nil, noPath(p.template, params)
	}
	if !p.owns(key) {
		return nil, ErrElsewhere
	}
	return &Object{col, params, key}, nil
}

// owns reports whether a path, which is one of the template's, belongs to no other collection.
func (p *place) owns(key string) bool {
	return !slices.ContainsFunc(p.before, func(b *place) bool { return b.template.Matches(key) })
}

// At returns the object at a storage path, nil if it is one of no collection.
func (m *Map) At(key string) *Object {
	for _, p := range m.byLength[strings.Count(key, "/")+1] {
		if params, ok := p.template.Match(key); ok {
			return &Object{p.col, params, key}
		}
	}
	return nil
}

// Made returns the storage path that a template of the configuration's, which need not be a
// collection's, stands for with some parameters. A path that belongs to a collection with another
// template is ErrElsewhere: what a server writes by itself gets into no documents but those it is
// meant for.
func (m *Map) Made(template string, params map[string]string) (string, error) {
	t := config.ParseTemplate(template)
	key, ok := t.Fill(params)
	if !ok {
		return "", noPath(t, params)
	}
	if !m.MadeBy(t, key) {
		return "", ErrElsewhere
	}
	return key, nil
}

// MadeBy reports whether a storage path is one that Made returns for a template.
func (m *Map) MadeBy(t config.Template, key string) bool {
	if !t.Matches(key) {
		return false
	}
	o := m.At(key)
	return o == nil || m.places[o.Collection].template.Same(t)
}

// Of returns what is listed of a collection: Key is what its storage paths begin with, without a
// slash. It returns ErrParam.
func (m *Map) Of(col *config.Collection, params map[string]string) (*Object, error) {
	p := m.places[col]
	if p.template.Len() == 1 {
		return &Object{col, params, ""}, nil
	}
	key, ok := p.prefix.Fill(params)
	if !ok {
		return nil, noPath(p.prefix, params)
	}
	return &Object{col, params, key}, nil
}

// Lists reports whether a list of a collection shows a storage path to a caller: it is the
// collection's, and within the scope of the caller's certificate.
func (m *Map) Lists(who *access.Auth, col *config.Collection, key string) bool {
	p := m.places[col]
	return p.template.Matches(key) && p.owns(key) && who.Scope.HasPath(key)
}

// Refusal is why a caller may not.
type Refusal int

// The reasons.
const (
	Allowed    Refusal = iota
	NoSuchWay          // the collection is not for that, as one that is pushOnly is not pulled
	OutOfScope         // the certificate is not for it
	NoRole             // the caller has none of the roles that are asked for
	Shut               // the caller's identity is restricted
)

// Open reports whether anybody may do something with all objects of a collection, so that it does
// not matter who asks.
func (m *Map) Open(col *config.Collection, action string) bool {
	return !m.restricted && !col.RootOnly && slices.Contains(required(col, action), config.RolePublic)
}

func required(col *config.Collection, action string) []string {
	if action == Push {
		return col.WriteRoles
	}
	return col.ReadRoles
}

// Decide tells whether a caller, with the roles that it has for an object, may do something with
// it.
func (m *Map) Decide(who *access.Auth, o *Object, action string) Refusal {
	col := o.Collection
	switch {
	case action == Pull && col.PushOnly, action == Push && col.PullOnly,
		action == List && !col.Listable:
		return NoSuchWay
	case m.Open(col, action):
		return Allowed
	case !inScope(who, o, action):
		return OutOfScope
	case !hasRole(who, col, required(col, action)):
		return NoRole
	case access.Restricted(m.config, col, who.Identity, action):
		return Shut
	}
	return Allowed
}

func hasRole(who *access.Auth, col *config.Collection, required []string) bool {
	if col.RootOnly && !slices.Contains(who.Roles, config.RoleRoot) {
		return false
	}
	return slices.Contains(required, config.RolePublic) || slices.ContainsFunc(required, who.Has)
}

// ops are what a certificate calls what may be done.
var ops = map[string]string{Pull: "read", Push: "write", List: "list"}

// inScope reports whether a certificate, if the caller presents one, is for an object: all that a
// scope names binds, always, but for what was written before (PathsAlone). A collection is also
// meant by a certificate for another if its roles name that one, as a keyring's does
// (cap:read:team).
func inScope(who *access.Auth, o *Object, action string) bool {
	s := who.Scope
	if s == nil {
		return true
	}
	if id, named := o.Params[config.IdentityParam]; named && id != who.Identity {
		return false
	}
	if s.PathsAlone || !s.HasPath(o.Key) {
		return s.HasPath(o.Key)
	}
	if !slices.Contains(s.Ops, ops[action]) {
		return false
	}
	return slices.Contains(s.Collections, o.Collection.Name) || slices.Contains(s.Collections, "*") ||
		slices.ContainsFunc(required(o.Collection, action), func(role string) bool {
			return s.Gives(role) && who.Has(role)
		})
}
