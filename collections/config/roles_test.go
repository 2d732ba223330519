package config_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/config"
)

// one is a configuration of one collection, c, with two lists of roles and more fields.
func one(t *testing.T, path, read, write, more string) *config.Config {
	c, err := config.Parse(
		fmt.Appendf(nil, `{"version": 1, "collections": [{"name": "c", "storagePath": %q,
		"readRoles": %s, "writeRoles": %s, "maxBodyBytes": 1000%s`, path, read, write, more),
	)
	require.NoError(t, err)
	return c
}

// A role that nobody can have is a slip of the pen, and told as such.
func TestUnknownRoles(t *testing.T) {
	require.NoError(t, config.Default().CheckRoles())
	for _, role := range []string{
		"public", "self", "device:root", "cap:read:c", "cap:write:*", "delegated:0123:c",
		"user", "admin", "owner", "member", "editor", "plan:pro",
	} {
		c := one(
			t, "c/{id}", `["public"]`, fmt.Sprintf(`[%q]`, role),
			`, "fieldPermissions": {"x": {"writeRoles": ["`+role+`"]}}}],
			"extensions": {"roles": {"editor": ["x"]}, "entitlements": {"role": "plan"}}}`,
		)
		require.NoError(t, c.CheckRoles(), role)
	}
	for _, role := range []string{
		"pubilc", "", "Public", "cap:write", "cap:delete:c", "cap:*", "delegated:c", "plan:pro", "editor",
	} {
		c := one(
			t, "c/{id}", `["public"]`, fmt.Sprintf(`[%q]`, role),
			`, "fieldPermissions": {"x": {"readRoles": ["`+role+`"]}}}]}`,
		)
		err := c.CheckRoles()
		require.ErrorContains(t, err, fmt.Sprintf("writeRoles: nobody has the role %q", role))
		require.ErrorContains(
			t, err, fmt.Sprintf("fieldPermissions.x.readRoles: nobody has the role %q", role),
		)
		require.NoError(t, c.CheckRoles(role), "of a program that gives it")
	}
}

// A path that leads out of its place, or has two spellings, is a mistake.
func TestPathsOutOfPlace(t *testing.T) {
	for _, path := range []string{
		"../x/{id}", "x/../{id}", "x/./{id}", "x//{id}", "x..y/{id}", `x\\y/{id}`, "x%2fy/{id}",
		"x/{id}?a", "x\\n/{id}",
	} {
		_, err := config.Parse(
			fmt.Appendf(nil, `{"version": 1, "collections": [{"name": "c", "storagePath": "%s",
			"readRoles": ["public"], "writeRoles": ["public"], "maxBodyBytes": 1000}]}`, path),
		)
		require.ErrorContains(t, err, "storagePath", path)
	}
	for _, extension := range []string{
		`"projections": [{"source": "c", "target": "../lists"}]`,
		`"entitlements": {"path": "users/../{identity}"}`,
	} {
		_, err := config.Parse(
			[]byte(`{"version": 1, "collections": [{"name": "c", "storagePath": "c/{id}",
			"readRoles": ["public"], "writeRoles": ["public"], "maxBodyBytes": 1000}], "extensions": {` +
				extension + `}}`),
		)
		require.ErrorContains(t, err, `the segment ".." leads elsewhere`)
	}
}

// What anybody can let itself in with a certificate of its own looks closed and is not.
func TestSelfMadeCertificates(t *testing.T) {
	warned := func(c *config.Config, what string) bool {
		for _, w := range c.Warnings {
			if strings.Contains(w, what) {
				return true
			}
		}
		return false
	}
	c := one(t, "news/{id}", `["public"]`, `["cap:write:c"]`, "}]}")
	require.True(
		t, warned(c, `writeRoles: anybody can write, as it contains "cap:write:c"`), c.Warnings,
	)
	require.False(t, warned(c, "readRoles"), c.Warnings)
	c = one(t, "ops/{id}", `["admin", "cap:read:c"]`, `["device:root"]`, `, "rootOnly": true}]}`)
	for _, what := range []string{
		"readRoles: anybody can read", "writeRoles: anybody can write",
		"rootOnly: it lets in every root device",
	} {
		require.True(t, warned(c, what), c.Warnings)
	}
	for _, c := range []*config.Config{
		one(
			t, "users/{identity}/x", `["cap:read:c"]`, `["cap:write:c", "device:root"]`,
			`, "rootOnly": true}]}`,
		),
		one(t, "ops/{id}", `["admin"]`, `["delegated:0123:c"]`, `, "rootOnly": true}]}`),
	} {
		require.False(t, warned(c, "anybody"), c.Warnings)
		require.False(t, warned(c, "rootOnly"), c.Warnings)
	}
}
