package config_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/config"
)

// extended has all that extensions may hold.
const extended = `{"version": 1, "collections": [
	{"name": "posts", "storagePath": "posts/{id}", "readRoles": ["public"], "writeRoles": ["admin"], "maxBodyBytes": 10},
	{"name": "list", "storagePath": "list", "readRoles": ["public"], "writeRoles": ["admin"], "maxBodyBytes": 10},
	{"name": "news", "storagePath": "news", "readRoles": ["public"], "writeRoles": ["admin"], "maxBodyBytes": 10}],
	"extensions": {"roles": {"admin": ["alice"]}, "entitlements": true, "rules": {"servers": ["a"], "hosts": ["sync.example"]},
	"evm": {"admins": ["0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F"], "sharedNonces": true, "chains": {"evm:8453": {"rpc": ["https://rpc.example/key"], "contract": "0x2b5ad5c4795c026514f8317c7a215e218dccd6cf", "ownerMs": 1, "notOwnerMs": 2, "accessMs": 3, "noAccessMs": 4, "staleMs": 5}, "evm:1": {}}},
	"queue": {"nats": {"url": "nats://127.0.0.1", "stream": "writes", "credentials": "file"}, "collections": {"news": true, "list": false, "posts": {"topic": "a.b", "subjectParam": "id", "subjectIdPattern": "^x", "includeParams": true, "includeBody": true, "includeIdentity": true}}},
	"projections": [{"source": "posts", "target": "list", "id": "{id}", "fields": ["title"], "removed": "deleted", "maxItems": 5}, {"source": ["posts"], "target": "x"}],
	"remotes": {"news": {"url": "https://other.example/v1", "pullPath": "/pull/news", "pushPath": "/push/news", "headers": {"X": "y"}, "writeMode": "bidirectional", "syncTriggers": ["scheduled", "on_pull"], "intervalMs": 5, "onPullMinIntervalMs": 0, "passphraseFile": "p"}}}}`

// The schema in docs lets pass what Parse takes without a warning of an unknown field, and knows
// its fields.
func TestSchema(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "collections.schema.json"))
	require.NoError(t, err)
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	require.NoError(t, err)
	c := jsonschema.NewCompiler()
	require.NoError(t, c.AddResource("schema", doc))
	schema, err := c.Compile("schema")
	require.NoError(t, err)
	check := func(text []byte) error {
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		require.NoError(t, err)
		return schema.Validate(v)
	}
	b, err := os.ReadFile(filepath.Join("..", "..", "testdata", "starfish", "config.json"))
	require.NoError(t, err)
	var vectors []struct {
		Name   string
		Config json.RawMessage
	}
	require.NoError(t, json.Unmarshal(b, &vectors))
	vectors = append(vectors, struct {
		Name   string
		Config json.RawMessage
	}{"extended", json.RawMessage(extended)})
	taken := 0
	for _, x := range vectors {
		parsed, err := config.Parse(x.Config)
		invalid := check(x.Config)
		if err != nil {
			require.NotEqual(t, "extended", x.Name, "%v", err)
			continue // the schema does not know what fields mean together
		}
		unknown := false
		for _, w := range parsed.Warnings {
			unknown = unknown || bytes.Contains([]byte(w), []byte("unknown field"))
		}
		if unknown {
			require.Error(t, invalid, x.Name)
			continue
		}
		require.NoError(t, invalid, x.Name)
		taken++
	}
	require.Greater(t, taken, 5)
	for _, wrong := range []string{
		`{}`, `{"version": 1, "collections": [{}]}`, `{"version": 1, "extensions": {"queues": {}}}`,
		`{"version": 1, "namespaces": {"pull": {"collections": []}}}`,
		`{"version": 1, "extensions": {"remotes": {"a": {"url": "x", "writeMode": "both"}}}}`,
	} {
		require.Error(t, check([]byte(wrong)), wrong)
	}
}

