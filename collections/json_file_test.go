package collections_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections"
	"github.com/skerry-sync/skerry/collections/access"
	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/collections/store"
)

// A file of JSON, where patterns of types allow one, is stored as no document, which the nodes of a
// replica would merge.
func TestFileOfJSON(t *testing.T) {
	c, err := config.Parse(
		[]byte(`{"version": 1, "collections": [{"name": "f", "storagePath": "f/{id}",
		"readRoles": ["public"], "writeRoles": ["public"], "encryption": "none", "maxBodyBytes": 100,
		"allowedMimeTypes": ["application/*"]}]}`),
	)
	require.NoError(t, err)
	s := store.NewMemory()
	h, err := collections.New(c, collections.Options{Documents: document.In(s, nil),
		Resolver: access.ResolverFunc(func(context.Context, *access.Request) (access.Auth, error) {
			return access.Anonymous, nil
		})})
	require.NoError(t, err)
	const body = ` {"x": 1}`
	for _, media := range []string{"application/json", "application/JSON", "application/json; x=y"} {
		r := httptest.NewRequest(http.MethodPost, "/push/f/a", strings.NewReader(body))
		r.Header.Set("Content-Type", media)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		require.Equal(t, http.StatusOK, w.Code, w.Body)
		o, err := s.Get(t.Context(), "f/a")
		require.NoError(t, err)
		require.NotEqual(t, config.JSON, o.Type)
		w = httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/pull/f/a", nil))
		require.Equal(t, body, w.Body.String())
		require.Equal(t, "application/json; charset=utf-8", w.Header().Get("Content-Type"))
	}
}
