package api

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/node"
)

// An operation that panics ends with an error in one sentence, and the server goes on.
func TestFaultOfAnOperationIsAnError(t *testing.T) {
	n, err := node.Open(t.Context(), node.Config{Dir: t.TempDir()})
	require.NoError(t, err)
	s := NewServer(n, "test")
	handle(s, "fault", func(context.Context, struct{}, *answer) (struct{}, error) { panic("a fault") })
	c, stop := Local(s)
	for range 2 {
		_, err = Call[struct{}](t.Context(), c, "fault", nil)
		var e *Error
		require.ErrorAs(t, err, &e)
		require.Equal(t, Failed, e.Kind)
		require.Contains(t, e.Message, "a fault in skerry itself ended fault")
		require.NotContains(t, e.Message, "goroutine")
	}
	_, err = Call[Status](t.Context(), c, "status", nil)
	require.NoError(t, err)
	require.NoError(t, stop())
	require.NoError(t, n.Close())
}
