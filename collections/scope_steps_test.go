package collections_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/capcert"
	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/collections/value"
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

// A long scope gets a list in more pages, and none if it would have to be matched with too many
// paths for one item.
func TestLongScopesInLists(t *testing.T) {
	w := newWorld(t, configOf(column(
		"notes", "notes/{id}", `"cap:list:notes"`, `"admin"`, `, "listable": true`)), nil)
	p := newPerson(t, 1)
	const most = 150
	name := func(i int) string { return fmt.Sprintf("%s%03d", strings.Repeat("a", 200), i) }
	docs := document.In(w.store, nil)
	for i := range most {
		_, err := docs.Push(t.Context(), "notes/"+name(i), &value.Object{}, nil, nil, false)
		require.NoError(t, err)
	}
	list := func(after string, paths ...string) (int, *value.Object) {
		cert := p.lets(p, capcert.Scope{
			Ops: []string{"list"}, Collections: []string{"notes"}, Paths: paths,
		})
		rec := p.ask(w, cert, known, http.MethodGet, "/list/notes?limit=1000&after="+after, "")
		return rec.Code, mustObject(t, rec.Body.String())
	}
	exceptions := slices.Repeat([]string{"!**b"}, 250)
	read := func(paths []string) (all []string, pages int) {
		after := ""
		for more := true; more; pages++ {
			status, o := list(after, paths...)
			require.Equal(t, http.StatusOK, status)
			v, _ := o.Get("items")
			for _, item := range v.(value.Array) {
				after = item.(string)
				all = append(all, after)
			}
			v, _ = o.Get("hasMore")
			more = v.(bool)
		}
		return all, pages
	}
	want, pages := read([]string{"**"})
	require.Len(t, want, most)
	require.Equal(t, 1, pages)
	all, pages := read(append([]string{"**"}, exceptions...))
	require.Equal(t, want, all)
	require.Greater(t, pages, 1)

	status, o := list("", append([]string{"notes"}, slices.Repeat([]string{"notes/*c"}, 130)...)...)
	require.Equal(t, http.StatusForbidden, status)
	reason, _ := o.String("error")
	require.Contains(t, reason, "too many paths")
}

// The documents of a bundle are as many as its collections.
func TestLongScopesInBundles(t *testing.T) {
	var columns []string
	for i := range 40 {
		columns = append(columns, column(
			fmt.Sprintf("c%d", i), "both/{id}", `"cap:read:*"`, `"admin"`, `, "bundle": "both"`))
	}
	w := newWorld(t, configOf(columns...), nil)
	p := newPerson(t, 1)
	bundle := func(exceptions int) int {
		paths := append([]string{"**"}, slices.Repeat([]string{"!**b"}, exceptions)...)
		cert := p.lets(p, capcert.Scope{Ops: []string{"read"}, Collections: []string{"*"}, Paths: paths})
		id := strings.Repeat("a", 230)
		return p.ask(w, cert, known, http.MethodGet, "/pull/both/"+id, "").Code
	}
	require.Equal(t, http.StatusOK, bundle(250))
	require.Equal(t, http.StatusForbidden, bundle(700))
}
