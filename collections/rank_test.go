package collections_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections"
	"github.com/skerry-sync/skerry/collections/access"
	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/collections/store"
)

// listed counts the keys that a store was asked for by lists.
type listed struct {
	store.Store
	under []string
}

func (l *listed) List(ctx context.Context, prefix, after string, limit int) ([]string, error) {
	l.under = append(l.under, prefix)
	return l.Store.List(ctx, prefix, after, limit)
}

// Whether somebody owns something is told from what lies there alone: not from what begins alike,
// which can be anybody's, nor by reading the names of all others.
func TestOwnersAreFoundByTheirPlaces(t *testing.T) {
	var l *listed
	w := newWorld(t, configOf(column("own", "users/{identity}/x", `"self"`, `"self"`, "")),
		func(o *collections.Options) {
			l = &listed{Store: store.NewMemory()}
			o.Documents = document.In(l, nil)
		})
	const id = "00000000000000000000000000000001"
	for i, key := range []string{"users/" + id + "-x/x", "users/" + id + "x", "users/" + id + "!"} {
		require.NoError(t, l.Put(t.Context(), key, &store.Object{Body: fmt.Append(nil, i)}, store.Whatever))
	}
	standing, err := w.Server.Standing(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, access.Standing{}, standing)
	require.NoError(t, l.Put(t.Context(), "users/"+id+"/x", &store.Object{Body: []byte("{}")}, store.Whatever))
	l.under = nil
	standing, err = w.Server.Standing(t.Context(), id)
	require.NoError(t, err)
	require.Equal(
		t, access.Standing{Rank: access.Owner}, standing, "that is no document, and has no time",
	)
	require.Equal(t, []string{"users/" + id + "/"}, l.under)
}

// An owner is known since the document was written, as the server's clock tells; the time of a
// log's element is its writer's word.
func TestOwnersAreKnownSince(t *testing.T) {
	w := newWorld(t, configOf(
		column("own", "users/{identity}/x", `"public"`, `"public"`, ""),
		column(
			"log", "logs/{identity}/x", `"public"`, `"public"`,
			`, "appendOnly": {"requireAuthorSignature": false}`,
		),
	), nil)
	const one, two = "00000000000000000000000000000001", "00000000000000000000000000000002"
	began := w.now
	for path, body := range map[string]string{
		"users/" + one + "/x": `{"data":{"ts":1},"baseHash":null}`, "logs/" + two + "/x": `{"data":{},"ts":1}`,
	} {
		rec := ask(w, http.MethodPost, "/push/"+path, body)
		require.Equal(t, http.StatusOK, rec.Code, rec.Body.String())
	}
	w.now = w.now.Add(time.Hour)
	standing, err := w.Server.Standing(t.Context(), one)
	require.NoError(t, err)
	require.Equal(t, access.Owner, standing.Rank)
	require.Equal(t, began.UnixMilli(), standing.Since.UnixMilli())
	standing, err = w.Server.Standing(t.Context(), two)
	require.NoError(t, err)
	require.Equal(t, access.Standing{Rank: access.Owner}, standing)
}
