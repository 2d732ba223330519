package collections_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections"
	"github.com/skerry-sync/skerry/collections/access"
	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/collections/store"
)

// What is missing is said when a server is made, not by a panic.
func TestMissing(t *testing.T) {
	docs := document.In(store.NewMemory(), nil)
	whole := collections.Options{Documents: docs, Resolver: &access.Caps{}}
	for _, x := range []struct {
		c *config.Config
		o collections.Options
	}{
		{nil, whole}, {config.Default(), collections.Options{Documents: docs}},
		{config.Default(), collections.Options{Resolver: &access.Caps{}}},
	} {
		_, err := collections.New(x.c, x.o)
		require.ErrorContains(t, err, "needs a configuration, Documents and a Resolver")
	}
	c, err := config.Parse([]byte(`{"version": 1, "collections": []}`))
	require.NoError(t, err)
	s, err := collections.New(c, whole)
	require.NoError(t, err)
	require.Error(t, s.Reload(nil))
	require.Same(t, c, s.Config())
}
