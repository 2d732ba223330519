package collections

import (
	"context"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/access"
	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/collections/store"
)

// Whoever finds out roles is told where the request comes from, so that it can share out what that
// costs.
func TestEnrichersKnowTheSource(t *testing.T) {
	c, err := config.Parse([]byte(`{"version": 1, "collections": [
		{"name": "notes", "storagePath": "notes/{id}", "readRoles": ["friend"], "writeRoles": ["friend"],
		 "encryption": "none", "maxBodyBytes": 1000}], "extensions": {"roles": {"friend": []}}}`))
	require.NoError(t, err)
	source := ""
	s, err := New(c, Options{
		Documents: document.In(store.NewMemory(), nil), ProxyHops: 1,
		Resolver: access.ResolverFunc(func(context.Context, *access.Request) (access.Auth, error) {
			return access.Auth{Identity: "0123456789abcdef0123456789abcdef"}, nil
		}),
		Enricher: func(ctx context.Context, _ *access.Auth, _ access.Place) ([]string, error) {
			source = access.SourceOf(ctx)
			return nil, nil
		},
	})
	require.NoError(t, err)
	r := httptest.NewRequest("GET", "/pull/notes/a", nil)
	r.Header.Set("X-Forwarded-For", "203.0.113.5")
	s.ServeHTTP(httptest.NewRecorder(), r)
	require.Equal(t, "203.0.113.5/32", source)
}
