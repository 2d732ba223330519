package config

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// walletRoles are those that callers with a wallet have (package evm) and chains give (package
// chain).
var walletRoles = []string{"user", "admin", "owner", "member"}

var delegatedRole = regexp.MustCompile(`^delegated:[^:]+:.+$`)

// defaultEntitlement is what the role of a feature begins with, unless configured.
const defaultEntitlement = "entitlement"

// CheckRoles returns an *InvalidError that names each role which nobody can have: of a server that
// gives no roles but those that Skerry knows and those of more. Whoever writes "pubilc" shuts
// everybody out, or leaves a field to everybody that was to be an administrator's.
func (c *Config) CheckRoles(more ...string) error {
	p := &problems{}
	for _, col := range c.Collections {
		c.roles(p, col, "", more)
	}
	for _, n := range c.Namespaces {
		for _, col := range n.Collections {
			c.roles(p, col, fmt.Sprintf("namespace %q: ", n.Name), more)
		}
	}
	if len(p.list) > 0 {
		return &InvalidError{p.list}
	}
	return nil
}

func (c *Config) roles(p *problems, col *Collection, scope string, more []string) {
	check := func(field string, roles []string) {
		for _, r := range roles {
			if !c.knows(r) && !slices.Contains(more, r) {
				p.add("%scollection %q: %s: nobody has the role %q; roles are public, self, device:root, "+
					"cap:read, cap:write and cap:list with \":<collection>\", delegated:<user "+
					"id>:<collection>, %s, those of extensions.roles, and with extensions.entitlements "+
					"%s:<feature>",
					scope, col.Name, field, r, strings.Join(walletRoles, ", "), c.entitlement())
			}
		}
	}
	check("readRoles", col.ReadRoles)
	check("writeRoles", col.WriteRoles)
	for _, f := range col.FieldPermissions {
		check("fieldPermissions."+f.Field+".readRoles", f.ReadRoles)
		check("fieldPermissions."+f.Field+".writeRoles", f.WriteRoles)
	}
}

func (c *Config) entitlement() string {
	if c.Entitlements == nil {
		return defaultEntitlement
	}
	return cmp.Or(c.Entitlements.Role, defaultEntitlement)
}

func (c *Config) knows(role string) bool {
	_, configured := c.Roles[role]
	feature := strings.HasPrefix(role, c.entitlement()+":") && c.Entitlements != nil
	return configured || feature || role == RolePublic || role == RoleSelf || role == RoleRoot ||
		slices.Contains(walletRoles, role) || capRole.MatchString(role) || delegatedRole.MatchString(role)
}

// selfMade reports whether anybody can have a role by making a certificate for it: a root device's
// says of itself what it may do.
func selfMade(role string) bool { return role == RoleRoot || capRole.MatchString(role) }

// warnSelfMade tells of collections that look closed and are not. Where a path names the caller,
// nobody reaches what is another's.
func (c *Collection) warnSelfMade(add func(format string, args ...any)) {
	if slices.Contains(Params(c.StoragePath), IdentityParam) {
		return
	}
	const anybody = "anybody can make a certificate that has it, as in the published servers; " +
		"name identities in extensions.roles, or use delegated:<user id>:%s"
	for _, x := range []struct {
		field, does string
		roles       []string
	}{{"readRoles", "read", c.ReadRoles}, {"writeRoles", "write", c.WriteRoles}} {
		for _, r := range x.roles {
			if selfMade(r) && !has(x.roles, RolePublic) {
				add("%s: anybody can %s, as it contains %q: "+anybody, x.field, x.does, r, c.Name)
			}
		}
	}
	if c.RootOnly && (slices.ContainsFunc(c.ReadRoles, selfMade) ||
		slices.ContainsFunc(c.WriteRoles, selfMade)) {
		add("rootOnly: it lets in every root device, not only yours: " +
			"a root device's certificate is made by itself, as in the published servers")
	}
}

// Names reports whether the configuration names an identity: it has a role, is restricted, or gives
// certificates that have one.
func (c *Config) Names(identity string) bool {
	among := func(all []Restriction) bool {
		return slices.ContainsFunc(all, func(r Restriction) bool { return has(r.Identities, identity) })
	}
	for _, ids := range c.Roles {
		if has(ids, identity) {
			return true
		}
	}
	for _, n := range c.Namespaces {
		if among(n.Restrictions) {
			return true
		}
	}
	gives := func(role string) bool { return strings.HasPrefix(role, "delegated:"+identity+":") }
	return among(c.Restrictions) || slices.ContainsFunc(c.All(), func(col *Collection) bool {
		return among(col.Restrictions) || slices.ContainsFunc(col.ReadRoles, gives) ||
			slices.ContainsFunc(col.WriteRoles, gives)
	})
}
