package collections_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections"
	"github.com/skerry-sync/skerry/collections/access"
	"github.com/skerry-sync/skerry/collections/capcert"
	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/value"
)

// person is somebody with keys.
type person struct {
	t   testing.TB
	key capcert.Key
	id  string
	n   int
}

func newPerson(t testing.TB, seed byte) *person {
	key, err := capcert.NewKey(bytes.Repeat([]byte{seed}, 32))
	require.NoError(t, err)
	id, err := capcert.UserID(key.Public)
	require.NoError(t, err)
	return &person{t: t, key: key, id: id}
}

// lets returns a certificate of a device of the person with a scope.
func (p *person) lets(device *person, s capcert.Scope) *capcert.Cert {
	cert, err := capcert.MintDevice(
		p.key, capcert.Subject{Key: device.key.Public, KEM: "00"}, s,
		capcert.Terms{NotBefore: 1_699_999_000, Expires: 1_700_009_000, Nonce: make([]byte, 16)},
	)
	require.NoError(p.t, err)
	return cert
}

// ask asks by a certificate, of which the person is the subject, for a server at a host.
func (p *person) ask(
	w *world, cert *capcert.Cert, host, method, path, body string,
) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Host = host
	p.n++
	nonce := sha256.Sum256([]byte(p.id + strconv.Itoa(p.n)))
	var b []byte
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/json")
		b = []byte(body)
	}
	signed := capcert.Request{Method: method, PathAndQuery: path, Body: b, Host: host}
	s := signed.Sign(p.key, w.now.UnixMilli(), nonce[:16])
	r.Header.Set("Authorization", cert.Authorization())
	r.Header.Set(access.HeaderSignature, s.Signature)
	r.Header.Set(access.HeaderTime, strconv.FormatInt(w.now.UnixMilli(), 10))
	r.Header.Set(access.HeaderNonce, s.Nonce)
	rec := httptest.NewRecorder()
	w.ServeHTTP(rec, r)
	return rec
}

const known = "sync.example"

// column returns the configuration of a collection.
func column(name, path, read, write, more string) string {
	return fmt.Sprintf(
		`{"name": %q, "storagePath": %q, "readRoles": [%s], "writeRoles": [%s], "encryption": "none", "maxBodyBytes": 4000%s}`,
		name, path, read, write, more,
	)
}

func configOf(columns ...string) []byte {
	return []byte(`{"version": 1, "collections": [` + strings.Join(columns, ",") + `]}`)
}

func batchOf(name, params string) string {
	return "/batch/pull?collections=" + name + "&params=" + url.QueryEscape(
		`{"`+name+`":[`+params+`]}`,
	)
}

