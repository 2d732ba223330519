package disk

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestBallast(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ballast")
	const size = 3<<20 + 5
	b := NewBallast(path, size)
	require.False(t, b.Kept())
	was, err := b.Drop()
	require.NoError(t, err, "there is nothing to drop")
	require.False(t, was)
	require.NoError(t, b.Keep())
	require.NoError(t, b.Keep())
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.EqualValues(t, size, info.Size())
	require.True(t, NewBallast(path, size).Kept(), "it is there for the next process, too")
	require.False(t, NewBallast(path, size+1).Kept(), "one of another size is made anew")

	was, err = b.Drop()
	require.NoError(t, err)
	require.True(t, was)
	require.False(t, b.Kept())
	require.NoError(t, b.Keep())
	require.NoError(t, os.Remove(path))
	require.False(t, b.Kept(), "somebody else has dropped it")
	require.NoError(t, b.Keep())
	require.True(t, b.Kept())
	_, err = b.Drop()
	require.NoError(t, err)
	_, err = os.Stat(path)
	require.ErrorIs(t, err, fs.ErrNotExist)

	f, err := os.Create(path)
	require.NoError(t, err)
	require.NoError(t, b.fill(f), "where room cannot be taken without writing")
	require.NoError(t, f.Close())
	require.True(t, NewBallast(path, size).Kept())

	require.NoError(t, os.Remove(path))
	missing := NewBallast(filepath.Join(path, "no", "directory"), size)
	require.Error(t, missing.Keep())
	require.False(t, missing.Kept())
	require.False(t, errors.Is(missing.Keep(), errors.ErrUnsupported))
}
