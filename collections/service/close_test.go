package service

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// A server may be closed by several at once, and while its configuration is read again. Nothing
// goes on then (see TestMain).
func TestCloseAtOnce(t *testing.T) {
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	// A collection with a document that another server has, which is asked for again and again.
	text := fmt.Sprintf(`{"version": 1, "collections": [{"name": "news", "storagePath": "news",
		"readRoles": ["public"], "writeRoles": ["public"], "encryption": "none",
		"maxBodyBytes": 1000}], "extensions": {"remotes": {"news": {"url": %q, "pullPath": "/pull/news",
		"writeMode": "pull_only", "syncTriggers": ["scheduled"], "intervalMs": 1}}}}`, other.URL)
	for range 20 {
		f := setUp(t, parsed(t, text))
		f.o.HTTP = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		s := f.start(t)
		_, err := s.Listen(ListenOptions{At: "127.0.0.1:0", Local: true})
		require.NoError(t, err)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
			wg.Go(func() { _ = s.Reload() })
		}
		wg.Wait()
		require.ErrorIs(t, s.Reload(), ErrClosed)
		require.Equal(t, 1, f.closed)
	}
}

func TestMissing(t *testing.T) {
	f := setUp(t, nil)
	for _, o := range []Options{{}, {Load: f.o.Load}, {Place: f.o.Place}} {
		_, err := Start(t.Context(), o)
		require.ErrorContains(t, err, "needs Load and Place")
	}
}
