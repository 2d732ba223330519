package config

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/skerry-sync/skerry/collections/value"
)

var namespaceName = regexp.MustCompile(`^[a-zA-Z0-9_-]+$`)

// reservedNames are taken by routes.
var reservedNames = []string{"pull", "push", "list", "health", "batch"}

// rules checks what the fields of a collection mean together.
func (p *problems) rules(c *Collection, label string, whole *Rate) {
	add := func(format string, args ...any) { p.add(label+format, args...) }
	if strings.HasPrefix(c.StoragePath, "/") {
		add("storagePath: must not begin with a slash")
	}
	p.path(strings.TrimPrefix(c.StoragePath, "/"), label+"storagePath: ")
	if c.Bundle != "" && !isBundled(c.Name) {
		add("name: %q cannot be the last segment of a path, which it is in a bundle", c.Name)
	}
	if c.KeyringPath != "" {
		p.path(c.KeyringPath, label+"keyringPath: ")
	}
	p.atRestRules(c, label)
	if c.PullOnly && c.PushOnly {
		add("pullOnly, pushOnly: with both there is no way in or out")
	}
	if c.AppendOnly != nil {
		p.appendRules(c, label)
	}
	if c.Listable {
		p.listRules(c, label)
	}
	if c.RootOnly && (has(c.ReadRoles, RolePublic) || has(c.WriteRoles, RolePublic)) {
		add(`rootOnly: the role "public" must be in neither readRoles nor writeRoles`)
	}
	if !c.PullOnly && c.ReadRoles != nil && len(c.ReadRoles) == 0 {
		add(`readRoles: is empty, so that nobody can read; ["public"] lets anybody`)
	}
	if c.Binary() {
		if c.ObjectSchema != nil {
			add("objectSchema: the collection is binary (allowedMimeTypes lacks application/json)")
		}
		if c.Bundle != "" {
			add("bundle: the collection is binary (allowedMimeTypes lacks application/json)")
		}
	}
	if len(c.AllowedMimeTypes) == 0 {
		add("allowedMimeTypes: is empty, so that nothing can be written")
	}
	if c.RateLimit != nil {
		p.rateRules(c, label, whole)
	}
}

func (p *problems) atRestRules(c *Collection, label string) {
	if !c.Encryption.AtRest() {
		return
	}
	add := func(format string, args ...any) {
		p.add("%sencryption: "+format, append([]any{label}, args...)...)
	}
	if c.Binary() {
		add("files are not encrypted at rest (allowedMimeTypes lacks application/json)")
	}
	if c.Encryption != Identity {
		return
	}
	if !slices.Contains(Params(c.StoragePath), IdentityParam) {
		add(
			"%q needs {identity} in storagePath, which says whose key it is; %q has one key for all",
			Identity, Server,
		)
	}
	if has(c.ReadRoles, RolePublic) || has(c.WriteRoles, RolePublic) {
		add(`%q does not go with the role "public"`, Identity)
	}
}

// oneEncryption refuses collections whose documents may have the same key and are not encrypted in
// the same way, as it could not be told how to read them.
func (p *problems) oneEncryption(c *Config) {
	all := c.All()
	for i, a := range all {
		for _, b := range all[:i] {
			if a.Encryption != b.Encryption && (a.Encryption.AtRest() || b.Encryption.AtRest()) &&
				overlap(a.KeyTemplate(), b.KeyTemplate()) {
				p.add(
					"collections %q and %q: a document can belong to both, and encryption is %q and %q", b.Name,
					a.Name, b.Encryption, a.Encryption,
				)
			}
		}
	}
}

// overlap reports whether two templates can stand for the same path.
func overlap(a, b string) bool { return ParseTemplate(a).Overlaps(ParseTemplate(b)) }

func (p *problems) appendRules(c *Collection, label string) {
	add := func(format string, args ...any) { p.add(label+format, args...) }
	a := c.AppendOnly
	if v, _ := a.object.Get("type"); v != "by_timestamp" {
		add(`appendOnly.type: must be "by_timestamp", not %s`, describe(v))
	}
	if c.Binary() {
		add("appendOnly: the collection is binary (allowedMimeTypes lacks application/json)")
	}
	if c.PullOnly {
		add("appendOnly: with pullOnly nothing can be appended")
	}
	if a.Persist && c.Bundle != "" {
		add("appendOnly: a log that is stored cannot be part of a bundle")
	}
	numbers := []string{"maxItems", "chunkSize", "maxPullLimit", "maxCheckpointAgeMs"}
	for _, k := range numbers {
		if !isInteger(a.object, k) {
			add("appendOnly.%s: must be a positive integer", k)
		}
	}
	if a.Persist {
		return
	}
	for _, k := range numbers {
		if !absent(a.object, k) {
			add("appendOnly.%s: has no meaning with persist false, as nothing is stored", k)
		}
	}
}

var wholeParam = regexp.MustCompile(`^\{[^}]+\}$`)

