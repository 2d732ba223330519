// Package config is the configuration of collections, collections.json: which there are, under
// which paths, who may do what with them, and how they are kept.
//
// What belongs here: its fields, their defaults and every rule by which a configuration is refused
// or warned about. What never belongs here: anything that serves it. The fields are those of the
// published servers, see docs/protocol/starfish-v3.md, "Configuration"; one file works in both.
package config

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/skerry-sync/skerry/collections/value"
	"github.com/skerry-sync/skerry/internal/disk"
)

// Roles that every server knows.
const (
	RolePublic = "public"      // no authentication at all
	RoleSelf   = "self"        // the caller is who {identity} in the path names
	RoleRoot   = "device:root" // the caller presents the certificate of a root device
)

// IdentityParam is the parameter of a path that names an identity.
const IdentityParam = "identity"

// JSON is the media type of documents.
const JSON = "application/json"

// Encryption is who can read the documents of a collection.
type Encryption string

// The kinds of encryption.
const (
	Plain Encryption = "none" // also whoever sees the store
	// the server; what it stores is encrypted by a key of each identity
	Identity  Encryption = "identity"
	Server    Encryption = "server"    // the server; what it stores is encrypted by one key
	Delegated Encryption = "delegated" // those to whom the collection's keyring gives a key
)

// AtRest reports whether the server encrypts what it stores.
func (e Encryption) AtRest() bool { return e == Identity || e == Server }

// Config is a whole configuration.
type Config struct {
	Collections  []*Collection
	Namespaces   []*Namespace
	RateLimit    *Rate // what rules of collections that leave something out take it from
	Restrictions []Restriction
	Roles        map[string][]string // identities that have a role everywhere
	Entitlements *Entitlements       // nil gives none
	Queue        *Queue              // nil announces nothing
	Projections  []*Projection
	Remotes      []*Remote
	EVM          *EVM     // nil lets nobody in by a wallet
	Rules        *Rules   // nil believes all authors of the replica
	Warnings     []string // what is allowed but probably not meant
	object       *value.Object
}

// Namespace is a group of collections under a path of its own.
type Namespace struct {
	Name         string
	Collections  []*Collection
	Restrictions []Restriction
}

// Collection is the configuration of a collection.
type Collection struct {
	Namespace        string // "" is none
	Name             string
	StoragePath      string // the template of the paths of its documents; {param} stands for a segment
	ReadRoles        []string
	WriteRoles       []string
	Encryption       Encryption
	MaxBodyBytes     int64
	RateLimit        *RateLimit
	CacheDurationMS  *int64        // what Cache-Control says; nil is nothing
	ObjectSchema     *value.Object // JSON Schema of the data
	AllowedMimeTypes []string      // patterns; without application/json the documents are binary
	PullOnly         bool
	PushOnly         bool
	ForceFullFetch   bool // a hint for clients
	Bundle           string
	AppendOnly       *AppendOnly
	TTLMS            *int64 // after so many milliseconds without a write, documents are shown as empty
	FieldPermissions []FieldPermission
	KeyringPath      string // a hint for clients
	Listable         bool
	RootOnly         bool
	Restrictions     []Restriction
	Content          Content

	object *value.Object
}

// Content says how browsers are told to treat the files of a collection.
type Content struct {
	Active bool   // pages and drawings among them may run scripts, as ones of the server
	Embed  string // which pages may show them: same-origin (also if ""), same-site or cross-origin
}

// Binary reports whether the collection holds bytes of any type instead of JSON documents.
func (c *Collection) Binary() bool {
	for _, m := range c.AllowedMimeTypes {
		if strings.EqualFold(m, JSON) {
			return false
		}
	}
	return true
}

// KeyTemplate is the template of the keys of the collection's documents in a store.
func (c *Collection) KeyTemplate() string {
	if c.Bundle != "" {
		return c.StoragePath + "/" + c.Name
	}
	return c.StoragePath
}

// PublicRead reports whether anybody may read.
func (c *Collection) PublicRead() bool { return has(c.ReadRoles, RolePublic) }

// Keeps reports whether what is appended is stored.
func (c *Collection) Keeps() bool { return c.AppendOnly == nil || c.AppendOnly.Persist }

// AppendOnly says how a log is kept.
type AppendOnly struct {
	Field    string // the member of the data that holds the elements
	Persist  bool   // false: nothing is stored, what is appended only causes an event
	MaxItems int64  // 0 is unlimited
	// elements in one object of a store that keeps logs in several; 0 leaves it to the store
	ChunkSize              int64
	RequireAuthorSignature bool
	AllowFull              bool
	MaxPullLimit           int64 // 0 is unlimited
	MaxCheckpointAgeMS     int64 // 0 is unlimited
	object                 *value.Object
}

