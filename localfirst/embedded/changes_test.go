package embedded

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/localfirst"
)

// counted is an app's store that counts the values that it has been asked for.
type counted struct {
	*localfirst.MemoryValueBackend[string]
	given int
}

func (c *counted) ChangesSince(
	ctx context.Context, token string,
) (localfirst.Changes[string], error) {
	x, err := c.MemoryValueBackend.ChangesSince(ctx, token)
	c.given += len(x.Values) + len(x.Gone)
	return x, err
}

// A pass reads what has changed alone, also after a start, and again what it could not publish.
func TestPassesReadWhatHasChanged(t *testing.T) {
	d := newDevice(t, "alice")
	bad := true
	plain := localfirst.StringCodec()
	d.cfg.Codec = localfirst.CodecOf(func(s string) ([]byte, error) {
		if bad && s == "bad" {
			return nil, errors.New("it cannot be written yet")
		}
		return plain.Encode(s)
	}, plain.Decode)
	d.start()
	app := &counted{MemoryValueBackend: localfirst.NewMemoryValueBackend(equal)}
	cfg := d.cfg
	cfg.Backend = app
	open := func() *localfirst.Collection[string] {
		c, err := localfirst.OpenCollection(d.ns, "counted", cfg)
		require.NoError(t, err)
		return c
	}
	open()
	ctx := t.Context()
	pass := func() int {
		app.given = 0
		require.NoError(t, d.engine.Pass(ctx))
		return app.given
	}
	for i := range 20 {
		require.NoError(t, app.Set(ctx, fmt.Sprint("k", i), "v"))
	}
	require.Equal(t, 20, pass())
	require.Zero(t, pass())
	require.NoError(t, app.Set(ctx, "k3", "w"))
	app.Delete("k4")
	require.Equal(t, 2, pass())
	require.Zero(t, pass())
	d.stop()
	d.start()
	c := open()
	require.Zero(t, pass(), "the token is remembered")
	require.NoError(t, app.Set(ctx, "k5", "bad"))
	require.Equal(t, 1, pass())
	require.Equal(t, 1, pass(), "it could not be published")
	bad = false
	require.Equal(t, 1, pass())
	require.Zero(t, pass())
	history, err := c.History(ctx, "k5")
	require.NoError(t, err)
	require.Len(t, history, 2)
	require.NoError(t, app.Set(ctx, "new", "v"))
	require.Equal(t, 20, pass(), "the scope has changed")
	for i := range 19 {
		app.Delete(fmt.Sprint("k", i))
	}
	app.Delete("k19")
	app.Delete("new")
	require.ErrorIs(t, d.engine.Pass(ctx), localfirst.ErrMassDelete)
	c.Approve()
	require.Equal(t, 21, pass(), "all that was deleted")
	require.Zero(t, pass())
}