func (p *problems) listRules(c *Collection, label string) {
	add := func(format string, args ...any) { p.add(label+format, args...) }
	if len(Params(c.StoragePath)) == 0 {
		add("listable: storagePath has no parameter whose values could be listed")
	} else {
		segments := strings.Split(strings.TrimRight(c.StoragePath, "/"), "/")
		if last := segments[len(segments)-1]; !wholeParam.MatchString(last) {
			add("listable: the last segment of storagePath must be a parameter, not %q", last)
		}
	}
	if c.AppendOnly != nil && !c.AppendOnly.Persist {
		add("listable: with appendOnly.persist false there is nothing to list")
	}
	if c.Bundle != "" {
		add("listable: a collection of a bundle has no path of its own")
	}
}

func (p *problems) rateRules(c *Collection, label string, whole *Rate) {
	add := func(format string, args ...any) { p.add(label+"rateLimit."+format, args...) }
	v, _ := c.object.Get("rateLimit")
	o, _ := v.(*value.Object)
	numbers := func(o *value.Object, where string) {
		for _, k := range []string{"windowMs", "maxRequests"} {
			if !isInteger(o, k) {
				add("%s%s: must be a positive integer", where, k)
			}
		}
	}
	bucket := func(o *value.Object, where string) {
		switch b, _ := o.Get("bucket"); b {
		case nil, string(ByIdentity), string(ByIP), string(ByIdentityAndIP):
		default:
			add(`%sbucket: must be "identity", "ip" or "identity+ip", not %s`, where, describe(b))
		}
	}
	numbers(o, "")
	bucket(o, "")
	l := c.RateLimit
	for _, action := range Actions {
		rule := l.rule(action)
		if rule == nil {
			continue
		}
		v, _ := o.Get(action)
		x, _ := v.(*value.Object)
		numbers(x, action+".")
		bucket(x, action+".")
		if rule.Identity == nil && rule.IP == nil {
			if missing(x, x, o, whole) {
				add("%s: windowMs and maxRequests must both be given, here or in a rateLimit above", action)
			}
			continue
		}
		if !absent(x, "bucket") {
			add("%s: either bucket, or identity and ip", action)
		}
		for _, dim := range []string{"identity", "ip"} {
			v, _ := x.Get(dim)
			d, ok := v.(*value.Object)
			if !ok {
				continue
			}
			numbers(d, action+"."+dim+".")
			if missing(d, x, o, whole) {
				add(
					"%s.%s: windowMs and maxRequests must both be given, here or in a rateLimit above", action,
					dim,
				)
			}
		}
	}
}

// missing reports whether a limit is nowhere given whole.
func missing(dim, rule, col *value.Object, whole *Rate) bool {
	if whole != nil {
		return false
	}
	for _, k := range []string{"windowMs", "maxRequests"} {
		if absent(dim, k) && absent(rule, k) && absent(col, k) {
			return true
		}
	}
	return false
}

var capRole = regexp.MustCompile(`^cap:(read|write|list):(.+)$`)

// warn returns what is allowed but probably not meant.
func (c *Config) warn() (all []string) {
	for _, col := range c.Collections {
		all = append(all, col.warn("")...)
	}
	for _, n := range c.Namespaces {
		for _, col := range n.Collections {
			all = append(all, col.warn(fmt.Sprintf("namespace %q: ", n.Name))...)
		}
	}
	if c.Rules == nil {
		return all
	}
	if len(c.Rules.Hosts) == 0 {
		all = append(
			all,
			"extensions.rules.hosts: is missing, so that nodes believe what certificates' holders have "+
				"signed for any other server; name the hosts of these",
		)
	}
	for _, col := range c.All() {
		for _, f := range col.FieldPermissions {
			if len(f.WriteRoles) > 0 && !has(f.WriteRoles, RolePublic) {
				all = append(
					all,
					fmt.Sprintf(
						"collection %q: fieldPermissions.%s: servers refuse a push that leaves the field out, but "+
							"nodes cannot tell what it was before",
						col.Name, f.Field,
					),
				)
			}
		}
	}
	return all
}

func (c *Collection) warn(scope string) (all []string) {
	add := func(format string, args ...any) {
		all = append(all, fmt.Sprintf("%scollection %q: ", scope, c.Name)+fmt.Sprintf(format, args...))
	}
	if has(c.WriteRoles, RolePublic) {
		add("writeRoles: anybody can write, as it contains \"public\"")
	}
	c.warnSelfMade(add)
	foreign := func(roles []string, field string) {
		for _, r := range roles {
			if m := capRole.FindStringSubmatch(r); m != nil && m[2] != c.Name && m[2] != "*" {
				add(
					"%s: %q is the role of another collection; was \"cap:%s:%s\" meant?", field, r, m[1], c.Name,
				)
			}
		}
	}
	foreign(c.ReadRoles, "readRoles")
	foreign(c.WriteRoles, "writeRoles")
	if (has(c.ReadRoles, RoleSelf) || has(c.WriteRoles, RoleSelf)) &&
		!strings.Contains(c.StoragePath, "{"+IdentityParam+"}") {
		add("readRoles, writeRoles: nobody has the role \"self\" without {identity} in storagePath")
	}
	return all
}
