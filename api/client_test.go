package api

import (
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve answers with h on a socket until the test ends, and returns a client for it.
func serve(t *testing.T, h http.Handler) *Client {
	t.Helper()
	at := filepath.Join(t.TempDir(), "sock")
	l, err := net.Listen("unix", at)
	require.NoError(t, err)
	srv := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	c := Dial(at)
	t.Cleanup(func() {
		c.Close()
		require.NoError(t, srv.Close())
		require.ErrorIs(t, <-served, http.ErrServerClosed)
	})
	return c
}

// A node that does not know an operation is likely of another version, and the error says so.
func TestNodeOfAnotherVersion(t *testing.T) {
	c := serve(t, http.NotFoundHandler())
	_, err := c.Status(t.Context())
	require.ErrorContains(t, err, `"status"`)
	require.ErrorContains(t, err, "another version")
}
