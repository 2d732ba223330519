package collections_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/internal/cost"
)

// A body that is announced and does not come costs no memory to speak of, and one that comes is
// taken whole.
func TestAnnouncedBodies(t *testing.T) {
	const announced = 4_000_000
	notes := column("notes", "notes/{id}", `"public"`, `"public"`, "")
	w := newWorld(t, configOf(strings.Replace(notes, "4000", fmt.Sprint(announced), 1)), nil)
	push := func(id string, body io.Reader, n int64) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodPost, "/push/notes/"+id, body)
		r.Header.Set("Content-Type", "application/json")
		r.ContentLength = n
		rec := httptest.NewRecorder()
		w.ServeHTTP(rec, r)
		return rec
	}
	require.Less(t, cost.Bytes(func() {
		rec := push("a", strings.NewReader(`{"data":{"t":"`), announced)
		require.Equal(t, http.StatusBadRequest, rec.Code)
		require.Contains(t, rec.Body.String(), "ends too early")
	}), uint64(1<<18))
	for _, n := range []int{
		100, 1<<16 - 1, 1 << 16, 1<<16 + 1, 1 << 17, 1<<17 + 1, 1 << 20, announced,
	} {
		begin, end := `{"data":{"t":"`, `"}}`
		text := strings.Repeat("x", n-len(begin)-len(end))
		body, id := begin+text+end, fmt.Sprint(n)
		require.Equal(t, http.StatusOK, push(id, strings.NewReader(body), int64(n)).Code, n)
		require.Contains(t, ask(w, http.MethodGet, "/pull/notes/"+id, "").Body.String(), `"`+text+`"`)
	}
}
