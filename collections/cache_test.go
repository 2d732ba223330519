package collections_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections"
	"github.com/skerry-sync/skerry/collections/access"
)

// byHeader takes a caller's word for who it is, and for its roles.
var byHeader = access.ResolverFunc(func(_ context.Context, r *access.Request) (access.Auth, error) {
	who := access.Auth{Identity: r.HTTP.Header.Get("X-Who")}
	if roles := r.HTTP.Header.Get("X-Roles"); roles != "" {
		who.Roles = strings.Split(roles, ",")
	}
	return who, nil
})

// shared is a cache that many callers share, as RFC 9111 allows one to be: it keeps what is not
// private and tells requests apart by what Vary names; it asks whether what it has still holds with
// its ETag.
type shared struct {
	h    http.Handler
	kept map[string][]keptAnswer
}

type keptAnswer struct {
	request http.Header
	answer  *httptest.ResponseRecorder
}

func (c *shared) ask(path string, header ...string) string {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	for _, k := range c.kept[path] {
		same := true
		for _, name := range k.answer.Header().Values("Vary") {
			same = same && k.request.Get(name) == r.Header.Get(name)
		}
		if !same {
			continue
		}
		if !strings.Contains(k.answer.Header().Get("Cache-Control"), "max-age") {
			again := ask(
				c.h, http.MethodGet, path, "",
				append(header, "If-None-Match", k.answer.Header().Get("Etag"))...,
			)
			if again.Code != http.StatusNotModified {
				return again.Body.String()
			}
		}
		return k.answer.Body.String()
	}
	rec := ask(c.h, http.MethodGet, path, "", header...)
	if cc := rec.Header().Get("Cache-Control"); !strings.Contains(cc, "private") &&
		!strings.Contains(cc, "no-store") && rec.Header().Get("Etag") != "" {
		c.kept[path] = append(c.kept[path], keptAnswer{r.Header, rec})
	}
	return rec.Body.String()
}

const withSecrets = `{"version": 1, RESTRICTIONS "collections": [
	{"name": "cards", "storagePath": "cards/{id}", "readRoles": ["public"], "writeRoles": ["public"], "encryption": "none", "maxBodyBytes": 1000, "cacheDurationMs": 60000,
		"fieldPermissions": {"salary": {"readRoles": ["admin"]}}},
	{"name": "plain", "storagePath": "plain/{id}", "readRoles": ["public"], "writeRoles": ["public"], "encryption": "none", "maxBodyBytes": 1000},
	{"name": "files", "storagePath": "files/{id}", "readRoles": ["public"], "writeRoles": ["public"], "encryption": "none", "maxBodyBytes": 1000, "cacheDurationMs": 60000, "allowedMimeTypes": ["image/*"]},
	{"name": "left", "storagePath": "both/{id}", "bundle": "both", "readRoles": ["public"], "writeRoles": ["public"], "encryption": "none", "maxBodyBytes": 1000, "fieldPermissions": {"salary": {"readRoles": ["admin"]}}},
	{"name": "right", "storagePath": "both/{id}", "bundle": "both", "readRoles": ["admin"], "writeRoles": ["public"], "encryption": "none", "maxBodyBytes": 1000}]}`

// What one caller was answered no cache gives to another who may see less, or nothing; and what
// anybody may see caches still keep.
func TestCachesShowNobodyMore(t *testing.T) {
	for name, tt := range map[string]struct {
		restrictions string
		shut         bool // for mallory
	}{
		"restricted":   {`"restrictions": [{"mode": "deny", "identities": ["mallory"]}],`, true},
		"unrestricted": {"", false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(
				t, []byte(strings.Replace(withSecrets, "RESTRICTIONS", tt.restrictions, 1)),
				func(o *collections.Options) {
					o.Resolver, o.Vary = byHeader, []string{"X-Who"}
				},
			)
			for _, path := range []string{
				"/push/cards/a", "/push/plain/a", "/push/both/a/left", "/push/both/a/right",
			} {
				rec := ask(
					w, "POST", path, `{"data":{"name":"n","salary":"s3cret"},"baseHash":null}`, "X-Who", "root",
					"X-Roles", "admin",
				)
				require.Equal(t, 200, rec.Code, "%s: %s", path, rec.Body)
			}
			c := &shared{h: w, kept: map[string][]keptAnswer{}}
			for _, path := range []string{
				"/pull/cards/a", "/pull/plain/a", "/pull/both/a",
				"/batch/pull?collections=cards&params=%7B%22cards%22%3A%5B%7B%22id%22%3A%22a%22%7D%5D%7D",
			} {
				_ = c.ask(path, "X-Who", "root", "X-Roles", "admin")
				reader, mallory := c.ask(path, "X-Who", "reader"), c.ask(path, "X-Who", "mallory")
				require.Contains(t, reader, `"n"`, path)
				if !strings.Contains(path, "plain") {
					require.NotContains(t, reader, "s3cret", path)
				}
				require.Equal(t, tt.shut, !strings.Contains(mallory, `"n"`), "%s: %s", path, mallory)
				require.Equal(
					t, ask(w, "GET", path, "", "X-Who", "reader").Header().Get("Etag"),
					ask(w, "GET", path, "", "X-Who", "other").Header().Get("Etag"),
				)
			}
			require.Equal(
				t, tt.shut, len(c.kept["/pull/plain/a"]) == 0, "what is the same for all may be kept",
			)
			rec := ask(w, "GET", "/pull/cards/a", "", "X-Who", "root", "X-Roles", "admin")
			require.Equal(t, tt.shut, strings.Contains(rec.Header().Get("Cache-Control"), "private"))
			require.Equal(
				t, tt.shut,
				strings.Contains(
					ask(w, "GET", "/pull/files/none", "").Header().Get("Cache-Control"), "private",
				),
				"also of what is not there",
			)
		})
	}
}

