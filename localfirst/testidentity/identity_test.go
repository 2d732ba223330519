package testidentity

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestIdentity(t *testing.T) {
	ctx := t.Context()
	a, again, b := New("a"), New("a"), New("b")
	id, err := a.KeyID(ctx)
	require.NoError(t, err)
	same, err := again.KeyID(ctx)
	require.NoError(t, err)
	other, err := b.KeyID(ctx)
	require.NoError(t, err)
	require.Equal(t, id, same)
	require.NotEqual(t, id, other)

	key, err := a.Derive(ctx, "p")
	require.NoError(t, err)
	for _, x := range []struct {
		of, purpose string
		equal       bool
	}{{"a", "p", true}, {"a", "q", false}, {"b", "p", false}} {
		got, err := New(x.of).Derive(ctx, x.purpose)
		require.NoError(t, err)
		require.Equal(t, x.equal, got == key, "%s %s", x.of, x.purpose)
	}
}

// A program that is no test gets nothing.
func TestOutsideOfTests(t *testing.T) {
	isTest = func() bool { return false }
	defer func() { isTest = testing.Testing }()
	id, err := New("a").KeyID(t.Context())
	require.ErrorIs(t, err, ErrNoTest)
	require.Empty(t, id)
	key, err := New("a").Derive(t.Context(), "p")
	require.ErrorIs(t, err, ErrNoTest)
	require.Zero(t, key)
}
