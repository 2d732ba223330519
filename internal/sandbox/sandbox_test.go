package sandbox_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/internal/sandbox"
)

// What browsers may run is put into a sandbox, however its type is written, and so is what is not
// known.
func TestProtect(t *testing.T) {
	for media, want := range map[string]string{
		"text/html": "sandbox", "TEXT/HTML; charset=utf-8": "sandbox", "image/svg+xml": "sandbox",
		"Image/SVG+XML": "sandbox", "image/svg": "sandbox",
		"application/xhtml+xml": "sandbox", "text/xml": "sandbox", "application/xml": "sandbox", "application/rss+xml": "sandbox", "multipart/related": "sandbox",
		"message/rfc822": "sandbox", "text/javascript": "sandbox", "": "sandbox", "x": "sandbox", "application/x-shockwave-flash": "sandbox",
		"image/png": "", "video/mp4": "", "audio/ogg": "", "application/pdf": "", "text/plain; " +
			"charset=utf-8": "", "application/octet-stream": "",
	} {
		h := http.Header{}
		sandbox.Protect(h, media, sandbox.Policy{})
		require.Equal(t, want, h.Get("Content-Security-Policy"), media)
		require.Equal(t, "nosniff", h.Get("X-Content-Type-Options"))
		require.Equal(t, "same-origin", h.Get("Cross-Origin-Resource-Policy"))
		h = http.Header{}
		sandbox.Protect(h, media, sandbox.Policy{Active: true, Embedding: sandbox.CrossOrigin})
		require.Empty(t, h.Get("Content-Security-Policy"), media)
		require.Equal(t, "cross-origin", h.Get("Cross-Origin-Resource-Policy"))
		require.Equal(t, "nosniff", h.Get("X-Content-Type-Options"))
	}
}
