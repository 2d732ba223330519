package client_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
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

// A server cannot fill the memory of who asks it with a short answer: neither with what it
// decompresses to, nor with what that is parsed to.
func TestBombs(t *testing.T) {
	bomb := func(item string, mib int) []byte {
		var zipped bytes.Buffer
		zip := gzip.NewWriter(&zipped)
		_, err := io.WriteString(zip, `{"hash":"00","data":{"a":[`)
		some := []byte(strings.Repeat(item, 1<<20/len(item)))
		for range mib {
			_, more := zip.Write(some)
			err = errors.Join(err, more)
		}
		_, last := io.WriteString(zip, "{}]}}")
		require.NoError(t, errors.Join(err, last, zip.Close()))
		require.Less(t, zipped.Len(), 256<<10)
		return zipped.Bytes()
	}
	long, wide := bomb(strings.Repeat(" ", 1000)+"{},", 2+client.MaxJSON>>20), bomb("{},", 7)
	for _, tt := range []struct {
		answer []byte
		most   int64
	}{{long, 0}, {wide, 8 << 20}} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(tt.answer)
		}))
		c := &client.Client{Base: srv.URL, Retries: -1, MaxAnswer: tt.most}
		_, err := c.Pull(t.Context(), "a")
		require.ErrorIs(t, err, client.ErrTooLong)
		srv.Close()
	}
}
