package chain

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/access"
)

type fixed struct {
	id  string
	s   Standing
	err error
}

func (f fixed) ID() string { return f.id }

func (f fixed) Standing(context.Context, Ask) (Standing, error) { return f.s, f.err }

// Being the owner on one chain is not lost to another, and what cannot be found out is said only if
// it matters.
func TestRegistryAndRoles(t *testing.T) {
	away := errors.New("away")
	down := &UnavailableError{"evm:3", time.Minute, away}
	var r Registry
	_, err := r.Get("evm:1")
	require.ErrorIs(t, err, ErrUnknown)
	r.Register(fixed{"evm:1", Standing{false, true}, nil})
	r.Register(fixed{"evm:2", Standing{}, nil})
	r.Register(fixed{"evm:3", Standing{}, down})
	require.True(t, r.Has("evm:2"))
	roles := func(id string, params map[string]string) ([]string, error) {
		return r.Enricher()(t.Context(), &access.Auth{Identity: id}, access.Place{Params: params})
	}
	product := map[string]string{ItemParam: "42"}
	got, err := roles(alice.String(), product)
	var unavailable *access.UnavailableError
	require.ErrorAs(t, err, &unavailable)
	require.ErrorIs(t, err, away)
	require.Equal(t, time.Minute, unavailable.RetryAfter)
	require.Equal(t, []string{"member"}, got)
	r.Register(fixed{"evm:2", Standing{true, true}, nil}) // in the place of the former
	require.Len(t, r.All(), 3)
	got, err = roles(alice.Lower(), product)
	require.NoError(t, err)
	require.Equal(t, []string{"owner", "member"}, got)
	for _, x := range []struct {
		id     string
		params map[string]string
	}{
		{alice.String(), nil}, {alice.String(), map[string]string{ItemParam: "product-1"}},
		{"0123456789abcdef", product}, {"", product},
	} {
		got, err = roles(x.id, x.params)
		require.NoError(t, err)
		require.Empty(t, got)
	}
}

func TestOptions(t *testing.T) {
	for _, o := range []Options{
		{Endpoints: []string{"ftp://x"}, Contract: contract},
		{Endpoints: []string{"http://"}, Contract: contract}, {Endpoints: []string{"http://x"}},
	} {
		_, err := NewEVM(1, o)
		require.Error(t, err)
	}
	_, err := NewEVM(0, Options{})
	require.Error(t, err)
	c, err := NewEVM(1, Options{})
	require.NoError(t, err)
	defer c.Close()
	_, err = c.Standing(t.Context(), Ask{Who: alice})
	require.ErrorContains(t, err, "it has no endpoint")
}