// What a certificate is for binds in all three: what may be done, to which collection, at which
// path.
func TestScopeBinds(t *testing.T) {
	w := newWorld(t, configOf(
		column("settings", "users/{identity}/settings", `"self"`, `"self"`, ""),
		column("posts", "users/{identity}/posts/{id}", `"self"`, `"self"`, `, "listable": true`),
		column("left", "both/{identity}", `"self"`, `"self"`, `, "bundle": "both"`),
		column("right", "both/{identity}", `"self"`, `"self"`, `, "bundle": "both"`),
		column("ring", "team/_keyring", `"cap:read:team"`, `"cap:write:team"`, ""),
	), nil)
	alice, phone := newPerson(t, 1), newPerson(t, 2)
	root := alice.lets(alice, capcert.RootScope())
	settings, post := "users/"+alice.id+"/settings", "users/"+alice.id+"/posts/1"
	for _, path := range []string{
		settings, post, "both/" + alice.id + "/left", "both/" + alice.id + "/right", "team/_keyring",
	} {
		body := `{"data":{"x":1},"baseHash":null}`
		cert, who := root, alice
		if strings.HasPrefix(path, "team") {
			cert = alice.lets(alice, capcert.Scope{Ops: []string{"write"}, Collections: []string{"team"}})
		}
		rec := who.ask(w, cert, known, "POST", "/push/"+path, body)
		require.Equal(t, 200, rec.Code, "%s: %s", path, rec.Body)
	}
	all := []string{"read", "list", "write"}
	for name, tt := range map[string]struct {
		scope                         capcert.Scope
		read, write, post, list, ring bool
	}{
		"everything": {capcert.RootScope(), true, true, true, true, false},
		"reading alone": {capcert.Scope{
			Ops: []string{"read"}, Collections: []string{"*"},
		}, true, false, true, false, false},
		"reading and listing": {capcert.Scope{
			Ops: []string{"read", "list"}, Collections: []string{"*"},
		}, true, false, true, true, false},
		"writing alone": {capcert.Scope{
			Ops: []string{"write"}, Collections: []string{"*"},
		}, false, true, false, false, false},
		"posts alone": {capcert.Scope{
			Ops: all, Collections: []string{"posts"},
		}, false, false, true, true, false},
		"settings' path alone": {capcert.Scope{
			Ops: all, Collections: []string{"*"}, Paths: []string{settings},
		}, true, true, false, false, false},
		"posts, at settings' path": {capcert.Scope{
			Ops: all, Collections: []string{"posts"}, Paths: []string{settings},
		}, false, false, false, false, false},
		"team, whose keyring is another collection that lets it in": {capcert.Scope{
			Ops: []string{"read"}, Collections: []string{"team"},
		}, false, false, false, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			cert := alice.lets(phone, tt.scope)
			code := map[bool]int{true: 200, false: 403}
			get := func(path string) int { return phone.ask(w, cert, known, "GET", path, "").Code }
			require.Equal(t, code[tt.read], get("/pull/"+settings))
			require.Equal(t, code[tt.post], get("/pull/"+post))
			require.Equal(t, code[tt.list], get("/list/users/"+alice.id+"/posts"))
			require.Equal(t, code[tt.ring], get("/pull/team/_keyring"))
			now := value.Hash(mustObject(t, `{"x":1}`))
			rec := phone.ask(
				w, cert, known, "POST", "/push/"+settings, `{"data":{"x":1},"baseHash":"`+now+`"}`,
			)
			require.Equal(t, code[tt.write], rec.Code, rec.Body)
			for collection, may := range map[string]bool{"settings": tt.read, "posts": tt.post} {
				rec := phone.ask(w, cert, known, "GET", batchOf(collection, `{"id":"1"}`), "")
				require.Equal(
					t, may, strings.Contains(rec.Body.String(), `"x":1`), "%s: %s", collection, rec.Body,
				)
			}
		})
	}
	// Exceptions bind in bundles, too.
	cert := alice.lets(
		phone,
		capcert.Scope{Ops: all, Collections: []string{"*"}, Paths: []string{"**", "!both/*/right"}},
	)
	rec := phone.ask(w, cert, known, "GET", "/pull/both/"+alice.id, "")
	require.Equal(t, 200, rec.Code)
	require.Contains(t, rec.Body.String(), `"left"`)
	require.NotContains(t, rec.Body.String(), `"right"`)
}

// A bundle shows of what anybody may read what anybody sees, also to the holder of a certificate
// that is not for it.
func TestHiddenFieldsInBundles(t *testing.T) {
	w := newWorld(t, configOf(
		column("left", "both/{identity}", `"public"`, `"self"`,
			`, "bundle": "both", "fieldPermissions": {"pin": {"readRoles": ["self"]}}`),
		column("right", "both/{identity}", `"self"`, `"self"`, `, "bundle": "both"`),
	), nil)
	alice, phone := newPerson(t, 1), newPerson(t, 2)
	root := alice.lets(alice, capcert.RootScope())
	for _, name := range []string{"left", "right"} {
		rec := alice.ask(
			w, root, known, "POST", "/push/both/"+alice.id+"/"+name,
			`{"data":{"x":1,"pin":"1234"},"baseHash":null}`,
		)
		require.Equal(t, 200, rec.Code, rec.Body)
	}
	cert := alice.lets(phone, capcert.Scope{Ops: []string{"read"}, Collections: []string{"right"}})
	for _, c := range []*capcert.Cert{cert, root} {
		who := map[bool]*person{true: phone, false: alice}[c == cert]
		rec := who.ask(w, c, known, "GET", "/pull/both/"+alice.id, "")
		require.Equal(t, 200, rec.Code, rec.Body)
		v, _ := mustObject(t, rec.Body.String()).Get("collections")
		entry := func(name string) string {
			e, _ := v.(*value.Object).Get(name)
			return string(value.Append(nil, e))
		}
		require.Contains(t, entry("right"), "1234")
		batch := who.ask(w, c, known, "GET", batchOf("left", `{"identity":"`+alice.id+`"}`), "")
		require.NotContains(t, batch.Body.String(), "1234")
		left, _ := v.(*value.Object).Get("left")
		require.NotContains(t, entry("left"), "1234")
		// The hash is that by which a push goes on.
		require.Contains(t, batch.Body.String(), hashOf(left.(*value.Object)))
	}
}

func mustObject(t testing.TB, text string) *value.Object {
	o, err := value.ParseObject([]byte(text), value.MaxDepth)
	require.NoError(t, err)
	return o
}

