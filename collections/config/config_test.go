package config_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/config"
)

func problems(t *testing.T, err error) []string {
	if err == nil {
		return nil
	}
	var invalid *config.InvalidError
	require.ErrorAs(t, err, &invalid)
	return invalid.Problems
}

// refusedHere is what the published server takes and we do not, by name.
var refusedHere = map[string]int{
	"listSlash": 1, // "c/{id}/" is "c/{id}" in a store of files
}

// What the published server refuses we refuse, for as many reasons.
func TestVectors(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("..", "..", "testdata", "starfish", "config.json"))
	require.NoError(t, err)
	var all []struct {
		Name               string
		Config             json.RawMessage
		Problems, Warnings int
	}
	require.NoError(t, json.Unmarshal(b, &all))
	require.NotEmpty(t, all)
	for _, x := range all {
		c, err := config.Parse(x.Config)
		got := slices.DeleteFunc(problems(t, err), func(p string) bool {
			return strings.Contains(p, "stand for the same paths") // which the published server takes
		})
		require.Len(t, got, x.Problems+refusedHere[x.Name], "%s: %q", x.Name, got)
		if c != nil {
			theirs := slices.DeleteFunc(slices.Clone(c.Warnings), func(w string) bool {
				return strings.Contains(w, "a certificate")
			})
			require.Len(t, theirs, x.Warnings, "%s: %q", x.Name, c.Warnings)
		}
		for _, p := range got {
			require.NotContains(t, p, "%!", x.Name)
		}
	}
}

const good = `{"version": 1, "rateLimit": {"windowMs": 1000, "maxRequests": 5}, "collections": [
	{"name": "notes", "storagePath": "users/{identity}/notes/{id}", "readRoles": ["self"], "writeRoles": ["self"], "encryption": "delegated", "maxBodyBytes": 65536, "listable": true, "ttlMs": 1000, "cacheDurationMs": 0,
	 "rateLimit": {"maxRequests": 7, "bucket": "ip", "pull": {"windowMs": 9}, "list": {"identity": {"maxRequests": 1}, "ip": {}}}, "fieldPermissions": {"secret": {"readRoles": ["admin"]}}},
	{"name": "log", "storagePath": "log", "readRoles": ["public"], "writeRoles": ["admin"], "encryption": "none", "maxBodyBytes": 10, "appendOnly": {"field": "entries", "persist": false, "requireAuthorSignature": false, "allowFull": false}},
	{"name": "pictures", "storagePath": "p/{id}", "readRoles": ["public"], "writeRoles": ["admin"], "encryption": "none", "maxBodyBytes": 10, "allowedMimeTypes": ["image/*"], "colour": "red"}],
	"namespaces": {"a": {"collections": [{"name": "log", "storagePath": "a/log", "readRoles": ["public"], "writeRoles": ["admin"], "encryption": "none", "maxBodyBytes": 10, "appendOnly": true}]}},
	"extensions": {"roles": {"admin": ["alice", "bob"]}, "entitlements": {"field": "packages"}}}`

func TestParse(t *testing.T) {
	c, err := config.Parse([]byte(good))
	require.NoError(t, err)
	require.Equal(t, []string{`collection "pictures": unknown field "colour" is ignored`}, c.Warnings)
	require.Len(t, c.All(), 4)
	notes := c.Collections[0]
	require.Equal(t, []string{"identity", "id"}, config.Params(notes.StoragePath))
	require.Equal(t, config.Delegated, notes.Encryption)
	require.EqualValues(t, 1000, *notes.TTLMS)
	require.EqualValues(t, 0, *notes.CacheDurationMS)
	require.Equal(
		t, []config.FieldPermission{{Field: "secret", ReadRoles: []string{"admin"}}},
		notes.FieldPermissions,
	)
	require.Equal(
		t, []config.Counter{{Rate: config.Rate{WindowMS: 1000, MaxRequests: 7}, Bucket: config.ByIP}},
		notes.Counters("push", c.RateLimit),
	)
	require.Empty(t, notes.Counters("push", nil), "an implied rule is one for a limit of the whole")
	require.Equal(
		t, []config.Counter{{Rate: config.Rate{WindowMS: 9, MaxRequests: 7}, Bucket: config.ByIdentity}},
		notes.Counters("pull", c.RateLimit),
	)
	require.Equal(
		t,
		[]config.Counter{
			{Rate: config.Rate{WindowMS: 1000, MaxRequests: 1}, Bucket: config.ByIdentity},
			{Rate: config.Rate{WindowMS: 1000, MaxRequests: 7}, Bucket: config.ByIP},
		},
		notes.Counters("list", c.RateLimit),
	)
	log := c.Collections[1]
	require.False(t, log.Keeps() || log.AppendOnly.RequireAuthorSignature || log.AppendOnly.AllowFull)
	require.Equal(t, "entries", log.AppendOnly.Field)
	require.Empty(t, log.Counters("push", c.RateLimit))
	require.True(t, c.Collections[2].Binary())
	require.Equal(t, map[string][]string{"admin": {"alice", "bob"}}, c.Roles)
	require.Equal(t, &config.Entitlements{Field: "packages"}, c.Entitlements)
	inner := c.Namespaces[0].Collections[0]
	require.Equal(t, "a", inner.Namespace)
	require.True(t, inner.Keeps() && inner.AppendOnly.RequireAuthorSignature &&
		inner.AppendOnly.AllowFull)
	require.Equal(t, config.DefaultField, inner.AppendOnly.Field)
}

