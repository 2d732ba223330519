package collections_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Whichever way a document is pulled, it counts against the same limit.
func TestEachWayOfPullingCounts(t *testing.T) {
	const text = `{"version": 1, "rateLimit": {"windowMs": 60000, "maxRequests": 3}, "collections": [
		{"name": "notes", "storagePath": "notes/{id}", "readRoles": ["public"], "writeRoles": ["public"], "maxBodyBytes": 1000, "rateLimit": {"pull": {}}},
		{"name": "a", "storagePath": "both/{id}", "bundle": "both", "readRoles": ["public"], "writeRoles": ["public"], "maxBodyBytes": 1000, "rateLimit": {"pull": {}}},
		{"name": "b", "storagePath": "both/{id}", "bundle": "both", "readRoles": ["public"], "writeRoles": ["public"], "maxBodyBytes": 1000}]}`
	get := func(w http.Handler, path string) (int, string) {
		rec := ask(w, "GET", path, "")
		return rec.Code, rec.Body.String()
	}
	const limited = `{"error":"Rate limit exceeded"}`

	w := newWorld(t, []byte(text), nil)
	_, body := get(
		w, `/batch/pull?collections=notes&params={"notes":[{"id":"1"},{"id":"2"},{"id":"3"},{"id":"4"}]}`,
	)
	require.Equal(t, 3, strings.Count(body, `"data"`), body)
	require.True(t, strings.HasSuffix(body, limited+"]}}"), body)
	status, body := get(w, "/pull/notes/1")
	require.Equal(t, http.StatusTooManyRequests, status, body)

	w = newWorld(t, []byte(text), nil)
	for i := range 3 {
		status, body = get(w, fmt.Sprint("/pull/notes/", i))
		require.Equal(t, http.StatusOK, status, body)
	}
	_, body = get(w, `/batch/pull?collections=notes&params={"notes":[{"id":"1"}]}`)
	require.JSONEq(t, `{"collections":{"notes":[`+limited+`]}}`, body)

	w = newWorld(t, []byte(text), nil)
	for range 3 {
		status, body = get(w, "/pull/both/1")
		require.Equal(t, http.StatusOK, status, body)
	}
	rec := ask(w, "GET", "/pull/both/2", "")
	require.Equal(t, http.StatusTooManyRequests, rec.Code)
	require.Equal(t, "60", rec.Header().Get("Retry-After"))
	_, body = get(w, `/batch/pull?collections=a,b&params={"a":[{"id":"1"}],"b":[{"id":"1"}]}`)
	require.Contains(t, body, limited)
	require.NotContains(t, body, `"b":[`+limited)
}