// Object returns the configuration of the log as it was written, for clients.
func (a *AppendOnly) Object() *value.Object { return a.object }

// DefaultField is where the elements of a log lie.
const DefaultField = "items"

// FieldPermission says who may read and write a member of the data.
type FieldPermission struct {
	Field      string
	ReadRoles  []string
	WriteRoles []string
}

// Restriction shuts identities out, or all others.
type Restriction struct {
	Deny       bool // false: only those named are let in
	Identities []string
	Actions    []string // pull, push, list; none is all
}

// Rate is a number of requests in a time. Zero fields are taken from what stands above.
type Rate struct {
	WindowMS    int64
	MaxRequests int64
}

// Bucket says which requests are counted together.
type Bucket string

// The buckets.
const (
	// of the caller's identity, or of the address of those who have none
	ByIdentity      Bucket = "identity"
	ByIP            Bucket = "ip"
	ByIdentityAndIP Bucket = "identity+ip"
)

// RateLimit are the limits of a collection.
type RateLimit struct {
	Rate
	Bucket           Bucket
	Push, Pull, List *RateRule
}

// RateRule is the limit of one action: either one counter, or one for the identity and one for the
// address.
type RateRule struct {
	Rate
	Bucket       Bucket
	Identity, IP *Rate
}

// Counter is a counter that a request must pass.
type Counter struct {
	Rate
	Bucket Bucket
}

// Actions are what may be done with a collection.
var Actions = []string{"push", "pull", "list"}

func (r *RateLimit) rule(action string) *RateRule {
	switch action {
	case "push":
		return r.Push
	case "pull":
		return r.Pull
	}
	return r.List
}

// Counters returns the counters that an action on the collection must pass; none is no limit. A
// collection with any limit at all limits pushes, if there is a limit for the whole configuration.
func (c *Collection) Counters(action string, whole *Rate) (all []Counter) {
	l := c.RateLimit
	if l == nil {
		return nil
	}
	rule := l.rule(action)
	if rule == nil {
		if action != "push" || whole == nil {
			return nil
		}
		rule = &RateRule{Rate: l.Rate, Bucket: l.Bucket}
	}
	add := func(r Rate, b Bucket) {
		if r, ok := r.or(rule.Rate, l.Rate, whole); ok {
			all = append(all, Counter{r, b})
		}
	}
	if rule.Identity != nil || rule.IP != nil {
		if rule.Identity != nil {
			add(*rule.Identity, ByIdentity)
		}
		if rule.IP != nil {
			add(*rule.IP, ByIP)
		}
		return all
	}
	b := rule.Bucket
	if b == "" {
		b = ByIdentity
	}
	add(Rate{}, b)
	return all
}

// or fills what is missing from others, and reports whether nothing is missing then.
func (r Rate) or(rule, col Rate, whole *Rate) (Rate, bool) {
	from := []Rate{rule, col}
	if whole != nil {
		from = append(from, *whole)
	}
	for _, o := range from {
		if r.WindowMS == 0 {
			r.WindowMS = o.WindowMS
		}
		if r.MaxRequests == 0 {
			r.MaxRequests = o.MaxRequests
		}
	}
	return r, r.WindowMS != 0 && r.MaxRequests != 0
}

var param = regexp.MustCompile(`\{(\w+)\}`)

// Params returns the names of the parameters in a path's template, in their order.
func Params(template string) (names []string) {
	for _, m := range param.FindAllStringSubmatch(template, -1) {
		names = append(names, m[1])
	}
	return names
}

// All returns the collections of all namespaces.
func (c *Config) All() []*Collection {
	all := append([]*Collection(nil), c.Collections...)
	for _, n := range c.Namespaces {
		all = append(all, n.Collections...)
	}
	return all
}

// Object returns the configuration as it was written.
func (c *Config) Object() *value.Object { return c.object }

// InvalidError lists everything that is wrong with a configuration.
type InvalidError struct{ Problems []string }

func (e *InvalidError) Error() string {
	return "invalid configuration:\n" + strings.Join(e.Problems, "\n")
}

// MaxSize is how long a configuration may be in bytes.
const MaxSize = 16 << 20

// Load reads a configuration from a file. It returns an *InvalidError.
func Load(name string) (*Config, error) {
	text, err := disk.ReadFile(name, MaxSize)
	if err != nil {
		return nil, err
	}
	c, err := Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return c, nil
}

func has(all []string, s string) bool {
	for _, x := range all {
		if x == s {
			return true
		}
	}
	return false
}
