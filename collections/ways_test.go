package collections_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/skerry-sync/skerry/collections"
	"github.com/skerry-sync/skerry/collections/access"
	"github.com/skerry-sync/skerry/collections/capcert"
	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/value"
)

// drawn is a collection of a drawn configuration.
type drawn struct {
	Name         string                    `json:"name"`
	StoragePath  string                    `json:"storagePath"`
	ReadRoles    []string                  `json:"readRoles"`
	WriteRoles   []string                  `json:"writeRoles"`
	Encryption   string                    `json:"encryption"`
	MaxBodyBytes int                       `json:"maxBodyBytes"`
	PullOnly     bool                      `json:"pullOnly,omitempty"`
	PushOnly     bool                      `json:"pushOnly,omitempty"`
	Listable     bool                      `json:"listable,omitempty"`
	RootOnly     bool                      `json:"rootOnly,omitempty"`
	Bundle       string                    `json:"bundle,omitempty"`
	TTLMS        int                       `json:"ttlMs,omitempty"`
	Fields       map[string]map[string]any `json:"fieldPermissions,omitempty"`
	Restrictions []map[string]any          `json:"restrictions,omitempty"`
}

var paths = []string{
	"{p}", "{p}/{q}", "x/{p}", "x/y", "x/{p}/_keyring", "x/y/_keyring", "u/{identity}",
	"u/{identity}/{p}", "u/{identity}/a", "x", "u/{identity}/{p}/_keyring", "x/{p}/{q}",
}

