package replicas_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/replica"
)

// What was acknowledged, and this node's author may not write any more when it comes to the
// replica, keeps no other write from it, nor the store from being closed.
func TestRevokedMeanwhile(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	one := founded(t, t.TempDir())
	defer func() { require.NoError(t, one.Close()) }()
	two := &member{n: openNode(t, dir, nil)}
	r, err := hold(t, two.n, replica.Replica{ID: one.id, Name: "docs", Capability: replica.Read})
	require.NoError(t, err)
	author := two.author(t)
	may := func(prefix string) []byte {
		g, err := one.n.Grant(ctx, one.id, author, replica.Permission{Prefix: []byte(prefix)})
		require.NoError(t, err)
		return g.Bytes()
	}
	_, err = two.n.TakeStatements(ctx, r.ID, [][]byte{may("doc/")})
	require.NoError(t, err)
	two.open(t, r)
	require.NoError(t, two.Close())
	before := copyDir(t, dir)

	two = &member{n: openNode(t, dir, nil)}
	two.open(t, r)
	o := func() *store.Object { return &store.Object{Body: []byte("{}"), Type: "application/json"} }
	name := filepath.Join("collections", r.ID.String()+".journal")
	var journal []byte
	whileLocked(t, two, func() {
		require.NoError(t, two.Put(ctx, "a", o(), store.Whatever))
		require.NoError(t, two.Put(ctx, "c", o(), store.Whatever))
		journal, err = os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
	})
	require.NoError(t, two.Close())

	require.NoError(t, os.WriteFile(filepath.Join(before, name), journal, 0o600))
	two = &member{n: openNode(t, before, nil)}
	revoked, err := one.n.Revoke(ctx, one.id, author, 0)
	require.NoError(t, err)
	_, err = two.n.TakeStatements(ctx, r.ID, [][]byte{revoked.Bytes(), may("doc/c")})
	require.NoError(t, err)
	two.open(t, r)
	require.NoError(t, two.Put(ctx, "c2", o(), store.Whatever))
	within, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	require.NoError(t, two.Settle(within))
	keys, err := two.List(ctx, "", "", 10)
	require.NoError(t, err)
	require.Equal(t, []string{"c", "c2"}, keys)
	require.NoError(t, two.Close())
}