// All that is wrong is said at once, with the collection, the field and the reason.
func TestProblems(t *testing.T) {
	_, err := config.Parse(
		[]byte(
			`{"version": 2, "rateLimit": {"windowMs": 5}, "restrictions": {}, "collections": [7, {}, {"name": "a", "storagePath": "x-{id}", "readRoles": "public", "writeRoles": [1], "encryption": "aes", "maxBodyBytes": -1,
		"ttlMs": "1", "cacheDurationMs": -5, "objectSchema": [], "pullOnly": 1, "appendOnly": "yes", "fieldPermissions": {"f": 1}, "rateLimit": 7, "restrictions": [1, {"mode": "deny", "identities": ["x"], "actions": "pull"}]}], "namespaces": {"n": 1}, "extensions": {"roles": {"admin": "alice"}, "entitlements": 5}}`,
		),
	)
	got := problems(t, err)
	for _, want := range []string{
		"version: must be 1, not 2", "rateLimit.maxRequests: must be",
		"collections[0]: must be an object, not 7", "collections[1]: name: is missing",
		`collection "": storagePath: is missing`, `collection "": readRoles: is missing`,
		`collection "": writeRoles: is missing`, `collection "": maxBodyBytes: must be a positive integer, not missing`, `collection "a": storagePath: the parameter {id} must be all of its segment`, `collection "a": readRoles: must be an array of strings, not "public"`,
		`collection "a": writeRoles: must be an array of strings, not [1]`, `collection "a": encryption: must be "none", "identity", "server" or "delegated", not "aes"`, `collection "a": maxBodyBytes: must be a positive integer, not -1`, `collection "a": ttlMs: must be an integer`,
		`collection "a": cacheDurationMs: must be an integer`, `collection "a": objectSchema: must be an object`, `collection "a": pullOnly: must be true or false, not 1`, `collection "a": appendOnly: must be`, `collection "a": fieldPermissions.f: must be an object`,
		`collection "a": rateLimit: must be an object`, `collection "a": restrictions[0]: must be an object`, `collection "a": restrictions[1].actions: must be an array`, "restrictions: must be an array, not {}", `namespace "n": it must be an object`, "extensions.roles.admin: must be an array of strings", "extensions.entitlements: must be an object",
	} {
		require.Condition(t, func() bool {
			for _, p := range got {
				if strings.HasPrefix(p, want) {
					return true
				}
			}
			return false
		}, "%s\n%s", want, strings.Join(got, "\n"))
	}
	for _, text := range []string{
		"", "[]", "null", `{"version": 1, "collections": {}}`, `{"version": 1, "namespaces": []}`,
	} {
		_, err := config.Parse([]byte(text))
		require.NotEmpty(t, problems(t, err), text)
	}
}

func TestLoad(t *testing.T) {
	name := filepath.Join(t.TempDir(), "collections.json")
	_, err := config.Load(name)
	require.True(t, errors.Is(err, os.ErrNotExist))
	require.NoError(t, os.WriteFile(name, []byte(good), 0o600))
	c, err := config.Load(name)
	require.NoError(t, err)
	require.Equal(t, 5, c.Object().Len())
	require.NoError(t, os.WriteFile(name, []byte("{"), 0o600))
	_, err = config.Load(name)
	require.ErrorContains(t, err, name)
	require.NotEmpty(t, problems(t, err))
	require.NoError(t, os.Truncate(name, config.MaxSize+1))
	_, err = config.Load(name)
	require.ErrorContains(t, err, "at most")
}

// Whatever a configuration holds, it is refused with reasons or can be used.
func FuzzParse(f *testing.F) {
	f.Add([]byte(good))
	f.Add(
		[]byte(
			`{"version": 1, "restrictions": [{"mode": "deny", "identities": ["a"]}], "collections": [{"name": "a", "rateLimit": {"push": {"ip": null}}}]}`,
		),
	)
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := config.Parse(text)
		if err != nil {
			require.NotEmpty(t, problems(t, err))
			return
		}
		for _, col := range c.All() {
			require.NotEmpty(t, col.Name)
			require.Positive(t, col.MaxBodyBytes)
			for _, action := range config.Actions {
				for _, n := range col.Counters(action, c.RateLimit) {
					require.True(t, n.WindowMS > 0 && n.MaxRequests > 0 && n.Bucket != "")
				}
			}
		}
	})
}
