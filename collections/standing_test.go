package collections_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
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

// unreadable is a store where what begins with a key cannot be read now.
type unreadable struct {
	store.Store
	key string
}

var errUnreadable = errors.New("unreadable")

func (u *unreadable) Get(ctx context.Context, key string) (*store.Object, error) {
	if strings.HasPrefix(key, u.key) {
		return nil, errUnreadable
	}
	return u.Store.Get(ctx, key)
}

// Who owns something that cannot be read now, as while a chain does not answer or a secret is lost,
// is its owner.
func TestOwnersOfWhatCannotBeRead(t *testing.T) {
	u := &unreadable{Store: store.NewMemory(), key: ""}
	w := newWorld(t, configOf(
		column("below", "users/{identity}/x", `"public"`, `"public"`, ""),
		column("at", "at/{identity}", `"public"`, `"public"`, ""),
	), func(o *collections.Options) { o.Documents = document.In(u, nil) })
	for i, key := range []string{"users/1/x", "at/2", "at/30"} {
		o := &store.Object{Body: fmt.Append(nil, i)}
		require.NoError(t, u.Put(t.Context(), key, o, store.Whatever))
	}
	for id, want := range map[string]access.Rank{
		"1": access.Owner, "2": access.Owner, "3": access.Stranger, "4": access.Stranger,
	} {
		rank, err := w.Server.Standing(t.Context(), id)
		require.NoError(t, err, id)
		require.Equal(t, want, rank, id)
	}
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
		require.NoError(
			t, l.Put(t.Context(), key, &store.Object{Body: fmt.Append(nil, i)}, store.Whatever),
		)
	}
	rank, err := w.Server.Standing(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, access.Stranger, rank)
	require.NoError(
		t, l.Put(t.Context(), "users/"+id+"/x", &store.Object{Body: []byte("{}")}, store.Whatever),
	)
	l.under = nil
	rank, err = w.Server.Standing(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, access.Owner, rank, "whatever that is")
	require.Equal(t, []string{"users/" + id + "/"}, l.under)
}
