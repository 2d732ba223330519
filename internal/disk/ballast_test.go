package disk

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestBallast(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ballast")
	const size = 3<<20 + 5
	now := time.Unix(1_700_000_000, 0)
	b := NewBallast(path, size)
	b.now = func() time.Time { return now }
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
	require.False(t, b.Kept(), "which is not looked at each time")
	now = now.Add(lookAgain)
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

// Room that cannot be taken is tried for again ever more rarely, and nobody waits meanwhile.
func TestBallastThatCannotBeKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "missing")
	now := time.Unix(1_700_000_000, 0)
	b := NewBallast(filepath.Join(dir, "ballast"), 1<<10)
	b.now = func() time.Time { return now }
	tried := func() int { // in ten days, each minute
		n := 0
		last := b.failed
		for range 10 * 24 * 60 {
			err := b.Keep()
			require.Error(t, err)
			if err != last {
				last = err
				n++
			}
			now = now.Add(time.Minute)
		}
		return n
	}
	require.Equal(t, 11+9, tried(), "after 1, 2, 4, … minutes, and once a day")
	require.Equal(t, 10, tried())
	_, err := b.Drop()
	require.NoError(t, err)
	require.Equal(t, 11+9, tried(), "there was room, perhaps")

	require.NoError(t, os.Mkdir(dir, 0o700))
	now = now.Add(lastAgain)
	b.mu.Lock()
	require.NoError(t, b.Keep(), "another call is at it")
	b.mu.Unlock()
	require.False(t, b.Kept())
	require.NoError(t, b.Keep())
	require.True(t, b.Kept())
	require.NoError(t, os.RemoveAll(dir))
	now = now.Add(lookAgain)
	require.Error(t, b.Keep())
	require.Equal(t, firstAgain, b.pause)
}