// drawConfig draws a configuration, which may be one that is refused.
func drawConfig(t *rapid.T, ids []string) []byte {
	var all []drawn
	roles := []string{
		"self", "admin", "cap:read:c0", "cap:write:c0", "cap:read:*", "device:root", "public",
	}
	for i := range rapid.IntRange(1, 5).Draw(t, "collections") {
		c := drawn{
			Name: fmt.Sprintf("c%d", i), StoragePath: rapid.SampledFrom(paths).Draw(t, "path"),
			Encryption: "none", MaxBodyBytes: 1000,
			ReadRoles: rapid.SliceOfN(
				rapid.SampledFrom(roles), 1, 2,
			).Draw(t, "read"), WriteRoles: rapid.SliceOfN(rapid.SampledFrom(roles), 1, 2).Draw(t, "write"),
			TTLMS: rapid.SampledFrom([]int{0, 0, 0, 1000}).Draw(t, "ttl"),
		}
		switch rapid.IntRange(0, 7).Draw(t, "way") {
		case 0:
			c.PullOnly = true
		case 1:
			c.PushOnly = true
		case 2:
			c.Bundle = "b" + c.StoragePath
		case 3:
			c.RootOnly = true
		case 4:
			c.Restrictions = []map[string]any{
				{"mode": "deny", "identities": []string{
					strings.ToUpper(rapid.SampledFrom(ids).Draw(t, "denied")),
				}},
			}
		}
		if c.Bundle == "" && strings.HasSuffix(c.StoragePath, "}") {
			c.Listable = rapid.Bool().Draw(t, "listable")
		}
		if !slices.Contains(c.ReadRoles, "public") && rapid.Bool().Draw(t, "hides") {
			c.Fields = map[string]map[string]any{"h": {"readRoles": []string{"admin", "cap:read:c1"}}}
		}
		all = append(all, c)
	}
	text, err := json.Marshal(map[string]any{"version": 1, "collections": all})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func drawScope(t *rapid.T, id string) capcert.Scope {
	return capcert.Scope{
		Ops: rapid.SliceOfNDistinct(
			rapid.SampledFrom([]string{"read", "write", "list"}), 0, 3, rapid.ID,
		).Draw(t, "ops"),
		Collections: rapid.SliceOfNDistinct(
			rapid.SampledFrom([]string{"c0", "c1", "c2", "*"}), 1, 2, rapid.ID,
		).Draw(t, "of"),
		Paths: rapid.SampledFrom(
			[][]string{
				nil, {"**"}, {"x/**"}, {"u/" + id + "/**"}, {"**", "!x/y"}, {"**", "!**/_keyring"},
				{"**", "!u/*/a"},
			},
		).Draw(t, "paths"),
	}
}

// answer is what a way in has shown of an object.
type answer struct {
	shown bool
	data  string
	hash  string
}

func shownIn(o *value.Object) answer {
	data, ok := o.Get("data")
	if !ok {
		return answer{}
	}
	hash, _ := o.String("hash")
	return answer{true, string(value.AppendCanonical(nil, data)), hash}
}

// All ways to a document say the same of it: pull, batch, bundle, the keyring beside another; lists
// show nothing of other collections; a push writes where a pull by an administrator of all finds
// it, or nowhere; and nothing is shown that a plain statement of the rules does not allow.
func TestAllWaysIn(t *testing.T) {
	alice, bob := newPerson(t, 1), newPerson(t, 2)
	served, shown := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		text := drawConfig(rt, []string{alice.id, bob.id})
		c, err := config.Parse(text)
		if err != nil {
			return // as of two collections that could reach one object
		}
		served++
		scope := drawScope(rt, alice.id)
		who := rapid.SampledFrom([]*person{alice, bob}).Draw(rt, "who")
		cert := alice.lets(who, scope)
		admin := rapid.Bool().Draw(rt, "admin")
		w := newWorld(t, text, func(o *collections.Options) {
			if admin {
				o.Enricher = access.IdentityRole(alice.id, "admin")
			}
		})
		// Something lies at every path there may be.
		values := []string{"a", "y", "_keyring", alice.id, bob.id, "c0", "c1"}
		var keys []string
		for _, a := range append(values, "x", "u") {
			keys = append(keys, a)
			for _, b := range values {
				keys = append(keys, a+"/"+b)
				for _, c := range values {
					keys = append(keys, a+"/"+b+"/"+c, a+"/"+b+"/"+c+"/_keyring")
				}
			}
		}
		for i, key := range keys {
			if ownerOf(c, key) == nil {
				continue
			}
			at := w.now.UnixMilli() - int64(i%3)*2000
			d := document.New(mustObject(t, fmt.Sprintf(`{"key":%q,"h":%d}`, key, i)), at, nil, false)
			require.NoError(
				rt, w.store.Put(t.Context(), key, &store.Object{Body: d.Bytes()}, store.Whatever),
			)
		}
		get := func(path string) (int, *value.Object) {
			rec := who.ask(w, cert, known, http.MethodGet, path, "")
			o, err := value.ParseObject(rec.Body.Bytes(), value.MaxDepth+4)
			if err != nil {
				o = &value.Object{}
			}
			return rec.Code, o
		}
		for _, col := range c.Collections {
			params := map[string]string{}
			for _, name := range config.Params(col.StoragePath) {
				params[name] = rapid.SampledFrom(values).Draw(rt, name)
			}
			key, ok := config.ParseTemplate(col.KeyTemplate()).Fill(params)
			require.True(rt, ok)
			owner := ownerOf(c, key)
			want := owner == col && mayReach(c, col, who, alice, cert, admin, params, key, "read")
			label := fmt.Sprintf(
				"%s of %s (%s), scope %+v, admin %v\n%s", key, col.Name, col.StoragePath, scope, admin, text,
			)

			set, err := json.Marshal(params)
			require.NoError(rt, err)
			_, o := get(batchOf(col.Name, string(set)))
			batch := shownIn(only(o, col.Name))
			if strings.HasSuffix(key, "_keyring") {
				require.False(rt, batch.shown, label)
				batch.shown = want
			}
			require.Equal(rt, want, batch.shown, "batch: %s", label)
			var pulled answer
			if col.Bundle != "" {
				base, _ := config.ParseTemplate(col.StoragePath).Fill(params)
				_, o = get("/pull/" + base)
				v, _ := o.Get("collections")
				all, _ := v.(*value.Object)
				v, _ = all.Get(col.Name)
				one, _ := v.(*value.Object)
				pulled = shownIn(one)
			} else if owner == col {
				status, o := get("/pull/" + key)
				pulled = shownIn(o)
				require.Equal(rt, want, status == 200, "pull %d: %s", status, label)
			}
			require.Equal(rt, want, pulled.shown, "pull: %s", label)
			if want {
				shown++
				if !strings.HasSuffix(key, "_keyring") {
					require.Equal(rt, pulled, batch, label)
				}
				require.True(rt, pulled.hash == "" ||
					pulled.hash == value.Hash(mustObject(t, pulled.data)), "the hash is of what is shown")
			}
			// The keyring beside a document is what it is alone.
			if beside, is := strings.CutSuffix(key, "/_keyring"); is && owner == col {
				if _, o := get("/pull/" + beside + "?withKeyring=1"); shownIn(o).shown && o.Len() > 0 {
					v, _ := o.Get("keyring")
					ring, _ := v.(*value.Object)
					if got := shownIn(ring); got.shown {
						require.Equal(rt, pulled, got, "keyring: %s", label)
					}
				}
			}
			if col.Listable {
				prefix := strings.TrimSuffix(key[:max(0, strings.LastIndexByte(key, '/'))], "/")
				_, o := get(strings.TrimSuffix("/list/"+prefix, "/") + "?limit=1000")
				v, _ := o.Get("items")
				items, _ := v.(value.Array)
				for _, item := range items {
					at := strings.TrimPrefix(prefix+"/"+item.(string), "/")
					require.Same(rt, ownerOf(c, at), col, "%s lists %s", label, at)
					require.True(rt, slices.Contains(c.Collections, ownerOf(c, at)))
				}
			}
			// A push changes its own path alone.
			before := snapshot(t, w)
			rec := who.ask(
				w, cert, known, http.MethodPost, "/push/"+key,
				`{"data":{"key":"new"},"baseHash":"`+baseOf(rt, w, col, key, pulled)+`"}`,
			)
			after := snapshot(t, w)
			delete(before, key)
			delete(after, key)
			require.Equal(rt, before, after, label)
			if rec.Code == 200 {
				theirs, _ := config.Match(owner.KeyTemplate(), key)
				require.True(
					rt, mayReach(c, owner, who, alice, cert, admin, theirs, key, "write"), "push: %s", label,
				)
			}
		}
	})
	t.Logf("%d configurations were served, %d documents shown", served, shown)
	require.Positive(t, served)
	if served >= 40 { // of few drawn, it may be none
		require.Positive(t, shown)
	}
}

