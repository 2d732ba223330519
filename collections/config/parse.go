package config

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/skerry-sync/skerry/collections/value"
)

// Parse reads a configuration. It returns an *InvalidError with everything that is wrong.
func Parse(text []byte) (*Config, error) {
	v, err := value.Parse(text, value.MaxDepth)
	if err != nil {
		return nil, &InvalidError{[]string{err.Error()}}
	}
	p := &problems{}
	c := p.config(v)
	if len(p.list) > 0 {
		return nil, &InvalidError{p.list}
	}
	c.Warnings = append(p.warnings, c.warn()...)
	return c, nil
}

// problems collects what is wrong.
type problems struct{ list, warnings []string }

func (p *problems) add(format string, args ...any) {
	p.list = append(p.list, fmt.Sprintf(format, args...))
}

func (p *problems) config(v any) *Config {
	o, ok := v.(*value.Object)
	if !ok {
		p.add("the configuration is not an object, but %s", describe(v))
		return nil
	}
	c := &Config{object: o}
	if v, _ := o.Get("version"); v != 1.0 {
		p.add("version: must be 1, not %s", describe(v))
	}
	p.unknown(
		o, "", "$schema", "version", "collections", "namespaces", "rateLimit", "restrictions", Extensions,
	)
	c.RateLimit = p.wholeRate(o)
	c.Collections = p.collections(o, "", "", c.RateLimit)
	c.Restrictions = p.restrictions(o, "")
	p.namespaces(o, c)
	p.oneEncryption(c)
	p.apart(c)
	p.extensions(o, c)
	return c
}

func (p *problems) unknown(o *value.Object, label string, known ...string) {
	for k := range o.All() {
		if !slices.Contains(known, k) {
			p.warnings = append(p.warnings, fmt.Sprintf("%sunknown field %q is ignored", label, k))
		}
	}
}

func describe(v any) string {
	if v == nil {
		return "missing or null"
	}
	b := value.Append(nil, v)
	if len(b) > 60 {
		b = append(b[:60], "…"...)
	}
	return string(b)
}

func absent(o *value.Object, key string) bool {
	v, _ := o.Get(key)
	return v == nil
}

// integer returns a member that is a positive integer, or 0.
func integer(o *value.Object, key string) int64 {
	v, _ := o.Get(key)
	if f, ok := v.(float64); ok && f > 0 && f == math.Trunc(f) && f < 1<<53 {
		return int64(f)
	}
	return 0
}

// isInteger reports whether a member is absent or a positive integer.
func isInteger(o *value.Object, key string) bool { return absent(o, key) || integer(o, key) > 0 }

func (p *problems) text(o *value.Object, label, key string) string {
	v, _ := o.Get(key)
	s, ok := v.(string)
	if !ok && v != nil {
		p.add("%s%s: must be a string, not %s", label, key, describe(v))
	}
	return s
}

func (p *problems) flag(o *value.Object, label, key string) bool {
	v, _ := o.Get(key)
	b, ok := v.(bool)
	if !ok && v != nil {
		p.add("%s%s: must be true or false, not %s", label, key, describe(v))
	}
	return b
}

// texts returns a member that is an array of strings; ok is false if there is none.
func (p *problems) texts(o *value.Object, label, key string) (all []string, ok bool) {
	v, _ := o.Get(key)
	if v == nil {
		return nil, false
	}
	a, isArray := v.(value.Array)
	all = []string{}
	for _, x := range a {
		s, isText := x.(string)
		isArray = isArray && isText
		all = append(all, s)
	}
	if !isArray {
		p.add("%s%s: must be an array of strings, not %s", label, key, describe(v))
	}
	return all, true
}

func (p *problems) object(o *value.Object, label, key string) *value.Object {
	v, _ := o.Get(key)
	x, ok := v.(*value.Object)
	if !ok && v != nil {
		p.add("%s%s: must be an object, not %s", label, key, describe(v))
	}
	return x
}

