package collections_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections"
	"github.com/skerry-sync/skerry/internal/cost"
)

// A batch that names one document again and again takes no more memory than its answer may have.
func TestSizeOfBatches(t *testing.T) {
	const most = 200_000
	config := bytes.ReplaceAll(configOf(
		column("notes", "notes/{id}", `"public"`, `"public"`, ""),
		column("logs", "logs/{id}", `"public"`, `"public"`,
			`, "appendOnly": {"requireAuthorSignature": false}`),
	), []byte(`"maxBodyBytes": 4000`), []byte(`"maxBodyBytes": 40000`))
	w := newWorld(t, config, func(o *collections.Options) { o.MaxBatchBytes = most })
	long := strings.Repeat("x", 30_000)
	body := `{"data":{"text":"` + long + `"}}`
	require.Equal(t, http.StatusOK, ask(w, http.MethodPost, "/push/notes/a", body).Code)
	require.Equal(t, http.StatusOK, ask(w, http.MethodPost, "/push/logs/a", body).Code)
	type entry struct {
		Error string
		Hash  string
	}
	pull := func(name string, n int) (all []entry) {
		rec := ask(w, http.MethodGet, batchOf(name, strings.Repeat(`{"id":"a"},`, n-1)+`{"id":"a"}`), "")
		require.Equal(t, http.StatusOK, rec.Code, rec.Body.String())
		require.Less(t, rec.Body.Len(), most+len(body)+60*n)
		var a struct{ Collections map[string][]entry }
		require.NoError(t, json.Unmarshal(rec.Body.Bytes(), &a))
		require.Len(t, a.Collections[name], n)
		return a.Collections[name]
	}
	for _, name := range []string{"notes", "logs"} {
		for i, e := range pull(name, 50) {
			require.Equal(t, i < 7, e.Hash != "", fmt.Sprint(name, i))
			require.Equal(t, i >= 7, e.Error == "Batch response too large", fmt.Sprint(name, i))
		}
		few := cost.Bytes(func() { pull(name, 10) })
		require.Less(t, cost.Bytes(func() { pull(name, 90) }), few+1<<20, name)
	}
}