// baseOf returns the hash that a push must name.
func baseOf(t *rapid.T, w *world, col *config.Collection, key string, pulled answer) string {
	if pulled.hash != "" {
		return pulled.hash
	}
	o, err := w.store.Get(t.Context(), key)
	if err != nil {
		return ""
	}
	d, err := document.Parse(o.Body)
	require.NoError(t, err)
	return d.Hash
}

func snapshot(t testing.TB, w *world) map[string]string {
	keys, err := w.store.List(t.Context(), "", "", 10000)
	require.NoError(t, err)
	all := map[string]string{}
	for _, k := range keys {
		o, err := w.store.Get(t.Context(), k)
		require.NoError(t, err)
		all[k] = o.Tag
	}
	return all
}

// only returns the one entry of a collection in the answer to a batch.
func only(o *value.Object, name string) *value.Object {
	v, _ := o.Get("collections")
	all, _ := v.(*value.Object)
	v, _ = all.Get(name)
	entries, _ := v.(value.Array)
	if len(entries) != 1 {
		return &value.Object{}
	}
	one, _ := entries[0].(*value.Object)
	return one
}

// ownerOf is the rule in one sentence: the first collection whose template stands for the path.
func ownerOf(c *config.Config, key string) *config.Collection {
	i := slices.IndexFunc(c.Collections, func(col *config.Collection) bool {
		_, ok := config.Match(col.KeyTemplate(), key)
		return ok
	})
	if i < 0 {
		return nil
	}
	return c.Collections[i]
}

// mayReach states the rules plainly, beside the code that applies them.
func mayReach(
	c *config.Config, col *config.Collection, who, issuer *person, cert *capcert.Cert, admin bool,
	params map[string]string, key, op string,
) bool {
	roles, way := col.ReadRoles, col.PushOnly
	if op == "write" {
		roles, way = col.WriteRoles, col.PullOnly
	}
	restricted := slices.ContainsFunc(c.Collections, func(c *config.Collection) bool {
		return len(c.Restrictions) > 0
	})
	switch {
	case way:
		return false
	case slices.Contains(roles, "public") && !restricted:
		return true
	}
	has := map[string]bool{
		"public": true, "self": params["identity"] == issuer.id, "device:root": cert.IsRoot(),
		"admin": admin,
	}
	for _, o := range cert.Scope.Ops {
		for _, name := range cert.Scope.Collections {
			has["cap:"+o+":"+name] = true
		}
	}
	named, byRole := params["identity"], false
	for _, r := range roles {
		byRole = byRole || has[r] && strings.HasPrefix(r, "cap:")
	}
	of := slices.Contains(cert.Scope.Collections, col.Name) ||
		slices.Contains(cert.Scope.Collections, "*") || byRole
	if !of || !slices.Contains(cert.Scope.Ops, op) || !capcert.MatchPath(key, cert.Scope.Paths) ||
		named != "" && named != issuer.id {
		return false
	}
	if col.RootOnly && !has["device:root"] ||
		!slices.ContainsFunc(roles, func(r string) bool { return has[r] }) {
		return false
	}
	for _, r := range col.Restrictions {
		if slices.Contains(r.Identities, issuer.id) {
			return false
		}
	}
	return true
}
