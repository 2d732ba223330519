package gate

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/kv"
)

func TestCloseWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Gate
		require.NoError(t, g.Enter(t.Context()))
		require.NoError(t, g.Enter(t.Context()))
		var closers sync.WaitGroup
		first := make(chan bool, 2)
		for range 2 {
			closers.Go(func() { first <- g.Close() })
		}
		synctest.Wait()
		require.ErrorIs(t, g.Enter(t.Context()), kv.ErrClosed)
		g.Leave()
		synctest.Wait()
		require.Empty(t, first, "one call is under way")
		g.Leave()
		closers.Wait()
		require.NotEqual(t, <-first, <-first, "one of them is the first")
		require.False(t, g.Close())
	})
}

func TestCloseOfNothing(t *testing.T) {
	var g Gate
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, g.Enter(ctx), context.Canceled)
	require.NoError(t, g.Enter(t.Context()))
	g.Leave()
	require.True(t, g.Close())
}
