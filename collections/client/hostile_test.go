package client_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/client"
	"github.com/skerry-sync/skerry/collections/keyring"
	"github.com/skerry-sync/skerry/collections/pairing"
)

// A server that says there is nothing, and shows something all the same, gets around neither the
// proof of the author nor the seal.
func TestNothingWithData(t *testing.T) {
	answer := ""
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, answer)
	}))
	defer srv.Close()
	d, err := pairing.NewDevice()
	require.NoError(t, err)
	ring, err := keyring.New(d.Key, []string{d.KEMPublic()}, 1)
	require.NoError(t, err)
	sealer, err := ring.Open(d.KEM, []string{d.Key.Public}, 1)
	require.NoError(t, err)
	c := &client.Client{Base: srv.URL, Retries: -1, Credentials: func() client.Credentials {
		cert, err := pairing.RootCert(d, 1)
		require.NoError(t, err)
		return client.Credentials{Cert: cert, Key: d.Key}
	}}
	for _, answer = range []string{
		`{"data":{"pay":"mallory"},"hash":"","timestamp":1}`, `{"data":{"pay":"mallory"}}`,
		`{"data":{"pay":"mallory"},"hash":7,"authorPubkey":"a","authorSignature":"b"}`, `{}`,
	} {
		for _, s := range []*client.Sync{
			{Client: c, Path: "a", Author: d.Key.Public}, {Client: c, Path: "a", Sealer: sealer},
		} {
			data, err := s.Pull(t.Context())
			require.NoError(t, err)
			require.Zero(t, data.Len(), answer)
			require.Zero(t, s.Data().Len())
		}
		got, err := c.Pull(t.Context(), "a")
		require.NoError(t, err)
		require.Equal(t, &client.Document{Data: got.Data, Time: got.Time}, got)
		require.Zero(t, got.Data.Len())
	}
	answer = `{"hash":"00"}`
	_, err = c.Pull(t.Context(), "a")
	require.ErrorContains(t, err, "no data")
}