func (p *problems) wholeRate(o *value.Object) *Rate {
	r := p.object(o, "", "rateLimit")
	if r == nil {
		return nil
	}
	for _, k := range []string{"windowMs", "maxRequests"} {
		if integer(r, k) == 0 {
			v, _ := r.Get(k)
			p.add("rateLimit.%s: must be a positive integer, not %s", k, describe(v))
		}
	}
	return &Rate{integer(r, "windowMs"), integer(r, "maxRequests")}
}

func (p *problems) collections(
	o *value.Object, namespace, label string, whole *Rate,
) (all []*Collection) {
	v, _ := o.Get("collections")
	a, ok := v.(value.Array)
	if !ok && v != nil {
		p.add("%scollections: must be an array, not %s", label, describe(v))
	}
	names := map[string]bool{}
	bundles := map[string]string{}
	for i, x := range a {
		o, ok := x.(*value.Object)
		if !ok {
			p.add("%scollections[%d]: must be an object, not %s", label, i, describe(x))
			continue
		}
		c := p.collection(o, fmt.Sprintf("%scollections[%d]: ", label, i), label, whole, names)
		c.Namespace = namespace
		all = append(all, c)
	}
	for _, c := range all {
		if c.Bundle == "" {
			continue
		}
		if other := bundles[c.Bundle]; other != "" && other != c.StoragePath {
			p.add(
				"%sbundle %q: its collections differ in storagePath: %q and %q", label, c.Bundle, other,
				c.StoragePath,
			)
		}
		bundles[c.Bundle] = c.StoragePath
	}
	return all
}

var collectionFields = []string{
	"name", "storagePath", "readRoles", "writeRoles", "encryption", "maxBodyBytes", "rateLimit",
	"cacheDurationMs", "objectSchema", "allowedMimeTypes", "pullOnly", "pushOnly", "forceFullFetch",
	"bundle", "appendOnly", "ttlMs", "fieldPermissions", "keyringPath", "clientEncrypted", "remote",
	"listable", "rootOnly", "restrictions", "content",
}

func (p *problems) collection(
	o *value.Object, at, scope string, whole *Rate, names map[string]bool,
) *Collection {
	c := &Collection{object: o}
	if c.Name = p.text(o, at, "name"); c.Name == "" {
		p.add("%sname: is missing", at)
	}
	label := fmt.Sprintf("%scollection %q: ", scope, c.Name)
	if c.Name != "" && names[c.Name] {
		p.add("%sname: another collection has it, too", label)
	}
	names[c.Name] = true
	p.unknown(o, label, collectionFields...)
	if c.StoragePath = p.text(o, label, "storagePath"); c.StoragePath == "" {
		p.add("%sstoragePath: is missing", label)
	}
	var given bool
	if c.ReadRoles, given = p.texts(o, label, "readRoles"); !given {
		p.add("%sreadRoles: is missing", label)
	}
	if c.WriteRoles, given = p.texts(o, label, "writeRoles"); !given {
		p.add("%swriteRoles: is missing", label)
	}
	if c.Encryption = Encryption(p.text(o, label, "encryption")); c.Encryption == "" {
		c.Encryption = Plain
	} else if c.Encryption != Plain && c.Encryption != Delegated && !c.Encryption.AtRest() {
		p.add(
			"%sencryption: must be %q, %q, %q or %q, not %q", label, Plain, Identity, Server, Delegated,
			c.Encryption,
		)
	}
	if p.flag(o, label, "clientEncrypted") && c.Encryption == Plain {
		c.Encryption = Delegated
	}
	if c.MaxBodyBytes = integer(o, "maxBodyBytes"); c.MaxBodyBytes == 0 {
		v, _ := o.Get("maxBodyBytes")
		p.add("%smaxBodyBytes: must be a positive integer, not %s", label, describe(v))
	}
	c.CacheDurationMS = p.milliseconds(o, label, "cacheDurationMs")
	c.TTLMS = p.milliseconds(o, label, "ttlMs")
	c.ObjectSchema = p.object(o, label, "objectSchema")
	if c.AllowedMimeTypes, given = p.texts(o, label, "allowedMimeTypes"); !given {
		c.AllowedMimeTypes = []string{JSON}
	}
	c.PullOnly, c.PushOnly = p.flag(o, label, "pullOnly"), p.flag(o, label, "pushOnly")
	c.ForceFullFetch = p.flag(o, label, "forceFullFetch")
	c.Listable, c.RootOnly = p.flag(o, label, "listable"), p.flag(o, label, "rootOnly")
	c.Bundle, c.KeyringPath = p.text(o, label, "bundle"), p.text(o, label, "keyringPath")
	c.AppendOnly = p.appendOnly(o, label)
	c.FieldPermissions = p.fieldPermissions(o, label)
	c.RateLimit = p.rateLimit(o, label)
	p.rules(c, label, whole)
	c.Restrictions = p.restrictions(o, label)
	c.Content = p.content(o, label, c)
	return c
}

