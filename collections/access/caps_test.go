package access_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/access"
	"github.com/skerry-sync/skerry/collections/capcert"
	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/value"
)

// gate is a resolver of certificates with what its requests need.
type gate struct {
	t    *testing.T
	caps *access.Caps
	uses int
}

func newGate(t *testing.T) *gate {
	nonces, err := access.NewNonces(access.NonceOptions{Clock: at(start)})
	require.NoError(t, err)
	return &gate{t: t, caps: &access.Caps{Nonces: nonces, Clock: at(start)}}
}

// cert is one of a kind that k may present: its own, for a device, or one that issuer gives it.
func (g *gate) cert(issuer, k capcert.Key, kind string) *capcert.Cert {
	subject := capcert.Subject{Key: k.Public, KEM: strings.Repeat("00", 32)}
	terms := capcert.Terms{
		NotBefore: start/1000 - 10, Expires: start/1000 + 10, Nonce: make([]byte, capcert.NonceSize),
	}
	var c *capcert.Cert
	var err error
	switch kind {
	case capcert.Device:
		scope := capcert.Scope{
			Ops: []string{"read"}, Collections: []string{"notes"}, Paths: []string{"users/{identity}/**"},
		}
		c, err = capcert.MintDevice(issuer, subject, scope, terms)
	case capcert.Member:
		c, err = capcert.MintMember(issuer, subject, "team", capcert.WriterScope("team"), terms)
	case capcert.Audience:
		c, err = capcert.MintAudience(
			issuer, "team", capcert.ReaderScope("team"), []string{k.Public}, terms,
		)
	}
	require.NoError(g.t, err)
	return c
}

// request is one that k signs and presents c with, for a storage path.
func (g *gate) request(c *capcert.Cert, k capcert.Key, path string) *access.Request {
	r, err := http.NewRequest("GET", "http://example.com/pull/"+path, nil)
	require.NoError(g.t, err)
	g.uses++
	nonce := fmt.Appendf(nil, "%016d", g.uses)
	signed := capcert.Request{Method: "GET", PathAndQuery: "/pull/" + path, Host: "example.com"}
	s := signed.Sign(k, start, nonce)
	r.Header.Set("Authorization", c.Authorization())
	r.Header.Set(access.HeaderSignature, s.Signature)
	r.Header.Set(access.HeaderTime, fmt.Sprint(s.Time))
	r.Header.Set(access.HeaderNonce, s.Nonce)
	if c.Kind == capcert.Audience {
		r.Header.Set(access.HeaderPublic, k.Public)
	}
	return &access.Request{
		HTTP: r, Body: func() ([]byte, error) { return nil, nil }, Targets: []string{"/pull/" + path},
		Hosts: []string{"other.example", "example.com"}, Path: path,
	}
}

// status is 0 for a caller who is let in.
func (g *gate) status(r *access.Request) int {
	_, err := g.caps.Resolve(g.t.Context(), r)
	if err == nil {
		return 0
	}
	var denied *access.DeniedError
	require.ErrorAs(g.t, err, &denied)
	return denied.Status
}

func scopeOf(s capcert.Scope, issuer string) *access.Scope {
	return &access.Scope{Ops: s.Ops, Collections: s.Collections, Paths: s.Paths, Issuer: issuer}
}

