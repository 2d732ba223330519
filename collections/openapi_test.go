package collections

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/skerry-sync/skerry/collections/access"
	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/collections/openapi"
	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/value"
)

// TestOpenAPIDescribesTheRoutes: each route that is served is described, and nothing else is.
func TestOpenAPIDescribesTheRoutes(t *testing.T) {
	text, err := os.ReadFile("interop/collections.json")
	if err != nil {
		t.Fatal(err)
	}
	c, err := config.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	rs, err := newRoutes(c, &Options{Describe: DescribePublic, Revocations: &access.Revocations{}})
	if err != nil {
		t.Fatal(err)
	}
	served := map[string]bool{}
	for sh, all := range rs.byShape {
		for _, r := range all {
			path := ""
			for _, s := range r.segments {
				if s.param {
					s.text = "{" + s.text + "}"
				}
				path += "/" + s.text
			}
			served[sh.method+" "+path] = true
		}
	}
	delete(served, "GET /openapi.json")
	ids := map[string]bool{}
	paths, _ := openapi.Describe(c, openapi.Options{}).Get("paths")
	for path, item := range paths.(*value.Object).All() {
		for method, o := range item.(*value.Object).All() {
			key := strings.ToUpper(method) + " " + path
			if !served[key] {
				t.Errorf("%s is described and not served", key)
			}
			delete(served, key)
			id, _ := o.(*value.Object).String("operationId")
			if id == "" || ids[id] {
				t.Errorf("%s: the operationId %q is empty or has been used", key, id)
			}
			ids[id] = true
		}
	}
	for key := range served {
		t.Errorf("%s is served and not described", key)
	}
}

// TestOpenAPIIsServed to whomever may know all collections, and not to others.
func TestOpenAPIIsServed(t *testing.T) {
	c, err := config.Parse(
		[]byte(
			`{"version": 1, "collections": [{"name": "news", "storagePath": "news/{id}", "readRoles": ["public"], "writeRoles": ["editor"], "encryption": "none", "maxBodyBytes": 100}]}`,
		),
	)
	if err != nil {
		t.Fatal(err)
	}
	for describe, status := range map[Describe]int{
		DescribePublic: 200, DescribeByRole: 404, DescribeNone: 404,
	} {
		s, err := New(c, Options{Documents: document.In(store.NewMemory(), nil), Prefix: "/v1",
			Describe: describe, Resolver: access.ResolverFunc(
				func(context.Context, *access.Request) (access.Auth, error) {
					return access.Anonymous, nil
				})})
		if err != nil {
			t.Fatal(err)
		}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1/openapi.json", nil))
		if w.Code != status {
			t.Errorf("with %q: status %d", describe, w.Code)
		}
		if status != 200 {
			continue
		}
		for _, part := range []string{
			`"openapi":"3.1.0"`, `"servers":[{"url":"/v1"}]`,
			`"/pull/news/{id}":{"get":{"operationId":"pull_news"`, "At most 100 bytes.",
			"One of these roles is needed: editor.",
		} {
			if !strings.Contains(w.Body.String(), part) {
				t.Errorf("%s is not in %s", part, w.Body)
			}
		}
	}
}

// Where wallets are let in, they are a second way to prove who one is, wherever there is a first.
func TestOpenAPIOfWallets(t *testing.T) {
	c, err := config.Parse([]byte(`{"version": 1, "collections": [
		{"name": "mine", "storagePath": "users/{identity}", "readRoles": ["self"], "writeRoles": ["self"], "encryption": "none", "maxBodyBytes": 10},
		{"name": "all", "storagePath": "all", "readRoles": ["public"], "writeRoles": ["self"], "encryption": "none", "maxBodyBytes": 10}],
		"extensions": {"evm": {"chains": {"evm:8453": {}}}}}`))
	if err != nil {
		t.Fatal(err)
	}
	doc := string(value.Append(nil, openapi.Describe(c, openapi.Options{})))
	const wallet = `{"walletPubkey":[],"walletSignature":[],"walletTimestamp":[],"walletNonce":[],"walletChain":[]}`
	if n := strings.Count(doc, wallet); n != strings.Count(doc, `"security":`) || n < 4 {
		t.Errorf("%d of %d", n, strings.Count(doc, `"security":`))
	}
	if !strings.Contains(
		doc, `"walletPubkey":{"type":"apiKey","in":"header","name":"X-OctoBot-Pubkey"`,
	) {
		t.Error("the headers are not described")
	}
}
