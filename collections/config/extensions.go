package config

import (
	"cmp"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/skerry-sync/skerry/collections/value"
)

// Extensions is the member of a configuration for what the published servers are given in code.
const Extensions = "extensions"

// Entitlements says where the features of an identity are listed, each of which gives it a role.
// Empty fields have the published server's defaults.
type Entitlements struct {
	Path  string // template of a document's storage path, with {identity}
	Field string // the member of its data that is an array of names
	Role  string // what stands before a colon and the name in the role
}

// Queue says of which collections what is written is announced, and where.
type Queue struct {
	NATS   *NATS
	Topics map[string]*Topic // by the name of the collection, or namespace/name
}

// NATS is a NATS server with JetStream.
type NATS struct {
	URL         string // one, or several with commas between
	Stream      string // is made for the topics if there is none; "" takes what streams there are
	Credentials string // file with a user's JWT and seed; "" is none
}

// Topic says what is announced of a collection.
type Topic struct {
	Subject string // "" is the collection's name
	// parameter of the path whose value, behind a dot, is added to the subject
	SubjectParam    string
	SubjectPattern  *regexp.Regexp // which the value must match
	IncludeParams   bool
	IncludeBody     bool
	IncludeIdentity bool
}

// safeID matches what subjects of queues may be made of.
var safeID = regexp.MustCompile(`^[a-zA-Z0-9_-]+$`)

// Topic returns what is announced of a collection, nil if nothing is.
func (q *Queue) Topic(c *Collection) *Topic {
	if q == nil {
		return nil
	}
	if t := q.Topics[c.Namespace+"/"+c.Name]; t != nil {
		return t
	}
	return q.Topics[c.Name]
}

// Subjects returns what messages are published under, without parameters' values.
func (q *Queue) Subjects() (all []string) {
	if q == nil {
		return nil
	}
	for name, t := range q.Topics {
		all = append(all, cmp.Or(t.Subject, name[strings.IndexByte(name, '/')+1:]))
	}
	return all
}

// Projection keeps a list of entries, one for each document of some collections.
type Projection struct {
	Sources  []string // names of collections
	Target   string   // template of the list's storage path
	ID       string   // template of an entry's id
	Fields   []string // members of the data that are copied; none is all
	Removed  string   // member of the data that, if true, takes the entry out; "" is none
	MaxItems int      // 0 is unlimited
}

// WriteMode is what becomes of writes to a collection that another server has.
type WriteMode string

// The ways of writing.
const (
	PullOnly    WriteMode = "pull_only"    // they are refused
	PushThrough WriteMode = "push_through" // they are handed to the other server
	// they are stored, merged and brought to the other server
	Bidirectional WriteMode = "bidirectional"
	PushOnly      WriteMode = "push_only" // they are stored; nothing can be read
)

// Remote is a collection whose document another server has, too.
type Remote struct {
	Collection  *Collection
	URL         string // that the paths follow
	PullPath    string
	PushPath    string
	Headers     map[string]string
	Mode        WriteMode
	Every       time.Duration // of scheduled syncs; 0 if there are none
	OnPull      bool          // a sync before each pull
	OnPullAfter time.Duration // since the last one
	Passphrase  string        // file with that of the identity that signs requests; "" signs none
	// file with the key of the wallet that signs requests, and what is pushed; "" signs none
	Wallet string
	Chain  string // that its requests name, as evm:8453
}

func (p *problems) extensions(o *value.Object, c *Config) {
	x := p.object(o, "", Extensions)
	label := Extensions + "."
	p.unknown(x, label, "roles", "entitlements", "queue", "projections", "remotes", "evm", "rules")
	for role := range p.object(x, label, "roles").All() {
		v, _ := x.Get("roles")
		if ids, ok := p.texts(v.(*value.Object), label+"roles.", role); ok {
			if c.Roles == nil {
				c.Roles = map[string][]string{}
			}
			c.Roles[role] = p.identities(ids, label+"roles."+role)
		}
	}
	if v, _ := x.Get("entitlements"); v == true {
		c.Entitlements = &Entitlements{}
	} else if v != nil && v != false {
		e := p.object(x, label, "entitlements")
		label := label + "entitlements."
		p.unknown(e, label, "path", "field", "role")
		c.Entitlements = &Entitlements{
			p.text(e, label, "path"), p.text(e, label, "field"), p.text(e, label, "role"),
		}
		if c.Entitlements.Path != "" {
			p.path(c.Entitlements.Path, label+"path: ")
		}
	}
	p.ownEntitlements(c)
	c.Queue = p.queue(p.object(x, label, "queue"), label+"queue.", c)
	c.EVM = p.evm(p.object(x, label, "evm"), label+"evm.")
	c.Rules = p.rulesOf(p.object(x, label, "rules"), label+"rules.")
	p.projections(x, label, c)
	for _, col := range c.Collections { // as OctoBot's configurations have them
		if v, _ := col.object.Get("remote"); v != nil {
			c.Remotes = append(
				c.Remotes, p.remote(col.Name, v, fmt.Sprintf("collection %q: remote", col.Name), c),
			)
		}
	}
	for name, v := range p.object(x, label, "remotes").All() {
		if slices.ContainsFunc(c.Remotes, func(r *Remote) bool {
			return r.Collection != nil &&
				r.Collection.Name == name
		}) {
			p.add("%sremotes.%s: the collection has a remote already", label, name)
			continue
		}
		c.Remotes = append(c.Remotes, p.remote(name, v, label+"remotes."+name, c))
	}
}