// Each kind of certificate gives the roles that it says, and no other.
func TestCapsRoles(t *testing.T) {
	g := newGate(t)
	owner, bob := key(t, 1), key(t, 2)
	ownerID, err := capcert.UserID(owner.Public)
	require.NoError(t, err)
	bobID, err := capcert.UserID(bob.Public)
	require.NoError(t, err)
	for kind, want := range map[string]access.Auth{
		capcert.Device: {Identity: ownerID, Roles: []string{"cap:read:notes"}, Scope: &access.Scope{
			Ops: []string{"read"}, Collections: []string{"notes"},
			Paths: []string{"users/" + ownerID + "/**"}, Issuer: ownerID,
		}},
		capcert.Member: {
			Identity: bobID, Scope: scopeOf(capcert.WriterScope("team"), ownerID),
			Roles: []string{
				"cap:read:team", "cap:list:team", "cap:write:team", "delegated:" + ownerID + ":team",
			},
		},
		capcert.Audience: {
			Identity: bobID, Scope: scopeOf(capcert.ReaderScope("team"), ownerID),
			Roles: []string{"cap:read:team", "cap:list:team", "delegated:" + ownerID + ":team"},
		},
	} {
		path := map[bool]string{true: "users/" + ownerID + "/a", false: "team/a"}[kind == capcert.Device]
		c := g.cert(owner, bob, kind)
		r := g.request(c, bob, path)
		r.HTTP.Header.Set("X-Other", "1")
		who, err := g.caps.Resolve(t.Context(), r)
		require.NoError(t, err, kind)
		proof := who.Proof
		who.Proof = nil
		want.Presenter = bob.Public
		require.Equal(t, want, who, kind)

		// The proof is what somebody else needs to check the request, and nothing more.
		names := []string{"Authorization", access.HeaderSignature, access.HeaderTime, access.HeaderNonce}
		if kind == capcert.Audience {
			names = append(names, access.HeaderPublic)
		}
		require.Len(t, proof.Header, len(names))
		for _, name := range names {
			require.Equal(t, r.HTTP.Header.Get(name), proof.Header.Get(name), name)
		}
		require.Equal(t, "example.com", proof.Host)
		require.Equal(t, "/pull/"+path, proof.Target)

		require.Zero(t, g.status(g.request(c, bob, "elsewhere")), "which package reach decides about")

		g.caps.Kinds = []string{kind}
		require.Zero(t, g.status(g.request(c, bob, path)))
		g.caps.Kinds = []string{"other"}
		require.Equal(t, http.StatusUnauthorized, g.status(g.request(c, bob, path)))
		g.caps.Kinds = nil
	}
	root := g.request(g.cert(owner, owner, capcert.Device), owner, "users/"+ownerID+"/a")
	who, err := g.caps.Resolve(t.Context(), root)
	require.NoError(t, err)
	require.Equal(t, []string{"cap:read:notes", config.RoleRoot}, who.Roles)
}

// What is presented is taken on the near side of each limit and denied on the far side.
func TestCapsLimits(t *testing.T) {
	owner, bob := key(t, 1), key(t, 2)
	g := newGate(t)
	c := g.cert(owner, bob, capcert.Member)
	send := func(change func(r *access.Request)) int {
		r := g.request(c, bob, "team/a")
		change(r)
		return g.status(r)
	}
	set := func(name, text string) func(r *access.Request) {
		return func(r *access.Request) { r.HTTP.Header.Set(name, text) }
	}
	// signed signs with another time, or another nonce.
	signed := func(time int64, nonce string) func(r *access.Request) {
		return func(r *access.Request) {
			s := capcert.Request{Method: "GET", PathAndQuery: "/pull/team/a", Host: "example.com"}
			r.HTTP.Header.Set(access.HeaderTime, fmt.Sprint(time))
			r.HTTP.Header.Set(access.HeaderNonce, nonce)
			r.HTTP.Header.Set(access.HeaderSignature, bob.Sign(s.SigningInput(time, nonce)))
		}
	}
	const skew = capcert.Skew * 1000
	for _, x := range []struct {
		what   string
		change func(r *access.Request)
		status int
	}{
		{"as it is", func(*access.Request) {}, 0},
		{"a skew late", signed(start-skew, "a"), 0},
		{"later", signed(start-skew-1, "b"), http.StatusUnauthorized},
		{"a skew early", signed(start+skew, "c"), 0},
		{"earlier", signed(start+skew+1, "d"), http.StatusUnauthorized},
		{"the longest nonce", signed(start, strings.Repeat("n", 256)), 0},
		{"a longer nonce", signed(start, strings.Repeat("n", 257)), http.StatusUnauthorized},
		{"no time", set(access.HeaderTime, ""), http.StatusUnauthorized},
		{"no nonce", set(access.HeaderNonce, ""), http.StatusUnauthorized},
		{"no signature", set(access.HeaderSignature, ""), http.StatusUnauthorized},
		{"a time with a sign", set(
			access.HeaderTime, fmt.Sprintf("+%d", int64(start)),
		), http.StatusUnauthorized},
		{"a time that is none", set(access.HeaderTime, "now"), http.StatusUnauthorized},
		{"another signature", signed(start-1, "x"), 0},
		{"the nonce again", signed(start, "x"), http.StatusUnauthorized},
		{"another host", func(r *access.Request) {
			r.Hosts = []string{"other.example"}
		}, http.StatusUnauthorized},
		{"another target", func(r *access.Request) {
			r.Targets = []string{"/pull/team/b"}
		}, http.StatusUnauthorized},
		{"another method", func(r *access.Request) { r.HTTP.Method = "HEAD" }, http.StatusUnauthorized},
		{"a body", func(r *access.Request) {
			r.Body = func() ([]byte, error) { return []byte("x"), nil }
		}, http.StatusUnauthorized},
		{"a body that is not signed, of a file", func(r *access.Request) {
			r.Body = func() ([]byte, error) { return []byte("x"), nil }
			r.HTTP.Header.Set("Content-Type", "image/png")
		}, 0},
		{"no certificate", set("Authorization", ""), 0},
	} {
		require.Equal(t, x.status, send(x.change), x.what)
	}
	away := errors.New("away")
	r := g.request(c, bob, "team/a")
	r.Body = func() ([]byte, error) { return nil, away }
	_, err := g.caps.Resolve(t.Context(), r)
	require.ErrorIs(t, err, away)

	g.caps.MaxNonceLength = 4
	require.Zero(t, send(signed(start, "1234")))
	require.Equal(t, http.StatusUnauthorized, send(signed(start, "12345")))
	g.caps.MaxNonceLength = 0

	g.caps.MustIdentify = true
	require.Equal(t, http.StatusUnauthorized, send(set("Authorization", "")))
	g.caps.MustIdentify = false
	r = g.request(c, bob, "team/a")
	r.HTTP.Header.Del("Authorization")
	who, err := g.caps.Resolve(t.Context(), r)
	require.NoError(t, err)
	require.Equal(t, access.Anonymous, who)

	// An audience certificate is for those whom it lists, who say who they are.
	c = g.cert(owner, bob, capcert.Audience)
	require.Zero(t, send(func(*access.Request) {}))
	require.Equal(t, http.StatusUnauthorized, send(set(access.HeaderPublic, "")))
	other := key(t, 3)
	r = g.request(c, other, "team/a")
	require.Equal(t, http.StatusForbidden, g.status(r))

	// A certificate that is out of date, or revoked, is none.
	g.caps.Clock = at(start + (10+capcert.Skew)*1000)
	require.Zero(t, send(signed(start+(10+capcert.Skew)*1000, "e")))
	g.caps.Clock = at(start + (11+capcert.Skew)*1000)
	require.Equal(t, http.StatusUnauthorized, send(signed(start+(11+capcert.Skew)*1000, "f")))
	g.caps.Clock = at(start)
	revoked, err := access.NewRevocations(t.Context(), nil, nil)
	require.NoError(t, err)
	g.caps.Revocations = revoked
	require.Zero(t, send(func(*access.Request) {}))
	l, err := capcert.SignRevocations(owner, 1, []capcert.Revoked{{Subject: "", Nonce: c.Nonce}}, nil)
	require.NoError(t, err)
	require.NoError(t, revoked.Accept(t.Context(), l))
	require.Equal(t, http.StatusUnauthorized, send(func(*access.Request) {}))
}

