package server

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry"
	"github.com/skerry-sync/skerry/api"
	"github.com/skerry-sync/skerry/node"
)

// An operation that panics ends with an error in one sentence, and the server goes on.
func TestFaultOfAnOperationIsAnError(t *testing.T) {
	n, err := skerry.Open(t.Context(), node.Config{Dir: t.TempDir()}, nil)
	require.NoError(t, err)
	s := New(n, "test")
	handle(s, "fault", func(context.Context, struct{}, *answer) (struct{}, error) { panic("a fault") })
	c, stop := Local(s)
	for range 2 {
		e := post(t, s, "fault", "application/json", "").Error
		require.NotNil(t, e)
		require.Equal(t, api.Failed, e.Kind)
		require.Contains(t, e.Message, "a fault in skerry itself ended fault")
		require.NotContains(t, e.Message, "goroutine")
	}
	_, err = c.Status(t.Context())
	require.NoError(t, err)
	require.NoError(t, stop())
	require.NoError(t, n.Close())
}

// A request that panics gets an error in one sentence if nothing was sent before, and is cut off,
// so that nobody takes it for whole, if something was.
func TestFaultOfARequestIsAnError(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	srv := httptest.NewServer(guarded(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/begun" {
			_, err := io.WriteString(w, "a part")
			require.NoError(t, err)
			require.NoError(t, http.NewResponseController(w).Flush())
		}
		panic("a fault")
	}), log))
	defer srv.Close()
	for range 2 {
		res, err := srv.Client().Get(srv.URL + "/plain")
		require.NoError(t, err)
		var e api.Error
		require.NoError(t, json.NewDecoder(res.Body).Decode(&e))
		require.NoError(t, res.Body.Close())
		require.Equal(t, http.StatusInternalServerError, res.StatusCode)
		require.Contains(t, e.Message, "a fault in skerry itself ended /plain")

		res, err = srv.Client().Get(srv.URL + "/begun")
		require.NoError(t, err)
		_, err = io.ReadAll(res.Body)
		require.Error(t, err)
		require.NoError(t, res.Body.Close())
	}
}