// All that is wrong with extensions is said, too.
func TestExtensionProblems(t *testing.T) {
	c, err := config.Parse([]byte(extended))
	require.NoError(t, err)
	require.Empty(t, c.Warnings)
	require.ElementsMatch(t, []string{"a.b", "news"}, c.Queue.Subjects())
	require.Nil(t, c.Queue.Topic(c.Collections[1]))
	require.Equal(t, "{id}", c.Projections[1].ID)
	_, err = config.Parse([]byte(`{"version": 1, "collections": [
		{"name": "posts", "storagePath": "posts/{id}", "readRoles": ["public"], "writeRoles": ["admin"], "maxBodyBytes": 10},
		{"name": "sealed", "storagePath": "sealed", "readRoles": ["public"], "writeRoles": ["admin"], "maxBodyBytes": 10, "encryption": "delegated"},
		{"name": "two words", "storagePath": "w", "readRoles": ["public"], "writeRoles": ["admin"], "maxBodyBytes": 10},
		{"name": "pictures", "storagePath": "p/{id}", "readRoles": ["public"], "writeRoles": ["admin"], "maxBodyBytes": 10, "allowedMimeTypes": ["image/*"]},
		{"name": "log", "storagePath": "log", "readRoles": ["public"], "writeRoles": ["admin"], "maxBodyBytes": 10, "appendOnly": true}],
		"extensions": {
		"evm": {"admins": ["0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4f", "bob"], "sharedNonces": 1, "chain": 1, "chains": {"evm:08453": {}, "base": 5, "evm:1": {"rpc": ["ftp://x", "y"], "contract": "0x12", "accessMs": -1, "rpcs": 1},
			"evm:2": {"rpc": ["http://x"]}, "evm:3": {"contract": "0x2b5ad5c4795c026514f8317c7a215e218dccd6cf"}}},
		"queue": {"nats": {"stream": "a b"}, "collections": {"nothing": true, "posts": {"subjectParam": "x", "subjectIdPattern": "("}, "two words": true, "pictures": {"includeBody": true}, "log": 5}},
		"projections": [7, {"target": "/x", "maxItems": 0}, {"source": ["posts", "sealed", "nothing"], "target": "a/{tenant}"}, {"source": "sealed", "target": "sealed"}],
		"remotes": {"nothing": {}, "posts": 5, "log": {"url": "ftp://x", "pullPath": "x", "writeMode": "both", "syncTriggers": ["scheduled", "often"]}, "sealed": {"url": "http://x", "pullPath": "/x", "writeMode": "push_through"}}}}`))
	got := problems(t, err)
	for _, want := range []string{
		"extensions.evm.admins: not an address", "extensions.evm.sharedNonces: must be true or false",
		"extensions.evm.chains.evm:08453: a chain is called evm:",
		"extensions.evm.chains.base: a chain is called evm:",
		"extensions.evm.chains.base: must be an object",
		"extensions.evm.chains.evm:1.rpc: must be URLs", "extensions.evm.chains.evm:1.contract: " +
			"not an address", "extensions.evm.chains.evm:1.accessMs: must be", "extensions.evm.chains.evm:2.contract: is missing",
		"extensions.queue.nats.url: is missing", `extensions.queue.nats.stream: must consist of`, "extensions.queue.collections.nothing: there is no such collection", `extensions.queue.collections.posts.subjectParam: "posts/{id}" has no parameter "x"`,
		"extensions.queue.collections.posts.subjectIdPattern: ", `extensions.queue.collections.two words: "two words" cannot be a subject`, "extensions.queue.collections.pictures.includeBody: the collection is binary", "extensions.queue.collections.log: must be an object",
		"extensions.projections[0]: must be an object", "extensions.projections[1].source: is missing", "extensions.projections[1].target: must not begin with a slash", "extensions.projections[1].maxItems: must be", `extensions.projections[2].source: there is no collection "nothing"`,
		`extensions.projections[2].target, id: "posts/{id}" has no parameter "tenant"`, `extensions.projections[2].source: the server cannot read what is in "sealed"`, `extensions.projections[3].target: is the source "sealed" itself`, "extensions.projections[3].id: is missing",
		"extensions.remotes.nothing: there is no such collection", "extensions.remotes.posts: " +
			"must be an object", "extensions.remotes.log: the collection cannot be one of another " +
			"server: it is a log", "extensions.remotes.log.url: must be one such as", "extensions.remotes.log.writeMode: must be",
		"extensions.remotes.log.pullPath: must begin with a slash", "extensions.remotes.log.intervalMs: must be a positive integer", `extensions.remotes.log.syncTriggers: must be "scheduled" or "on_pull", not "often"`,
		"extensions.remotes.sealed: the collection cannot be one of another server: the server " +
			"cannot read it", "extensions.remotes.sealed.pushPath: is missing",
	} {
		require.Condition(t, func() bool {
			for _, p := range got {
				if bytes.HasPrefix([]byte(p), []byte(want)) {
					return true
				}
			}
			return false
		}, "%s\n%s", want, got)
	}
}
