//go:build unix

package node

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/replica"
)

// Nothing in a data directory can be read or written by others, whatever the umask, also in one
// that was made or copied carelessly.
func TestDataDirectoryIsPrivate(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	ctx := context.Background()
	dir := filepath.Join(t.TempDir(), "data")
	for _, careless := range []bool{false, true} {
		n, err := Open(ctx, Config{Dir: dir})
		require.NoError(t, err)
		r, err := n.replicas.Create(ctx, "r")
		require.NoError(t, err)
		_, err = n.replicas.NewAuthor(ctx)
		require.NoError(t, err)
		for _, size := range []int{10, 10_000, 1 << 20} {
			info, err := n.blobs.ImportBytes(ctx, make([]byte, size))
			require.NoError(t, err)
			_, err = n.replicas.Write(
				ctx, r.ID, replica.NewSecretKey(),
				[]replica.Change{{Key: []byte("k"), Hash: info.Hash, Size: info.Size}},
			)
			require.NoError(t, err)
		}
		require.NoError(t, n.blobs.Sync(ctx))
		require.NoError(t, n.kv.Compact(ctx))
		requirePrivate(t, dir)
		require.NoError(t, n.Leave(ctx, r.ID))
		require.NoError(t, n.Close())
		requirePrivate(t, dir)
		if !careless {
			for _, name := range []string{"", "node.key", "kv"} {
				require.NoError(t, os.Chmod(filepath.Join(dir, name), 0o777))
			}
			tables, err := filepath.Glob(filepath.Join(dir, "kv", "*"))
			require.NoError(t, err)
			require.NotEmpty(t, tables)
			for _, name := range tables {
				require.NoError(t, os.Chmod(name, 0o666))
			}
		}
	}
}

func requirePrivate(t *testing.T, dir string) {
	files := 0
	require.NoError(t, filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a table that was compacted, and has been removed meanwhile
		}
		if err != nil {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		require.NoError(t, err)
		require.Zero(t, info.Mode().Perm()&0o077, "%s: %s", name, info.Mode())
		if info.Mode().IsRegular() {
			files++
		}
		return nil
	}))
	require.Greater(t, files, 5)
}
