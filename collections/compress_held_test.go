package collections

import (
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/config"
)

// slowReader is the connection of a caller who may take long for each piece.
type slowReader struct {
	*httptest.ResponseRecorder
	pieces int
}

func (w *slowReader) Write(b []byte) (int, error) {
	w.pieces++
	return w.ResponseRecorder.Write(b)
}

// What a caller reads slowly is all that is held for it: the compressor is done before.
func TestCompressorsWaitForNobody(t *testing.T) {
	body := make([]byte, 300_000)
	for i := range body {
		body[i] = "0123456789abcdef"[rand.N(16)]
	}
	h, err := compressed(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Type"] = []string{config.JSON}
		for part := body; len(part) > 0; part = part[100_000:] {
			_, err := w.Write(part[:100_000])
			require.NoError(t, err)
		}
	}))
	require.NoError(t, err)
	for _, coding := range []string{"gzip", "zstd"} {
		w := &slowReader{ResponseRecorder: httptest.NewRecorder()}
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Accept-Encoding", coding)
		h.ServeHTTP(w, r)
		require.Equal(t, coding, w.Header().Get("Content-Encoding"))
		require.Greater(t, w.Body.Len(), 100_000)
		require.Equal(t, 1, w.pieces, coding)
	}
}

// What is kept of an answer counts until its caller has read it.
func TestCompressedAnswersCountWhileTheyAreRead(t *testing.T) {
	counted, sent := true, false
	h, err := compressed(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Content-Type"] = []string{config.JSON}
		_, _ = w.Write(make([]byte, 100_000))
		afterSending(r, func() { counted = false })
	}))
	require.NoError(t, err)
	for _, coding := range []string{"gzip", "zstd"} {
		counted, sent = true, false
		w := &watched{httptest.NewRecorder(), func() {
			require.True(t, counted)
			sent = true
		}}
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Accept-Encoding", coding)
		h.ServeHTTP(w, r)
		require.True(t, sent, coding)
		require.False(t, counted, coding)
	}
	counted = true
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
	require.False(t, counted, "what is not compressed has been sent when it is written")
}

// watched calls a function at each write.
type watched struct {
	*httptest.ResponseRecorder
	at func()
}

func (w *watched) Write(b []byte) (int, error) {
	w.at()
	return w.ResponseRecorder.Write(b)
}