func (p *problems) content(o *value.Object, label string, c *Collection) (x Content) {
	v := p.object(o, label, "content")
	if v == nil {
		return x
	}
	label += "content."
	p.unknown(v, label, "active", "embed")
	x.Active, x.Embed = p.flag(v, label, "active"), p.text(v, label, "embed")
	if !slices.Contains([]string{"", "same-origin", "same-site", "cross-origin"}, x.Embed) {
		p.add("%sembed: must be same-origin, same-site or cross-origin, not %q", label, x.Embed)
	}
	if !c.Binary() {
		p.add(
			"%s: only files have it (allowedMimeTypes must lack application/json)",
			strings.TrimSuffix(label, "."),
		)
	}
	if x.Active {
		p.warnings = append(
			p.warnings,
			label+"active: whoever may write a file can run scripts as this server in a browser "+
				"that shows it",
		)
	}
	return x
}

func (p *problems) milliseconds(o *value.Object, label, key string) *int64 {
	v, _ := o.Get(key)
	if v == nil {
		return nil
	}
	f, ok := v.(float64)
	if !ok || f != math.Trunc(f) || f < 0 || f >= 1<<53 {
		p.add("%s%s: must be an integer that is not negative, not %s", label, key, describe(v))
		return nil
	}
	n := int64(f)
	return &n
}

func (p *problems) appendOnly(o *value.Object, label string) *AppendOnly {
	v, _ := o.Get("appendOnly")
	switch x := v.(type) {
	case nil:
		return nil
	case bool:
		if !x {
			return nil
		}
		v = &value.Object{}
	}
	x := &value.Object{}
	given, ok := v.(*value.Object)
	if !ok {
		p.add("%sappendOnly: must be an object, true or false, not %s", label, describe(v))
		return nil
	}
	for k, v := range given.All() {
		x.Set(k, v)
	}
	if absent(x, "type") {
		x.Set("type", "by_timestamp")
	}
	label += "appendOnly."
	p.unknown(
		x, label, "type", "field", "persist", "maxItems", "chunkSize", "requireAuthorSignature",
		"allowFull", "maxPullLimit", "maxCheckpointAgeMs",
	)
	truth := func(key string) bool { return absent(x, key) || p.flag(x, label, key) }
	a := &AppendOnly{
		Field: p.text(x, label, "field"), Persist: truth("persist"),
		RequireAuthorSignature: truth("requireAuthorSignature"), AllowFull: truth("allowFull"),
		MaxItems: integer(x, "maxItems"), ChunkSize: integer(x, "chunkSize"),
		MaxPullLimit:       integer(x, "maxPullLimit"),
		MaxCheckpointAgeMS: integer(x, "maxCheckpointAgeMs"), object: x,
	}
	if a.Field == "" {
		a.Field = DefaultField
	}
	return a
}

func (p *problems) fieldPermissions(o *value.Object, label string) (all []FieldPermission) {
	for field, v := range p.object(o, label, "fieldPermissions").All() {
		label := fmt.Sprintf("%sfieldPermissions.%s.", label, field)
		x, ok := v.(*value.Object)
		if !ok {
			p.add("%s: must be an object, not %s", label[:len(label)-1], describe(v))
			continue
		}
		p.unknown(x, label, "readRoles", "writeRoles")
		f := FieldPermission{Field: field}
		f.ReadRoles, _ = p.texts(x, label, "readRoles")
		f.WriteRoles, _ = p.texts(x, label, "writeRoles")
		all = append(all, f)
	}
	return all
}

