package serve

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRanges(t *testing.T) {
	for _, x := range []struct {
		set, ifRange string
		status       int
		part, body   string
	}{
		{"", "", 200, "", "0123456789"},
		{"bytes=0-3", "", 206, "bytes 0-3/10", "0123"},
		{"bytes=-3", "", 206, "bytes 7-9/10", "789"},
		{"bytes=-03", "", 206, "bytes 7-9/10", "789"},
		{"bytes=-30", "", 206, "bytes 0-9/10", "0123456789"},
		{"bytes=-0", "", 416, "bytes */10", ""},
		{"bytes=-000", "", 416, "bytes */10", ""},
		{"bytes= -0 , -00", "", 416, "bytes */10", ""},
		{"bytes=-0, 2-3", "", 206, "bytes 2-3/10", "23"},
		{"bytes=-0", `"other"`, 200, "", "0123456789"}, // the condition comes first
		{"bytes=-0", `"tag"`, 416, "bytes */10", ""},
		{"bytes=10-", "", 416, "bytes */10", ""},
		{"bytes=x-0", "", 416, "", ""},
		{"-0", "", 416, "", ""},
	} {
		r, w := httptest.NewRequest("GET", "/", nil), httptest.NewRecorder()
		w.Header().Set("ETag", `"tag"`)
		w.Header().Set("Content-Type", "text/plain")
		if x.set != "" {
			r.Header.Set("Range", x.set)
		}
		if x.ifRange != "" {
			r.Header.Set("If-Range", x.ifRange)
		}
		require.NoError(t, Content(w, r, strings.NewReader("0123456789")))
		require.Equal(t, x.status, w.Code, x.set)
		require.Equal(t, x.part, w.Header().Get("Content-Range"), x.set)
		if x.status != 416 {
			require.Equal(t, x.body, w.Body.String(), x.set)
		}
	}
	w, r := httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Range", "bytes=-0")
	require.NoError(t, Content(w, r, strings.NewReader("")))
	require.Equal(t, 200, w.Code, "empty content has no range, and is answered in the whole")
}
