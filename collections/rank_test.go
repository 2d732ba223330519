package collections_test

import (
	"context"
	"fmt"
	"testing"

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
	rank, err := w.Server.Rank(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, access.Stranger, rank)
	require.NoError(t, l.Put(t.Context(), "users/"+id+"/x", &store.Object{Body: []byte("{}")}, store.Whatever))
	l.under = nil
	rank, err = w.Server.Rank(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, access.Owner, rank)
	require.Equal(t, []string{"users/" + id + "/"}, l.under)
}
