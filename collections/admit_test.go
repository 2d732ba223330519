package collections_test

import (
	"log/slog"
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

// A push whose body the signature does not cover is not admitted, either: of a replica, whoever
// hands on a request could put another body into it.
func TestAdmitNeedsJSON(t *testing.T) {
	c, err := config.Parse([]byte(`{"version": 1, "collections": [{"name": "notes",
		"storagePath": "notes/{id}", "readRoles": ["public"], "writeRoles": ["public"],
		"encryption": "none", "maxBodyBytes": 1000}]}`))
	require.NoError(t, err)
	h, err := collections.New(c, collections.Options{
		Documents: document.In(store.NewMemory(), nil), Prefix: "/v1", Resolver: &access.Caps{},
		Log: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	admit := func(media string) error {
		r := httptest.NewRequest(http.MethodPost, "/v1/push/notes/a", strings.NewReader(`{"data":{}}`))
		r.Header["Content-Type"] = []string{media}
		_, err := h.Admit(r)
		return err
	}
	require.NoError(t, admit("application/json"))
	require.NoError(t, admit("application/json; charset=utf-8"))
	for _, media := range []string{"text/plain", "", "Application/JSON"} {
		var refused *collections.RefusedError
		require.ErrorAs(t, admit(media), &refused, media)
		require.Equal(t, http.StatusUnsupportedMediaType, refused.Status)
	}
}
