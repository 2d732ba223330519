package collections

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/value"
)

// No more documents are matched by backtracking at once than the machine can; others wait, as long
// as their callers do.
func TestChecksTakeTurns(t *testing.T) {
	o, err := value.ParseObject([]byte(`{"properties": {"a": {"pattern": "^(?!b)"}}}`), 9)
	require.NoError(t, err)
	s, err := compileSchema(o, matching{})
	require.NoError(t, err)
	data, err := value.ParseObject([]byte(`{"a": "a"}`), 9)
	require.NoError(t, err)
	taken := make([]*compiled, cap(s.free))
	for i := range taken {
		taken[i], err = s.take(t.Context())
		require.NoError(t, err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, s.check(gone, data), context.Canceled)
	s.give(taken[0])
	require.NoError(t, s.check(t.Context(), data))
	require.NoError(t, s.check(t.Context(), data))
}