// A header that is as long as any that is looked at is looked at.
func TestCapsLongest(t *testing.T) {
	g := newGate(t)
	text := base64.StdEncoding.EncodeToString(
		[]byte(
			`{"x":"` + strings.Repeat(
				"a", (capcert.MaxAuthorization-len("Cap "))/4*3-len(`{"x":""}`),
			) + `"}`,
		),
	)
	require.Len(t, text, capcert.MaxAuthorization-len("Cap "))
	for more, want := range map[string]string{"": "malformed-shape", "A": "too long"} {
		r := g.request(g.cert(key(t, 1), key(t, 2), capcert.Member), key(t, 2), "team/a")
		r.HTTP.Header.Set("Authorization", "Cap "+text+more)
		_, err := g.caps.Resolve(t.Context(), r)
		require.ErrorContains(t, err, want)
	}
}

// Roles come from a configuration: those that it gives by name, and those that documents list.
func TestConfigured(t *testing.T) {
	ctx := t.Context()
	docs := document.In(store.NewMemory(), nil)
	put := func(path, features string) {
		o, err := value.ParseObject([]byte(`{"features":["`+features+`"]}`), value.MaxDepth)
		require.NoError(t, err)
		none := ""
		_, err = docs.Push(ctx, path, o, &none, nil, false)
		require.NoError(t, err)
	}
	put("users/alice/entitlements", "gold")
	put("extra/alice", "blue")
	now := &config.Config{Roles: map[string][]string{"editor": {"alice"}}}
	e := access.Configured(func() *config.Config { return now }, docs, nil)
	roles := func(identity string) []string {
		got, err := e(ctx, &access.Auth{Identity: identity}, access.Place{})
		require.NoError(t, err)
		return got
	}
	require.Equal(t, []string{"editor"}, roles("alice"))
	require.Empty(t, roles("bob"))
	require.Empty(t, roles(""))
	require.Empty(t, access.EntitlementsPath(now.Entitlements))
	now = &config.Config{Roles: now.Roles, Entitlements: &config.Entitlements{}}
	require.Equal(t, []string{"editor", "entitlement:gold"}, roles("alice"))
	require.Equal(t, []string{"editor", "entitlement:gold"}, roles("alice"), "with what is remembered")
	require.Equal(t, "users/{identity}/entitlements", access.EntitlementsPath(now.Entitlements))
	now = &config.Config{Entitlements: &config.Entitlements{Path: "extra/{identity}", Role: "more"}}
	require.Equal(t, []string{"more:blue"}, roles("alice"), "what the configuration says now")
	require.Equal(t, "extra/{identity}", access.EntitlementsPath(now.Entitlements))
}