// ownEntitlements warns of lists of entitlements that those whom they are about can write.
func (p *problems) ownEntitlements(c *Config) {
	if c.Entitlements == nil {
		return
	}
	path := cmp.Or(c.Entitlements.Path, DefaultEntitlements)
	for _, col := range c.All() {
		if !col.PullOnly && overlap(col.KeyTemplate(), path) && (has(col.WriteRoles, RoleSelf) ||
			has(col.WriteRoles, RolePublic)) {
			p.warnings = append(
				p.warnings,
				fmt.Sprintf(
					"collection %q: writeRoles: callers can write their own entitlements, which lie at %q",
					col.Name, path,
				),
			)
		}
	}
}

// DefaultEntitlements is the template of the storage paths of lists of entitlements, unless
// configured.
const DefaultEntitlements = "users/{identity}/entitlements"

// named returns the collections that a name stands for: those of that name in all namespaces, or
// namespace/name.
func (c *Config) named(name string) (all []*Collection) {
	for _, col := range c.All() {
		if col.Name == name || col.Namespace != "" && col.Namespace+"/"+col.Name == name {
			all = append(all, col)
		}
	}
	return all
}

// subject matches what a message may be published under.
var subject = regexp.MustCompile(`^[^\s.*>]+(\.[^\s.*>]+)*$`)

func (p *problems) queue(o *value.Object, label string, c *Config) *Queue {
	if o == nil {
		return nil
	}
	p.unknown(o, label, "nats", "collections")
	q := &Queue{Topics: map[string]*Topic{}}
	if n := p.object(o, label, "nats"); n != nil {
		label := label + "nats."
		p.unknown(n, label, "url", "stream", "credentials")
		q.NATS = &NATS{
			p.text(n, label, "url"), p.text(n, label, "stream"), p.text(n, label, "credentials"),
		}
		if q.NATS.URL == "" {
			p.add("%surl: is missing", label)
		}
		if q.NATS.Stream != "" && !safeID.MatchString(q.NATS.Stream) {
			p.add("%sstream: must consist of letters, digits, '-' and '_', not %q", label, q.NATS.Stream)
		}
	}
	for name, v := range p.object(o, label, "collections").All() {
		label := label + "collections." + name
		if v == nil || v == false {
			continue
		}
		cols := c.named(name)
		if len(cols) == 0 {
			p.add("%s: there is no such collection", label)
		}
		q.Topics[name] = p.topic(v, label, name, cols)
	}
	return q
}

func (p *problems) topic(v any, label, name string, cols []*Collection) *Topic {
	t := &Topic{SubjectPattern: safeID}
	switch x := v.(type) {
	case bool:
	case *value.Object:
		label += "."
		p.unknown(
			x, label, "topic", "subjectParam", "subjectIdPattern", "includeParams", "includeBody",
			"includeIdentity",
		)
		t.Subject, t.SubjectParam = p.text(x, label, "topic"), p.text(x, label, "subjectParam")
		t.IncludeParams = p.flag(x, label, "includeParams")
		t.IncludeBody = p.flag(x, label, "includeBody")
		t.IncludeIdentity = p.flag(x, label, "includeIdentity")
		if pattern := p.text(x, label, "subjectIdPattern"); pattern != "" {
			re, err := regexp.Compile(pattern)
			if err != nil {
				p.add("%ssubjectIdPattern: %v", label, err)
			} else {
				t.SubjectPattern = re
			}
		}
		for _, col := range cols {
			if t.SubjectParam != "" && !slices.Contains(Params(col.StoragePath), t.SubjectParam) {
				p.add("%ssubjectParam: %q has no parameter %q", label, col.StoragePath, t.SubjectParam)
			}
			if t.IncludeBody && col.Binary() {
				p.add(
					"%sincludeBody: the collection is binary (allowedMimeTypes lacks application/json)", label,
				)
			}
		}
	default:
		p.add("%s: must be an object, true or false, not %s", label, describe(v))
	}
	if s := cmp.Or(t.Subject, name[strings.IndexByte(name, '/')+1:]); !subject.MatchString(s) {
		p.add(
			"%s: %q cannot be a subject: it is words with dots between, without white space, '*' and "+
				"'>'; set topic",
			strings.TrimSuffix(label, "."), s,
		)
	}
	return t
}