// Answers of one document that show different fields have different ETags, so that no cache, nor a
// caller who is given a role, takes one for the other.
func TestETagsTellAnswersApart(t *testing.T) {
	w := newWorld(t, []byte(`{"version": 1, "collections": [
		{"name": "cards", "storagePath": "cards/{id}", "readRoles": ["member"], "writeRoles": ["public"], "encryption": "none", "maxBodyBytes": 1000, "fieldPermissions": {"salary": {"readRoles": ["admin"]}}},
		{"name": "rings", "storagePath": "cards/{id}/_keyring", "readRoles": ["member"], "writeRoles": ["public"], "encryption": "none", "maxBodyBytes": 1000}]}`),
		func(o *collections.Options) { o.Resolver, o.Vary = byHeader, []string{"X-Who"} })
	require.Equal(
		t, 200,
		ask(
			w, "POST", "/push/cards/a", `{"data":{"salary":"s3cret"},"baseHash":null}`, "X-Roles", "admin",
		).Code,
	)
	admin := ask(w, "GET", "/pull/cards/a", "", "X-Roles", "member,admin")
	member := ask(w, "GET", "/pull/cards/a", "", "X-Roles", "member")
	require.Contains(t, admin.Body.String(), "s3cret")
	require.NotContains(t, member.Body.String(), "s3cret")
	etag := admin.Header().Get("Etag")
	require.Equal(
		t, 200, ask(w, "GET", "/pull/cards/a", "", "X-Roles", "member", "If-None-Match", etag).Code,
	)
	require.Equal(
		t, 304, ask(w, "GET", "/pull/cards/a", "", "X-Roles", "member,admin", "If-None-Match", etag).Code,
	)
	require.Equal(
		t, 304,
		ask(
			w, "GET", "/pull/cards/a", "", "X-Roles", "member", "If-None-Match", member.Header().Get("Etag"),
		).Code,
	)
	require.Equal(
		t, []string{"Authorization", "X-Starfish-Pub", "X-Who"}, member.Header().Values("Vary"),
	)

	// The keyring that stands beside is a part of the answer.
	before := ask(
		w, "GET", "/pull/cards/a?withKeyring=1", "", "X-Roles", "member,admin",
	).Header().Get("Etag")
	require.NotEqual(t, etag, before)
	require.Equal(
		t, 200, ask(w, "POST", "/push/cards/a/_keyring", `{"data":{"k":1},"baseHash":null}`).Code,
	)
	after := ask(
		w, "GET", "/pull/cards/a?withKeyring=1", "", "X-Roles", "member,admin", "If-None-Match", before,
	)
	require.Equal(t, 200, after.Code)
	require.Contains(t, after.Body.String(), `"k":1`)
}

// A log's hash is of its last element, and what is hidden in others makes other answers: whoever is
// given a role, or loses it, is not told that what it has still holds.
func TestETagsTellViewsOfLogsApart(t *testing.T) {
	w := newWorld(t, []byte(`{"version": 1, "collections": [
		{"name": "log", "storagePath": "log/{id}", "readRoles": ["member"], "writeRoles": ["public"], "encryption": "none", "maxBodyBytes": 1000,
		 "fieldPermissions": {"pin": {"readRoles": ["admin"]}, "note": {"readRoles": ["staff"]}},
		 "appendOnly": {"requireAuthorSignature": false, "allowFull": true}}]}`),
		func(o *collections.Options) { o.Resolver, o.Vary = byHeader, []string{"X-Who"} })
	for _, data := range []string{`{"n":1,"pin":"1234","note":"x"}`, `{"n":2}`} {
		require.Equal(t, 200, ask(w, "POST", "/push/log/a", `{"data":`+data+`}`).Code)
	}
	bodies, hash := map[string]string{}, ""
	for _, roles := range []string{"member", "member,admin", "member,staff", "member,admin,staff"} {
		rec := ask(w, "GET", "/pull/log/a?full=1", "", "X-Roles", roles)
		require.Equal(t, 200, rec.Code)
		etag := rec.Header().Get("Etag")
		require.NotContains(t, bodies, etag, roles)
		for other := range bodies {
			again := ask(w, "GET", "/pull/log/a?full=1", "", "X-Roles", roles, "If-None-Match", other)
			require.Equal(t, 200, again.Code, roles)
		}
		bodies[etag] = rec.Body.String()
		require.Equal(
			t, 304,
			ask(w, "GET", "/pull/log/a?full=1", "", "X-Roles", roles, "If-None-Match", etag).Code,
		)
		var answer struct{ Hash string }
		require.NoError(t, json.Unmarshal(rec.Body.Bytes(), &answer))
		hash = answer.Hash
	}
	require.Contains(t, bodies, `"`+hash+`"`, "who sees all has the hash alone")
}

// A path has one spelling: a dot does not lead to what lies elsewhere.
func TestDotsInPaths(t *testing.T) {
	w := newWorld(t, []byte(`{"version": 1, "collections": [
		{"name": "all", "storagePath": "{a}/{b}", "readRoles": ["public"], "writeRoles": ["public"], "encryption": "none", "maxBodyBytes": 1000}]}`),
		nil)
	for _, path := range []string{"/./b", "/a/.", "/%2e/b", "/a/%2E", "/a/..", "/./."} {
		require.Equal(t, 400, ask(w, "POST", "/push"+path, `{"data":{},"baseHash":null}`).Code, path)
		require.Equal(t, 400, ask(w, "GET", "/pull"+path, "").Code, path)
	}
	require.Equal(t, 200, ask(w, "POST", "/push/a./.b", `{"data":{},"baseHash":null}`).Code)
}