// A segment that a store could take for another is refused, in whatever way it comes.
func TestSegmentsOfPaths(t *testing.T) {
	dir, err := store.OpenDirectory(t.TempDir())
	require.NoError(t, err)
	w := newWorld(t, configOf(
		column("rooms", "rooms/{id}", `"public"`, `"admin"`, ""),
		column("all", "{a}/{b}/{c}", `"public"`, `"public"`, ""),
	), func(o *collections.Options) { o.Documents = document.In(dir, nil) })
	require.Equal(t, 403, ask(w, "POST", "/push/rooms/x", `{"data":{},"baseHash":null}`).Code)
	for _, s := range []string{
		".", "..", "%2e", "%2E%2e", "a..b", "x__seg", "x__remote", "__sync__", "a!seg", "a%21seg", "a~",
		"a%2fb", "%00", "%c3%a9", strings.Repeat("x", 1025),
	} {
		require.Equal(
			t, 400, ask(w, "POST", "/push/rooms/"+s+"/x", `{"data":{},"baseHash":null}`).Code, s,
		)
		require.Equal(t, 400, ask(w, "GET", "/pull/rooms/"+s+"/x", "").Code, s)
		plain, err := url.PathUnescape(s)
		require.NoError(t, err)
		rec := ask(
			w, "GET", batchOf("all", `{"a":"rooms","b":`+string(value.Append(nil, plain))+`,"c":"x"}`), "",
		)
		require.Contains(t, rec.Body.String(), "Invalid path parameter", s)
	}
	require.Contains(
		t, ask(w, "GET", "/pull/rooms/x", "").Body.String(), `"hash":""`, "nothing was written",
	)
}

// Ids that some store could not hold are refused by all, in whatever way they come, with what is
// too long.
func TestLongPaths(t *testing.T) {
	dir, err := store.OpenDirectory(t.TempDir())
	require.NoError(t, err)
	for _, in := range []store.Store{dir, store.NewMemory()} {
		w := newWorld(t, configOf(
			column("rooms", "rooms/{id}", `"public"`, `"public"`, `, "listable": true`),
			column("log", "logs/{id}", `"public"`, `"public"`,
				`, "appendOnly": {"requireAuthorSignature": false, "chunkSize": 1}`),
			column("files", "files/{id}", `"public"`, `"public"`, `, "allowedMimeTypes": ["image/*"]`),
			column("left", "both/{id}", `"public"`, `"public"`, `, "bundle": "both"`),
			column("under", "under/{room}/{id}", `"public"`, `"public"`, `, "listable": true`),
			column("deep", "{a}/{b}/{c}/{d}/{e}", `"public"`, `"public"`, ""),
			column("mine", "mine/{identity}", `"self"`, `"self"`, ""),
		), func(o *collections.Options) { o.Documents = document.In(in, nil) })
		refused := func(reason, method, path, body string, header ...string) {
			rec := ask(w, method, path, body, header...)
			require.Equal(t, 400, rec.Code, "%s: %s", path, rec.Body)
			require.Equal(t, `{"error":"Invalid path parameter: `+reason+`"}`, rec.Body.String())
		}
		document := `{"data":{},"baseHash":null}`
		for _, id := range []string{
			strings.Repeat("n", 300), strings.Repeat(":", 100), strings.Repeat("n", 241),
		} {
			n := fmt.Sprint(len(strings.ReplaceAll(id, ":", ":::")))
			const most = " bytes; the limit is 240 (a colon counts as three)"
			reason := "id has " + n + most
			refused(reason, "GET", "/pull/rooms/"+id, "")
			refused(reason, "POST", "/push/rooms/"+id, document)
			refused(reason, "POST", "/push/logs/"+id, `{"data":{}}`)
			refused(reason, "GET", "/pull/logs/"+id+"?last=1", "")
			refused(reason, "POST", "/push/files/"+id, "x", "Content-Type", "image/png")
			refused(reason, "GET", "/pull/files/"+id, "")
			refused(reason, "GET", "/pull/both/"+id, "")
			refused(reason, "POST", "/push/both/"+id+"/left", document)
			refused("room has "+n+most, "GET", "/list/under/"+id, "")
			refused("identity has "+n+most, "GET", "/pull/mine/"+id, "")
			rec := ask(w, "GET", batchOf("rooms", `{"id":"`+id+`"},{"id":"a"}`), "")
			require.Equal(t, 200, rec.Code)
			require.Contains(t, rec.Body.String(),
				`[{"error":"Invalid path parameter: `+reason+`"},{"data":{}`)
		}
		five := strings.Repeat("/"+strings.Repeat("n", 180), 5)
		refused("the path has 904 bytes; the limit is 900", "POST", "/push"+five, document)
		for _, id := range []string{strings.Repeat("n", 240), strings.Repeat(":", 80)} {
			require.Equal(t, 200, ask(w, "POST", "/push/rooms/"+id, document).Code)
			for range 3 { // in several chunks
				require.Equal(t, 200, ask(w, "POST", "/push/logs/"+id, `{"data":{}}`).Code)
			}
			rec := ask(w, "POST", "/push/files/"+id, "x", "Content-Type", "image/png")
			require.Equal(t, 200, rec.Code)
			require.Equal(t, 200, ask(w, "POST", "/push/both/"+id+"/left", document).Code)
			require.Contains(t, ask(w, "GET", "/list/rooms", "").Body.String(), id)
		}
		require.Equal(t, 200, ask(w, "POST", "/push"+five[:900], document).Code)
	}
}