func (p *problems) projections(o *value.Object, label string, c *Config) {
	v, _ := o.Get("projections")
	list, ok := v.(value.Array)
	if !ok && v != nil {
		p.add("%sprojections: must be an array, not %s", label, describe(v))
	}
	for i, v := range list {
		label := fmt.Sprintf("%sprojections[%d]", label, i)
		o, ok := v.(*value.Object)
		if !ok {
			p.add("%s: must be an object, not %s", label, describe(v))
			continue
		}
		label += "."
		p.unknown(o, label, "source", "target", "id", "fields", "removed", "maxItems")
		x := &Projection{
			Target: p.text(o, label, "target"), ID: p.text(o, label, "id"),
			Removed: p.text(o, label, "removed"), MaxItems: int(integer(o, "maxItems")),
		}
		if s, ok := o.String("source"); ok {
			x.Sources = []string{s}
		} else {
			x.Sources, _ = p.texts(o, label, "source")
		}
		x.Fields, _ = p.texts(o, label, "fields")
		if !isInteger(o, "maxItems") {
			p.add("%smaxItems: must be a positive integer", label)
		}
		p.projectionRules(x, label, c)
		c.Projections = append(c.Projections, x)
	}
}

func (p *problems) projectionRules(x *Projection, label string, c *Config) {
	if len(x.Sources) == 0 {
		p.add("%ssource: is missing", label)
	}
	if x.Target == "" {
		p.add("%starget: is missing", label)
	}
	if strings.HasPrefix(x.Target, "/") {
		p.add("%starget: must not begin with a slash", label)
	}
	if x.Target != "" {
		p.path(strings.TrimPrefix(x.Target, "/"), label+"target: ")
	}
	p.idsApart(x.ID, label)
	for _, name := range x.Sources {
		cols := c.named(name)
		if len(cols) == 0 {
			p.add("%ssource: there is no collection %q", label, name)
		}
		for _, col := range cols {
			params := Params(col.StoragePath)
			if x.ID == "" && len(params) > 0 {
				x.ID = "{" + params[len(params)-1] + "}"
			}
			if x.ID == "" {
				p.add("%sid: is missing, and %q has no parameter to take it from", label, col.StoragePath)
			}
			for _, need := range append(Params(x.Target), Params(x.ID)...) {
				if !slices.Contains(params, need) {
					p.add("%starget, id: %q has no parameter %q", label, col.StoragePath, need)
				}
			}
			if col.Binary() || col.Encryption == Delegated {
				p.add("%ssource: the server cannot read what is in %q", label, name)
			}
			if col.Encryption.AtRest() && !c.encrypts(x.Target) {
				p.warnings = append(
					p.warnings,
					fmt.Sprintf(
						"%starget: what %q encrypts at rest is copied to where it is in clear", label, name,
					),
				)
			}
			if col.StoragePath == x.Target {
				p.add("%starget: is the source %q itself", label, name)
			}
			p.ownEntries(x, col, label)
			for _, f := range col.FieldPermissions {
				if len(f.ReadRoles) > 0 && slices.Contains(x.Fields, f.Field) {
					p.warnings = append(
						p.warnings,
						fmt.Sprintf(
							"%sfields: %q, which %q hides from callers without one of its readRoles, is copied to "+
								"where it is not",
							label, f.Field, name,
						),
					)
				}
			}
		}
	}
}

// idsApart refuses ids of entries whose parameters can run into each other: of "{a}-{b}", x-y and 1
// would make the id that x and y-1 make, and whoever may write the one would replace the other's
// entry.
func (p *problems) idsApart(id, label string) {
	at := param.FindAllStringIndex(id, -1)
	for i := 1; i < len(at); i++ {
		if between := id[at[i-1][1]:at[i][0]]; !parts(between) {
			p.add("%sid: in %q, values of %s and %s can run into each other, so that one document "+
				"replaces another's entry: put a character between that no value can have, such as a slash",
				label, id, id[at[i-1][0]:at[i-1][1]], id[at[i][0]:at[i][1]])
		}
	}
}

// ownEntries warns of documents of a collection that have one entry together.
func (p *problems) ownEntries(x *Projection, col *Collection, label string) {
	for _, name := range Params(col.StoragePath) {
		if !slices.Contains(append(Params(x.Target), Params(x.ID)...), name) {
			p.warnings = append(p.warnings, fmt.Sprintf(
				"%sid: {%s} of %q is neither in target nor in id, so documents that differ in nothing else "+
					"replace each other's entry", label, name, col.StoragePath,
			))
		}
	}
}