// A list of features is read again at once if nothing is to be remembered.
func TestEntitlementsKeep(t *testing.T) {
	ctx := t.Context()
	docs := document.In(store.NewMemory(), nil)
	for keep, again := range map[time.Duration]string{time.Hour: "old", -1: "new"} {
		path := fmt.Sprintf("e/%d", keep)
		push := func(feature string) {
			base := ""
			if d, err := docs.Get(ctx, path); err == nil && d != nil {
				base = d.Hash
			}
			o := value.NewObject(value.Member{Key: "features", Value: value.Array{feature}})
			_, err := docs.Push(ctx, path, o, &base, nil, false)
			require.NoError(t, err)
		}
		e := access.Entitlements{Path: path, Keep: keep}.Enricher(docs, at(start))
		push("old")
		_, err := e(ctx, &access.Auth{Identity: "a"}, access.Place{})
		require.NoError(t, err)
		push("new")
		roles, err := e(ctx, &access.Auth{Identity: "a"}, access.Place{})
		require.NoError(t, err)
		require.Equal(t, []string{"entitlement:" + again}, roles)
	}
}

// Lists of revocations are found under their own keys, and in no other place.
func TestRevocationPlaces(t *testing.T) {
	issuer := key(t, 1)
	l, err := capcert.SignRevocations(issuer, 7, nil, []string{"s"})
	require.NoError(t, err)
	b := value.Append(nil, l.Object())
	const under = "__sync__/revocations/"
	require.NoError(t, access.CheckInternal(under+issuer.Public+"/0000000000000007", b))
	for _, place := range []string{
		issuer.Public, issuer.Public + "/7", issuer.Public + "/0000000000000008",
		issuer.Public + "/x",
		key(t, 2).Public + "/0000000000000007",
	} {
		require.ErrorIs(t, access.CheckInternal(under+place, b), capcert.ErrRevocations, place)
	}
}

// All lists are loaded, however many there are.
func TestLoadMany(t *testing.T) {
	ctx := t.Context()
	for _, count := range []int{999, 1000, 1001, 2000} {
		s := store.NewMemory()
		for i := range count {
			name := fmt.Sprintf("__sync__/revocations/%08d", i)
			require.NoError(t, s.Put(ctx, name, &store.Object{Body: []byte("{}")}, store.Whatever))
		}
		issuer := key(t, 1)
		l, err := capcert.SignRevocations(issuer, 1, nil, []string{"s"})
		require.NoError(t, err)
		body := value.Append(nil, l.Object())
		name := "__sync__/revocations/" + issuer.Public + "/0000000000000001"
		require.NoError(t, s.Put(ctx, name, &store.Object{Body: body}, store.Whatever))
		r, err := access.NewRevocations(ctx, s, s)
		require.NoError(t, err)
		require.True(t, r.IsRevoked(issuer.Public, "s", "n"), count)
	}
}

// Only so many issuers' lists are kept; those that are kept can still be replaced.
func TestTooManyIssuers(t *testing.T) {
	ctx := t.Context()
	r, err := access.NewRevocations(ctx, nil, nil)
	require.NoError(t, err)
	const most = 100
	r.SetMost(most, 1<<30)
	issuer := func(i int) capcert.Key {
		seed := make([]byte, 32)
		copy(seed, fmt.Sprint(i))
		k, err := capcert.NewKey(seed)
		require.NoError(t, err)
		return k
	}
	accept := func(i int, generation int64) error {
		l, err := capcert.SignRevocations(issuer(i), generation, nil, nil)
		require.NoError(t, err)
		return r.Accept(ctx, l)
	}
	for i := range most {
		require.NoError(t, accept(i, 1))
	}
	require.ErrorIs(t, accept(most, 1), access.ErrTooManyIssuers)
	require.NoError(t, accept(3, 2))
	require.ErrorIs(t, accept(3, 2), access.ErrStale)
}
