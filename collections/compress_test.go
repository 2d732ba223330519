package collections_test

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections"
)

// decoded returns the body of an answer as it is without its encoding.
func decoded(t *testing.T, rec *httptest.ResponseRecorder) string {
	var r io.Reader = rec.Body
	switch rec.Header().Get("Content-Encoding") {
	case "gzip":
		z, err := gzip.NewReader(rec.Body)
		require.NoError(t, err)
		r = z
	case "zstd":
		z, err := zstd.NewReader(rec.Body)
		require.NoError(t, err)
		defer z.Close()
		r = z
	}
	b, err := io.ReadAll(r)
	require.NoError(t, err)
	return string(b)
}

// Compressed and plain answers share no strong ETag, whoever has one of either is told that it
// still holds, and what is resumed is put together from parts of one encoding. (klauspost/compress
// PR 740, hono #4845)
func TestETagsTellEncodingsApart(t *testing.T) {
	const rest = `"readRoles": ["public"], "writeRoles": ["public"], "encryption": "none", "maxBodyBytes": 100000`
	h := wrap(t, newWorld(t, []byte(`{"version": 1, "collections": [
		{"name": "notes", "storagePath": "notes/{id}", `+rest+`},
		{"name": "log", "storagePath": "log/{id}", `+rest+
		`, "appendOnly": {"requireAuthorSignature": false, "allowFull": true}},
		{"name": "files", "storagePath": "files/{id}", `+rest+
		`, "allowedMimeTypes": ["text/*", "application/*"]}]}`),
		nil),
		collections.Wrapping{Compress: true})
	long := strings.Repeat("0123456789", 400)
	for _, path := range []string{"notes/a", "log/a"} {
		require.Equal(t, 200, ask(h, "POST", "/push/"+path, `{"data":{"long":"`+long+`"}}`).Code)
	}
	for name, media := range map[string]string{"text": "text/plain", "json": "application/json"} {
		require.Equal(t, 200, ask(h, "POST", "/push/files/"+name, long, "Content-Type", media).Code)
	}

	for _, path := range []string{"/pull/notes/a", "/pull/log/a?full=1"} {
		plain := ask(h, "GET", path, "")
		strong := plain.Header().Get("ETag")
		require.Regexp(t, `^"[0-9a-f]{64}"$`, strong, path)
		for _, encoding := range []string{"gzip", "zstd"} {
			rec := ask(h, "GET", path, "", "Accept-Encoding", encoding)
			require.Equal(t, encoding, rec.Header().Get("Content-Encoding"), path)
			require.Equal(t, []string{"Accept-Encoding"}, rec.Header().Values("Vary"))
			require.Equal(t, "W/"+strong, rec.Header().Get("ETag"), path)
			require.Equal(t, plain.Body.String(), decoded(t, rec))
			for have, want := range map[string]string{
				strong: strong, "W/" + strong: "W/" + strong, `"x", W/` + strong: "W/" + strong,
				"W/" + strong + "," + strong: strong, "*": strong,
			} {
				rec := ask(h, "GET", path, "", "Accept-Encoding", encoding, "If-None-Match", have)
				require.Equal(t, http.StatusNotModified, rec.Code, have)
				require.Equal(t, want, rec.Header().Get("ETag"), have)
			}
			rec = ask(h, "GET", path, "", "Accept-Encoding", encoding, "If-None-Match", `W/"x"`)
			require.Equal(t, "W/"+strong, rec.Header().Get("ETag"))
		}
		require.Equal(
			t, http.StatusNotModified, ask(h, "GET", path, "", "If-None-Match", "W/"+strong).Code,
		)
	}

	// A file has its hash as its ETag, whatever its reader takes.
	for _, path := range []string{"/pull/files/text", "/pull/files/json"} {
		strong := ask(h, "GET", path, "").Header().Get("ETag")
		for _, encoding := range []string{"", "gzip", "zstd, gzip"} {
			rec := ask(h, "GET", path, "", "Accept-Encoding", encoding)
			require.Empty(t, rec.Header().Get("Content-Encoding"))
			require.Equal(t, strong, rec.Header().Get("ETag"), path)
			require.Equal(t, "bytes", rec.Header().Get("Accept-Ranges"))
			require.NotContains(t, rec.Header(), "No-Gzip-Compression")
			require.Equal(t, long, rec.Body.String())
			for tag, want := range map[string]int{strong: 206, "W/" + strong: 200, `"x"`: 200} {
				rec := ask(
					h, "GET", path, "", "Accept-Encoding", encoding, "Range", "bytes=2000-",
					"If-Range", tag,
				)
				require.Equal(t, want, rec.Code, "%s: If-Range: %s", path, tag)
				require.Equal(t, strong, rec.Header().Get("ETag"))
				require.Equal(t, map[int]string{206: long[2000:], 200: long}[want], rec.Body.String())
			}
			for _, have := range []string{strong, "W/" + strong} {
				rec := ask(h, "GET", path, "", "Accept-Encoding", encoding, "If-None-Match", have)
				require.Equal(t, http.StatusNotModified, rec.Code)
			}
		}
	}
}
