package collections_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/skerry-sync/skerry/collections"
	"github.com/skerry-sync/skerry/collections/access"
	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/collections/store"
)

// A server of documents that each user alone may read and write. Who a caller is, this program
// decides: package access has what goes by certificates and wallets instead.
func Example() {
	c, err := config.Parse([]byte(`{"version": 1, "collections": [{
		"name": "notes", "storagePath": "users/{identity}/notes",
		"readRoles": ["self"], "writeRoles": ["self"], "encryption": "none", "maxBodyBytes": 65536
	}]}`))
	if err != nil {
		panic(err)
	}
	byHeader := func(_ context.Context, r *access.Request) (access.Auth, error) {
		return access.Auth{Identity: r.HTTP.Header.Get("X-User"), Roles: []string{"user"}}, nil
	}
	server, err := collections.New(c, collections.Options{
		Documents: document.In(store.NewMemory(), nil), // or a directory, a bucket, a replica
		Resolver:  access.ResolverFunc(byHeader),
	})
	if err != nil {
		panic(err)
	}
	ask := func(who, method, path, body string) {
		r := httptest.NewRequest(method, path, strings.NewReader(body))
		r.Header.Set("X-User", who)
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		server.ServeHTTP(w, r)
		fmt.Println(w.Code, strings.Contains(w.Body.String(), "buy milk"))
	}
	ask("alice", http.MethodPost, "/push/users/alice/notes", `{"data": {"todo": "buy milk"}}`)
	ask("alice", http.MethodGet, "/pull/users/alice/notes", "")
	ask("bob", http.MethodGet, "/pull/users/alice/notes", "")
	// Output:
	// 200 false
	// 200 true
	// 403 false
}