// A path belongs to one collection, whoever asks for it in whatever way.
func TestOneOwner(t *testing.T) {
	w := newWorld(t, configOf(
		column("admin", "site/admin", `"admin"`, `"admin"`, ""),
		column("fixed", "site/fixed", `"public"`, `"nobody"`, `, "pullOnly": true`),
		column("in", "site/in", `"public"`, `"public"`, `, "pushOnly": true`),
		column("page", "site/{page}", `"public"`, `"public"`, `, "listable": true`),
		column("sub", "site/{page}/{sub}", `"admin"`, `"public"`, ""),
		column("ring", "site/{page}/{sub}/_keyring", `"admin"`, `"admin"`, ""),
	), func(o *collections.Options) { o.Resolver = byHeader })
	push := func(path string) int {
		return ask(
			w, "POST", "/push/"+path, `{"data":{"s":"secret"},"baseHash":null}`, "X-Roles", "admin",
		).Code
	}
	for _, path := range []string{"site/admin", "site/in", "site/a", "site/b/c", "site/b/c/_keyring"} {
		require.Equal(t, 200, push(path), path)
	}
	require.Equal(
		t, 404, push("site/fixed"), "which the collection of pages must not write in its stead",
	)
	require.Equal(t, 403, ask(w, "GET", "/pull/site/admin", "").Code)
	for _, page := range []string{"admin", "in"} {
		rec := ask(w, "GET", batchOf("page", `{"page":"`+page+`"}`), "")
		require.JSONEq(t, `{"collections":{"page":[{"error":"Forbidden"}]}}`, rec.Body.String(), page)
	}
	require.Equal(t, 404, ask(w, "GET", "/pull/site/in", "").Code)
	require.JSONEq(
		t, `{"collections":{"in":[{"error":"Forbidden"}]}}`,
		ask(w, "GET", "/batch/pull?collections=in", "").Body.String(), "what is only pushed",
	)
	require.JSONEq(t, `{"items":["a"],"hasMore":false}`, ask(w, "GET", "/list/site", "").Body.String())
	require.JSONEq(
		t, `{"items":[],"hasMore":false}`, ask(w, "GET", "/list/site?after=a", "").Body.String(),
	)

	// The keyring beside a document is one that the caller may pull alone.
	for _, tt := range []struct {
		roles string
		shown bool
	}{{"admin", true}, {"", false}} {
		require.Equal(
			t, map[bool]int{true: 200, false: 403}[tt.shown],
			ask(w, "GET", "/pull/site/b/c/_keyring", "", "X-Roles", tt.roles).Code,
		)
		rec := ask(w, "GET", "/pull/site/b/c?withKeyring=1", "", "X-Roles", tt.roles)
		require.Equal(t, tt.shown, strings.Contains(rec.Body.String(), `"keyring":{`), rec.Body)
	}
	public := newWorld(t, configOf(
		column("doc", "doc/{id}", `"public"`, `"public"`, ""),
		column("ring", "doc/{id}/_keyring", `"admin"`, `"public"`, ""),
	), func(o *collections.Options) { o.Resolver = byHeader })
	for _, path := range []string{"doc/a", "doc/a/_keyring"} {
		require.Equal(
			t, 200, ask(public, "POST", "/push/"+path, `{"data":{"s":"secret"},"baseHash":null}`).Code,
		)
	}
	require.NotContains(
		t, ask(public, "GET", "/pull/doc/a?withKeyring=1", "").Body.String(), "keyring",
	)
	require.Contains(
		t, ask(public, "GET", "/pull/doc/a?withKeyring=1", "", "X-Roles", "admin").Body.String(),
		`"keyring":{`,
	)
}

// A log beside a document, where its keyring would be, is not shown past the bounds of its pulls.
func TestLogInThePlaceOfAKeyring(t *testing.T) {
	w := newWorld(t, configOf(
		column("doc", "doc/{id}", `"public"`, `"public"`, ""),
		column("log", "doc/{id}/_keyring", `"public"`, `"public"`,
			`, "appendOnly": {"allowFull": false, "maxPullLimit": 1}`),
	), nil)
	require.Equal(t, 200, ask(w, "POST", "/push/doc/a", `{"data":{},"baseHash":null}`).Code)
	// As another server keeps a log.
	require.NoError(t, w.store.Put(t.Context(), "doc/a/_keyring", &store.Object{
		Type: "application/json", Body: []byte(`{"v":1,"data":{"items":[{"ts":1,"data":{"i":0}},` +
			`{"ts":2,"data":{"i":1}}]},"ts":2,"hash":"h"}`)}, store.Whatever))
	require.Equal(t, 400, ask(w, "GET", "/pull/doc/a/_keyring", "").Code)
	require.NotContains(t, ask(w, "GET", "/pull/doc/a?withKeyring=1", "").Body.String(), `"keyring"`)
}

