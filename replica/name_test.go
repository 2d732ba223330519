package replica

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// No replica gets a name that is how the id of another begins: who names that one by the beginning
// of its id would get this. A name that was there before an id that begins with it stays.
func TestNameOfAnotherID(t *testing.T) {
	s := newStore(t, &clock{})
	ctx := t.Context()
	mine, err := s.Create(ctx, "mine")
	require.NoError(t, err)
	key := NewSecretKey()
	for _, n := range []int{4, 8, 52} {
		name := mine.ID.String()[:n]
		_, err = s.Join(ctx, Replica{ID: key.Replica(), Name: name, Capability: Write, Secret: key})
		require.Error(t, err, name)
		_, err = s.Create(ctx, name)
		require.Error(t, err, name)
	}
	other, err := s.Create(ctx, "other")
	require.NoError(t, err)
	_, err = s.Rename(ctx, other.ID, mine.ID.String()[:8])
	require.ErrorIs(t, err, ErrExists)
	_, err = s.Rename(ctx, mine.ID, mine.ID.String()[:8])
	require.NoError(t, err, "its own")
	r, err := s.Resolve(ctx, mine.ID.String()[:8])
	require.NoError(t, err)
	require.Equal(t, mine.ID, r.ID)
}
