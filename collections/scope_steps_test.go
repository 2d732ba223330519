package collections_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/capcert"
	"github.com/skerry-sync/skerry/internal/testkit"
)

// A long scope in a batch of long paths is matched with some of them, and a usual one with all.
func TestLongScopes(t *testing.T) {
	testkit.OneGoroutine(t)
	w := newWorld(t, configOf(column("notes", "notes/{id}", `"cap:read:notes"`, `"admin"`, "")), nil)
	p := newPerson(t, 1)
	var sets []string
	for i := range 100 {
		sets = append(sets, fmt.Sprintf(`{"id":"%s%03d"}`, strings.Repeat("a", 200), i))
	}
	const refused = "too many paths"
	batch := func(exceptions int) string {
		paths := []string{"**"}
		for range exceptions {
			paths = append(paths, "!**b")
		}
		cert := p.lets(p, capcert.Scope{
			Ops: []string{"read"}, Collections: []string{"notes"}, Paths: paths,
		})
		rec := p.ask(w, cert, known, http.MethodGet, batchOf("notes", strings.Join(sets, ",")), "")
		require.Equal(t, http.StatusOK, rec.Code)
		return rec.Body.String()
	}
	require.NotContains(t, batch(250), "error")
	long := batch(700)
	require.Contains(t, long, `"data"`)
	n := strings.Count(long, refused)
	require.True(t, 50 < n && n < 100, n)
}