// What a bundle shows is over when its time is, and a list shows nothing but its collection's.
func TestBundlesAndListsShowNoMore(t *testing.T) {
	w := newWorld(t, configOf(
		column("short", "both/{id}", `"public"`, `"public"`, `, "bundle": "both", "ttlMs": 1000`),
		column("in", "both/{id}", `"public"`, `"public"`, `, "bundle": "both", "pushOnly": true`),
		column("rooms", "rooms/{room}", `"public"`, `"public"`, `, "listable": true`),
		column("chats", "rooms/{room}/{chat}", `"nobody"`, `"public"`, ""),
	), nil)
	for _, path := range []string{"both/a/short", "both/a/in", "rooms/a", "rooms/c"} {
		require.Equal(t, 200, ask(w, "POST", "/push/"+path, `{"data":{"s":1},"baseHash":null}`).Code)
	}
	for i := range 2500 {
		doc := document.New(mustObject(t, `{"s":1}`), 1, nil, false)
		require.NoError(
			t,
			w.store.Put(
				t.Context(), fmt.Sprintf("rooms/b/%d", i), &store.Object{Body: doc.Bytes()}, store.Whatever,
			),
		)
	}
	rec := ask(w, "GET", "/pull/both/a", "")
	require.Contains(t, rec.Body.String(), `"s":1`)
	require.NotContains(t, rec.Body.String(), `"in"`)
	w.now = w.now.Add(2 * 1e9)
	for _, path := range []string{"/pull/both/a", batchOf("short", `{"id":"a"}`)} {
		rec = ask(w, "GET", path, "")
		require.Contains(t, rec.Body.String(), `"data":{},"hash":""`, path)
	}
	require.JSONEq(
		t, `{"items":["a"],"hasMore":true}`, ask(w, "GET", "/list/rooms?limit=1", "").Body.String(),
	)
	require.JSONEq(
		t, `{"items":["c"],"hasMore":false}`, ask(w, "GET", "/list/rooms?after=a", "").Body.String(),
	)
}

// A log's chunks are reached through no other collection.
func TestLogsOwnChunks(t *testing.T) {
	w := newWorld(t, configOf(
		column(
			"posts", "posts/{id}", `"public"`, `"public"`,
			`, "appendOnly": {"requireAuthorSignature": false}`,
		),
		column("comments", "posts/{id}/{c}", `"public"`, `"public"`, ""),
	), nil)
	at := w.now.UnixMilli()
	require.Equal(t, 200, ask(w, "POST", "/push/posts/p1", `{"data":{"i":1}}`).Code)
	before := ask(w, "GET", "/pull/posts/p1?full=1", "").Body.String()
	require.Contains(t, before, `"i":1`)
	for _, id := range []string{"p1__seg", "p1%21seg", "p1!seg"} {
		path := fmt.Sprintf("/push/posts/%s/%016d", id, at)
		for _, body := range []string{`{"data":{},"baseHash":null}`, `{"data":{},"baseHash":""}`} {
			require.Equal(t, 400, ask(w, "POST", path, body).Code, path)
		}
	}
	require.Equal(t, before, ask(w, "GET", "/pull/posts/p1?full=1", "").Body.String())
	keys, err := w.store.List(t.Context(), "", "", 10)
	require.NoError(t, err)
	for _, key := range keys {
		params, ok := config.Match("posts/{id}/{c}", key)
		require.False(t, ok, "%s: %v", key, params)
	}
}

