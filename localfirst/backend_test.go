package localfirst_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/localfirst"
	"github.com/skerry-sync/skerry/localfirst/backendtest"
)

func TestMemoryValueBackend(t *testing.T) {
	backendtest.Run(t, backendtest.Config[string]{
		Open: func(testing.TB) localfirst.ValueBackend[string] {
			return localfirst.NewMemoryValueBackend(same[string])
		},
		Value: func(n int) string { return fmt.Sprint(n) },
		Equal: same[string],
	})
}

// Changes are forgotten when there are more than values, and then all values are given.
func TestMemoryValueBackendForgetsChanges(t *testing.T) {
	b, ctx := localfirst.NewMemoryValueBackend(same[string]), t.Context()
	first, err := b.ChangesSince(ctx, "")
	require.NoError(t, err)
	require.NoError(t, b.Set(ctx, "a", "1"))
	second, err := b.ChangesSince(ctx, first.Next)
	require.NoError(t, err)
	require.False(t, second.All)
	require.Equal(t, map[string]string{"a": "1"}, second.Values)
	for range 200 {
		require.NoError(t, b.Set(ctx, "b", "1"))
	}
	b.Delete("a")
	third, err := b.ChangesSince(ctx, second.Next)
	require.NoError(t, err)
	require.True(t, third.All)
	require.Equal(t, map[string]string{"b": "1"}, third.Values)
	b.Forget("b")
	last, err := b.ChangesSince(ctx, third.Next)
	require.NoError(t, err)
	require.False(t, last.All)
	require.Equal(t, []string{"b"}, last.Gone)
}