func (p *problems) rateLimit(o *value.Object, label string) *RateLimit {
	v, _ := o.Get("rateLimit")
	if b, ok := v.(bool); ok {
		if b {
			return &RateLimit{}
		}
		return nil
	}
	x := p.object(o, label, "rateLimit")
	if x == nil {
		return nil
	}
	p.unknown(x, label+"rateLimit.", "windowMs", "maxRequests", "bucket", "push", "pull", "list")
	bucket := func(o *value.Object) Bucket { s, _ := o.String("bucket"); return Bucket(s) }
	rate := func(o *value.Object) Rate {
		return Rate{integer(o, "windowMs"), integer(o, "maxRequests")}
	}
	part := func(o *value.Object, label, key string) *Rate {
		x := p.object(o, label, key)
		if x == nil {
			return nil
		}
		r := rate(x)
		return &r
	}
	rule := func(action string) *RateRule {
		y := p.object(x, label+"rateLimit.", action)
		if y == nil {
			return nil
		}
		label := label + "rateLimit." + action + "."
		p.unknown(y, label, "windowMs", "maxRequests", "bucket", "identity", "ip")
		return &RateRule{
			Rate: rate(y), Bucket: bucket(y), Identity: part(y, label, "identity"), IP: part(y, label, "ip"),
		}
	}
	return &RateLimit{
		Rate: rate(x), Bucket: bucket(x), Push: rule("push"), Pull: rule("pull"), List: rule("list"),
	}
}

func (p *problems) restrictions(o *value.Object, label string) (all []Restriction) {
	v, _ := o.Get("restrictions")
	a, ok := v.(value.Array)
	if !ok && v != nil {
		p.add("%srestrictions: must be an array, not %s", label, describe(v))
	}
	for i, x := range a {
		label := fmt.Sprintf("%srestrictions[%d]", label, i)
		o, ok := x.(*value.Object)
		if !ok {
			p.add("%s: must be an object, not %s", label, describe(x))
			continue
		}
		r := Restriction{}
		mode, _ := o.Get("mode")
		switch mode {
		case "deny":
			r.Deny = true
		case "allow":
		default:
			p.add(`%s.mode: must be "deny" or "allow", not %s`, label, describe(mode))
		}
		ids, _ := o.Get("identities")
		if list, _ := ids.(value.Array); len(list) == 0 {
			p.add("%s.identities: must be an array that is not empty", label)
		} else {
			for _, x := range list {
				s, ok := x.(string)
				if !ok {
					p.add("%s.identities: must be strings", label)
					break
				}
				r.Identities = append(r.Identities, s)
			}
			r.Identities = p.identities(r.Identities, label+".identities")
		}
		actions, _ := o.Get("actions")
		list, ok := actions.(value.Array)
		if !ok && actions != nil {
			p.add("%s.actions: must be an array, not %s", label, describe(actions))
		}
		for _, x := range list {
			s, _ := x.(string)
			if !slices.Contains(Actions, s) {
				p.add(`%s.actions: must be "push", "pull" or "list", not %s`, label, describe(x))
				continue
			}
			r.Actions = append(r.Actions, s)
		}
		all = append(all, r)
	}
	return all
}

func (p *problems) namespaces(o *value.Object, c *Config) {
	for name, v := range p.object(o, "", "namespaces").All() {
		label := fmt.Sprintf("namespace %q: ", name)
		x, ok := v.(*value.Object)
		if !ok {
			p.add("%sit must be an object, not %s", label, describe(v))
			continue
		}
		p.unknown(x, label, "collections", "restrictions")
		n := &Namespace{Name: name, Restrictions: p.restrictions(x, label)}
		if !namespaceName.MatchString(name) {
			p.add("%sits name may have letters of ASCII, digits, '-' and '_' only", label)
		}
		if slices.Contains(reservedNames, name) {
			p.add("%sits name is taken by a route", label)
		}
		if list, _ := x.Get("collections"); list == nil {
			p.add("%scollections: is empty", label)
		} else if a, ok := list.(value.Array); ok && len(a) == 0 {
			p.add("%scollections: is empty", label)
		}
		n.Collections = p.collections(x, name, label, c.RateLimit)
		c.Namespaces = append(c.Namespaces, n)
	}
}