// An identity has one form wherever it is named.
func TestOneFormOfIdentities(t *testing.T) {
	const wallet = "0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F"
	const user = "0123456789abcdef0123456789abcdef"
	for _, spelled := range []string{
		wallet, strings.ToLower(wallet), "0x" + strings.ToUpper(wallet[2:]),
		"0X" + strings.ToUpper(wallet[2:]),
	} {
		text := `{"version": 1, "restrictions": [{"mode": "deny", "identities": ["` + spelled + `", "` +
			strings.ToUpper(user) + `"]}], "extensions": {"roles": {"editor": ["` + spelled + `"]}},
			"collections": [` + column("a", "a/{identity}", `"public"`, `"self"`, "") + `]}`
		w := newWorld(t, []byte(text), func(o *collections.Options) { o.Resolver = byHeader })
		for _, who := range []string{wallet, strings.ToLower(wallet), user} {
			require.Equal(
				t, 403, ask(w, "GET", "/pull/a/x", "", "X-Who", who).Code, "%s as %s", spelled, who,
			)
		}
		roles, err := access.Configured(w.Config, nil, nil)(
			t.Context(), &access.Auth{Identity: wallet}, access.Place{})
		require.NoError(t, err)
		require.Equal(t, []string{"editor"}, roles)
	}
	w := newWorld(
		t, configOf(column("a", "a/{identity}", `"public"`, `"self"`, "")),
		func(o *collections.Options) {
			o.Resolver = byHeader
		},
	)
	require.Equal(
		t, 200,
		ask(
			w, "POST", "/push/a/"+strings.ToLower(wallet), `{"data":{"mine":1},"baseHash":null}`, "X-Who",
			wallet,
		).Code,
	)
	require.Contains(t, ask(w, "GET", "/pull/a/"+wallet, "").Body.String(), `"mine"`)
	require.Contains(
		t, ask(w, "GET", batchOf("a", `{"identity":"`+strings.ToLower(wallet)+`"}`), "").Body.String(),
		`"mine"`,
	)
	require.Equal(t, 400, ask(w, "GET", "/pull/a/0x12", "").Code)
	wrong := strings.Replace(wallet, "9d8A", "9D8a", 1)
	for _, part := range []string{
		`"restrictions": [{"mode": "deny", "identities": ["` + wrong + `"]}]`,
		`"extensions": {"roles": {"x": ["` + wrong + `"]}}`,
	} {
		_, err := config.Parse([]byte(`{"version": 1, "collections": [], ` + part + `}`))
		require.ErrorContains(t, err, "checksum")
	}
}

// What was signed for another server is let in only if this one is known by that name.
func TestKnownHosts(t *testing.T) {
	alice := newPerson(t, 1)
	cert := alice.lets(alice, capcert.RootScope())
	one := configOf(column("a", "a/{identity}", `"self"`, `"self"`, ""))
	w := newWorld(t, one, func(o *collections.Options) {
		o.KnownHost = collections.Known("sync.example", "other.example:8443", "[2001:db8::1]")
	})
	for host, want := range map[string]int{
		"sync.example": 200, "SYNC.example": 200, "sync.example:8500": 200, "other.example:8443": 200,
		"[2001:db8::1]:1": 200,
		"evil.example":    401, "sync.example.evil.example": 401, "other.example": 401,
		"other.example:8444": 401, "localhost": 401, "127.0.0.1": 401, "": 401,
	} {
		signed := strings.ToLower(host)
		rec := alice.ask(w, cert, signed, "GET", "/pull/a/"+alice.id, "")
		require.Equal(t, want, rec.Code, host)
	}
	// Without names it is known by the address that requests come in at, and nothing else.
	w = newWorld(t, one, func(o *collections.Options) { o.KnownHost = nil })
	srv := httptest.NewServer(w)
	defer srv.Close()
	at, err := url.Parse(srv.URL)
	require.NoError(t, err)
	for host, want := range map[string]int{
		at.Host: 200, "localhost:" + at.Port(): 200, "localhost:1": 401, "127.0.0.2:" + at.Port(): 401,
		"evil.example": 401, "evil.example:" + at.Port(): 401,
	} {
		path := "/pull/a/" + alice.id
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL+path, http.NoBody)
		require.NoError(t, err)
		r.Host = host
		nonce := sha256.Sum256([]byte(host))
		signed := capcert.Request{Method: "GET", PathAndQuery: path, Host: host}
		s := signed.Sign(alice.key, w.now.UnixMilli(), nonce[:16])
		r.Header = http.Header{
			"Authorization": {cert.Authorization()}, access.HeaderSignature: {s.Signature},
			access.HeaderTime: {strconv.FormatInt(w.now.UnixMilli(), 10)}, access.HeaderNonce: {s.Nonce},
		}
		resp, err := srv.Client().Do(r)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, want, resp.StatusCode, host)
	}
}