// encrypts reports whether what is stored under a template is encrypted at rest.
func (c *Config) encrypts(template string) bool {
	return slices.ContainsFunc(c.All(), func(col *Collection) bool {
		return col.Encryption.AtRest() &&
			overlap(col.KeyTemplate(), template)
	})
}

func (p *problems) remote(name string, v any, label string, c *Config) *Remote {
	r := &Remote{Headers: map[string]string{}}
	o, ok := v.(*value.Object)
	if !ok {
		p.add("%s: must be an object, not %s", label, describe(v))
		return r
	}
	if i := slices.IndexFunc(c.Collections, func(c *Collection) bool {
		return c.Name == name
	}); i < 0 {
		p.add("%s: there is no such collection outside of namespaces", label)
	} else {
		r.Collection = c.Collections[i]
		p.remoteCollection(r.Collection, label)
	}
	label += "."
	p.unknown(
		o, label, "url", "pullPath", "pushPath", "intervalMs", "headers", "writeMode", "syncTriggers",
		"onPullMinIntervalMs", "passphraseFile", "walletFile", "chain",
	)
	r.URL = p.text(o, label, "url")
	r.PullPath, r.PushPath = p.text(o, label, "pullPath"), p.text(o, label, "pushPath")
	r.Mode, r.Passphrase = WriteMode(p.text(o, label, "writeMode")), p.text(o, label, "passphraseFile")
	p.walletOf(o, label, r)
	if u, err := url.Parse(r.URL); err != nil || u.Host == "" || u.Scheme != "http" &&
		u.Scheme != "https" {
		p.add("%surl: must be one such as https://sync.example/v1, not %q", label, r.URL)
	}
	for key := range p.object(o, label, "headers").All() {
		h, _ := o.Get("headers")
		r.Headers[key] = p.text(h.(*value.Object), label+"headers.", key)
	}
	switch r.Mode {
	case PullOnly, PushOnly:
	case PushThrough, Bidirectional:
		if r.PushPath == "" {
			p.add("%spushPath: is missing, which writeMode %q needs", label, r.Mode)
		}
	default:
		p.add(
			"%swriteMode: must be %q, %q, %q or %q, not %q", label, PullOnly, PushThrough, Bidirectional,
			PushOnly, r.Mode,
		)
	}
	for _, path := range []string{"pullPath", "pushPath"} {
		if s := p.text(o, label, path); s != "" && !strings.HasPrefix(s, "/") {
			p.add("%s%s: must begin with a slash", label, path)
		}
	}
	if r.PullPath == "" && r.Mode != PushOnly {
		p.add("%spullPath: is missing", label)
	}
	p.triggers(o, label, r)
	return r
}

func (p *problems) walletOf(o *value.Object, label string, r *Remote) {
	r.Wallet, r.Chain = p.text(o, label, "walletFile"), p.text(o, label, "chain")
	switch {
	case r.Wallet != "" && r.Passphrase != "":
		p.add("%swalletFile: either it or passphraseFile signs requests", label)
	case r.Wallet != "" && r.Chain == "":
		r.Chain = DefaultChain
	case r.Wallet == "" && r.Chain != "":
		p.add("%schain: has no meaning without walletFile", label)
	}
}

// remoteCollection refuses collections that hold anything but one document which a server can read.
func (p *problems) remoteCollection(c *Collection, label string) {
	for _, x := range []struct {
		is     bool
		reason string
	}{
		{c.AppendOnly != nil, "it is a log"},
		{c.Binary(), "it is binary (allowedMimeTypes lacks application/json)"},
		{len(Params(c.StoragePath)) > 0, "its storagePath has parameters"},
		{c.PushOnly, "it is pushOnly"},
		{c.Bundle != "", "it is part of a bundle"},
		{c.Encryption == Delegated, "the server cannot read it, as it is encrypted"},
		{c.Encryption.AtRest(), "it is encrypted at rest here"},
	} {
		if x.is {
			p.add("%s: the collection cannot be one of another server: %s", label, x.reason)
		}
	}
}

func (p *problems) triggers(o *value.Object, label string, r *Remote) {
	all, _ := p.texts(o, label, "syncTriggers")
	for _, s := range all {
		switch s {
		case "scheduled":
			if r.Every = duration(integer(o, "intervalMs")); r.Every == 0 {
				p.add("%sintervalMs: must be a positive integer, as syncTriggers has %q", label, s)
			}
		case "on_pull":
			r.OnPull = true
		default:
			p.add(`%ssyncTriggers: must be "scheduled" or "on_pull", not %q`, label, s)
		}
	}
	if ms := p.milliseconds(o, label, "onPullMinIntervalMs"); ms != nil {
		r.OnPullAfter = duration(*ms)
	}
}

// duration is that of so many milliseconds, or of some decades if those are more.
func duration(ms int64) time.Duration { return time.Duration(min(ms, 1<<40)) * time.Millisecond }
