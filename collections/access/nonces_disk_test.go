package access_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/access"
)

// fullDisk is a file of which so many more bytes fit on the disk, and which cannot be cut if stuck.
type fullDisk struct {
	access.JournalFile
	room  int
	stuck bool
}

func (f *fullDisk) Write(b []byte) (int, error) {
	if len(b) <= f.room {
		f.room -= len(b)
		return f.JournalFile.Write(b)
	}
	n, err := f.JournalFile.Write(b[:f.room])
	f.room = 0
	return n, errors.Join(err, syscall.ENOSPC)
}

func (f *fullDisk) Truncate(size int64) error {
	if f.stuck {
		return syscall.EIO
	}
	return f.JournalFile.Truncate(size)
}

// What did not fit on a full disk costs no record that is written later: none is let in twice.
func TestNoncesOnAFullDisk(t *testing.T) {
	for _, stuck := range []bool{false, true} {
		dir := t.TempDir()
		n, err := access.NewNonces(access.NonceOptions{Dir: dir, Clock: at(start)})
		require.NoError(t, err)
		disk := &fullDisk{room: 24 + 10, stuck: stuck} // a record and a part of one
		n.WrapJournal(func(f access.JournalFile) access.JournalFile {
			disk.JournalFile = f
			return disk
		})
		use := func(nonce string) error { return n.Use(t.Context(), "a", nonce, start, start) }
		require.NoError(t, use("1"))
		require.ErrorIs(t, use("2"), syscall.ENOSPC)
		disk.room = 1 << 20
		if stuck {
			require.ErrorIs(t, use("2"), syscall.EIO, "what follows it could not be read")
			disk.stuck = false
		}
		require.NoError(t, use("2"))
		require.NoError(t, use("3"))
		require.NoError(t, n.Close())
		n, err = access.NewNonces(access.NonceOptions{Dir: dir, Clock: at(start)})
		require.NoError(t, err)
		for _, nonce := range []string{"1", "2", "3"} {
			require.ErrorIs(t, use(nonce), access.ErrReplayed, nonce)
		}
		require.NoError(t, n.Close())
	}
}

// A server that could not begin the next file of the journal, as when too many files are open,
// does so later.
func TestNoncesWhoseNextFileCannotBeOpened(t *testing.T) {
	dir := t.TempDir()
	n, err := access.NewNonces(access.NonceOptions{Dir: dir, Clock: at(start)})
	require.NoError(t, err)
	require.NoError(t, n.Use(t.Context(), "a", "1", start, start))
	next := filepath.Join(dir, "nonces.0.log")
	require.NoError(t, os.Remove(next))
	require.NoError(t, os.Mkdir(next, 0o700)) // which is not opened as a file
	const later = start + 3_600_000
	require.Error(t, n.Use(t.Context(), "a", "2", later, later))
	require.NoError(t, os.Remove(next))
	require.NoError(t, n.Use(t.Context(), "a", "2", later, later))
	require.NoError(t, n.Close())
	n, err = access.NewNonces(access.NonceOptions{Dir: dir, Clock: at(later)})
	require.NoError(t, err)
	require.ErrorIs(t, n.Use(t.Context(), "a", "2", later, later), access.ErrReplayed)
	require.NoError(t, n.Close())
}