// Nothing that a caller is shown, nor an answer to a push, tells what is hidden from it.
func TestHiddenFieldsCannotBeGuessed(t *testing.T) {
	hidden := `, "fieldPermissions": {"pin": {"readRoles": ["admin"], "writeRoles": ["admin"]}, "note": {"readRoles": ["admin"]}}`
	w := newWorld(t, configOf(
		column("cards", "cards/{id}", `"member"`, `"member"`, hidden),
		column(
			"log", "log/{id}", `"member"`, `"member"`,
			hidden+`, "appendOnly": {"requireAuthorSignature": false}`,
		),
		column("bundled", "both/{id}", `"member"`, `"member"`, hidden+`, "bundle": "both"`),
	), func(o *collections.Options) { o.Resolver = byHeader })
	answers := func(pin string) (all []string) {
		require.NoError(t, w.store.Delete(t.Context(), "cards/a"))
		require.NoError(t, w.store.Delete(t.Context(), "both/a/bundled"))
		id := "l" + pin
		for path, body := range map[string]string{
			"cards/a":        `{"data":{"name":"n","pin":"` + pin + `"},"baseHash":null}`,
			"both/a/bundled": `{"data":{"name":"n","pin":"` + pin + `"},"baseHash":null}`,
			"log/" + id: `{"data":{"name":"n","pin":"` + pin +
				`"},"authorPubkey":"k","authorSignature":"s` + pin + `"}`,
		} {
			require.Equal(t, 200, ask(w, "POST", "/push/"+path, body, "X-Roles", "member,admin").Code, path)
		}
		for _, path := range []string{
			"/pull/cards/a", "/pull/both/a", batchOf("cards", `{"id":"a"}`), "/pull/log/" + id + "?full=1",
			"/pull/log/" + id + "?checkpoint=99999999999999", batchOf("log", `{"id":"`+id+`"}`),
		} {
			rec := ask(w, "GET", path, "", "X-Roles", "member")
			require.Equal(t, 200, rec.Code, path)
			all = append(all, rec.Body.String()+rec.Header().Get("Etag"))
		}
		return all
	}
	require.Equal(t, answers("1234"), answers("9876"))

	// A pull's hash is the base of a push, and what the caller cannot write or see stays.
	pull := func(roles string) *value.Object {
		return mustObject(t, ask(w, "GET", "/pull/cards/a", "", "X-Roles", roles).Body.String())
	}
	require.Equal(
		t, 200,
		ask(
			w, "POST", "/push/cards/a",
			`{"data":{"name":"n","pin":"1","note":"x"},"baseHash":"`+hashOf(pull("member,admin"))+`"}`,
			"X-Roles", "member,admin",
		).Code,
	)
	whole := hashOf(pull("member,admin"))
	require.Equal(
		t, 409,
		ask(
			w, "POST", "/push/cards/a", `{"data":{"name":"n"},"baseHash":"`+whole+`"}`, "X-Roles", "member",
		).Code,
		"a guess of the whole is no base",
	)
	rec := ask(
		w, "POST", "/push/cards/a", `{"data":{"name":"new"},"baseHash":"`+hashOf(pull("member"))+`"}`,
		"X-Roles", "member",
	)
	require.Equal(t, 200, rec.Code, rec.Body)
	require.Equal(t, hashOf(pull("member")), hashOf(mustObject(t, rec.Body.String())))
	data, _ := pull("member,admin").Get("data")
	require.JSONEq(t, `{"name":"new","pin":"1","note":"x"}`, string(value.Append(nil, data)))
	require.Equal(
		t, 403,
		ask(w, "POST", "/push/cards/a", `{"data":{"pin":"2"},"baseHash":null}`, "X-Roles", "member").Code,
	)
	// Who may do all removes what it leaves out.
	require.Equal(
		t, 200,
		ask(
			w, "POST", "/push/cards/a",
			`{"data":{"name":"n"},"baseHash":"`+hashOf(pull("member,admin"))+`"}`, "X-Roles", "member,admin",
		).Code,
	)
	data, _ = pull("member,admin").Get("data")
	require.JSONEq(t, `{"name":"n"}`, string(value.Append(nil, data)))
}

func hashOf(o *value.Object) string { s, _ := o.String("hash"); return s }

// A schema is that of what is stored; an author's signature is kept only over what it was made for.
func TestKeptFields(t *testing.T) {
	w := newWorld(t, configOf(
		column(
			"cards", "cards/{id}", `"public"`, `"public"`,
			`, "fieldPermissions": {"pin": {"writeRoles": ["admin"]}}, "objectSchema": {"required": ["pin"]}`,
		),
	), func(o *collections.Options) { o.Resolver = byHeader })
	first := document.New(mustObject(t, `{"pin":1,"name":"n"}`), 1, nil, false)
	require.NoError(
		t, w.store.Put(t.Context(), "cards/a", &store.Object{Body: first.Bytes()}, store.Whatever),
	)
	alice := newPerson(t, 1)
	data := mustObject(t, `{"name":"m"}`)
	sig := capcert.SignAuthor(capcert.DocumentDomain, "cards/a", data, alice.key)
	rec := ask(
		w, "POST", "/push/cards/a",
		`{"data":{"name":"m"},"baseHash":"`+first.Hash+`","authorPubkey":"`+alice.key.Public+
			`","authorSignature":"`+sig+`"}`,
	)
	require.Equal(t, 200, rec.Code, rec.Body)
	rec = ask(w, "GET", "/pull/cards/a", "")
	require.Contains(t, rec.Body.String(), `"pin":1`)
	require.NotContains(t, rec.Body.String(), "authorSignature")
	require.Equal(
		t, 400, ask(w, "POST", "/push/cards/b", `{"data":{"name":"m"},"baseHash":null}`).Code,
	)

	// Where a document is what its writer has signed, nothing can be kept, and nothing is removed.
	w = newWorld(
		t,
		configOf(
			column(
				"cards", "cards/{id}", `"public"`, `"public"`,
				`, "fieldPermissions": {"pin": {"writeRoles": ["admin"]}}`,
			),
		),
		func(o *collections.Options) {
			o.Whole = func() bool { return true }
		},
	)
	require.NoError(
		t, w.store.Put(t.Context(), "cards/a", &store.Object{Body: first.Bytes()}, store.Whatever),
	)
	require.Equal(
		t, 403, ask(w, "POST", "/push/cards/a", `{"data":{"name":"m"},"baseHash":"`+first.Hash+`"}`).Code,
	)
}

// A file that a browser could run is served as the gateway serves it, unless its collection says
// otherwise.
func TestActiveFiles(t *testing.T) {
	w := newWorld(t, configOf(
		column("files", "files/{id}", `"public"`, `"public"`, `, "allowedMimeTypes": ["*/*"]`),
		column(
			"site", "site/{id}", `"public"`, `"public"`,
			`, "allowedMimeTypes": ["text/html"], "content": {"active": true, "embed": "cross-origin"}`,
		),
	), nil)
	for media, want := range map[string]string{
		"image/svg+xml": "sandbox", "text/html": "sandbox", "application/xhtml+xml": "sandbox",
		"image/png": "",
	} {
		require.Equal(t, 200, ask(w, "POST", "/push/files/a", "<svg/>", "Content-Type", media).Code)
		h := ask(w, "GET", "/pull/files/a", "").Header()
		require.Equal(t, want, h.Get("Content-Security-Policy"), media)
		require.Equal(t, "nosniff", h.Get("X-Content-Type-Options"))
		require.Equal(t, "same-origin", h.Get("Cross-Origin-Resource-Policy"))
	}
	require.Equal(t, 200, ask(w, "POST", "/push/site/a", "<p>", "Content-Type", "text/html").Code)
	h := ask(w, "GET", "/pull/site/a", "").Header()
	require.Empty(t, h.Get("Content-Security-Policy"))
	require.Equal(t, "cross-origin", h.Get("Cross-Origin-Resource-Policy"))
	require.Len(t, w.Config().Warnings, 3)
}

// A hook of pulls is asked in whatever way a document is read.
func TestHooksOfAllReaders(t *testing.T) {
	w := newWorld(t, configOf(
		column("doc", "doc/{id}", `"public"`, `"public"`, ""),
		column("left", "both/{id}", `"public"`, `"public"`, `, "bundle": "both"`),
	), func(o *collections.Options) {
		o.Hooks = []collections.Hook{{BeforePull: func(context.Context, *collections.Event) error {
			return &collections.RefusedError{Status: http.StatusMethodNotAllowed, Reason: "shut"}
		}}}
	})
	for _, path := range []string{"/pull/doc/a", "/pull/both/a", batchOf("doc", `{"id":"a"}`)} {
		require.Contains(t, ask(w, "GET", path, "").Body.String(), `{"error":"shut"}`, path)
	}
}

// Where anybody may read, a pull takes everybody for nobody in particular. Its hash is the base of
// a push all the same, of somebody who could see more elsewhere; and the push keeps what the pull
// hid.
func TestHiddenFieldsWhereAnybodyReads(t *testing.T) {
	w := newWorld(t, configOf(
		column(
			"cards", "cards/{id}", `"public"`, `"member"`,
			`, "fieldPermissions": {"pin": {"readRoles": ["member"]}}`,
		),
	), func(o *collections.Options) { o.Resolver = byHeader })
	push := func(body string) *value.Object {
		rec := ask(w, "POST", "/push/cards/a", body, "X-Roles", "member")
		require.Equal(t, 200, rec.Code, rec.Body)
		return mustObject(t, rec.Body.String())
	}
	pull := func(path string) *value.Object {
		rec := ask(w, "GET", path, "", "X-Roles", "member")
		require.Equal(t, 200, rec.Code, rec.Body)
		return mustObject(t, rec.Body.String())
	}
	answer := push(`{"data":{"name":"n","pin":1},"baseHash":null}`)
	seen := pull("/pull/cards/a")
	require.Equal(t, hashOf(seen), hashOf(answer))
	require.Contains(t, string(value.Append(nil, pull(batchOf("cards", `{"id":"a"}`)))), hashOf(seen))
	answer = push(`{"data":{"name":"m"},"baseHash":"` + hashOf(seen) + `"}`)
	require.Equal(t, hashOf(pull("/pull/cards/a")), hashOf(answer))
	o, err := w.store.Get(t.Context(), "cards/a")
	require.NoError(t, err)
	require.Contains(t, string(o.Body), `"pin":1`)
}
