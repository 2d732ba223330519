//go:build unix

package disk

import (
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOpenRegularRefusesTheRest(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	require.NoError(t, syscall.Mkfifo(fifo, 0o600))
	require.NoError(t, os.Symlink(fifo, filepath.Join(dir, "link")))
	put(t, filepath.Join(dir, "f"), "hello")
	require.NoError(t, os.Symlink("f", filepath.Join(dir, "to-f")))
	for name, want := range map[string]string{
		fifo: "a pipe", filepath.Join(dir, "link"): "a pipe", os.DevNull: "a device", dir: "a directory",
	} {
		_, err := OpenRegular(name)
		var bad *NotRegularError
		require.ErrorAs(t, err, &bad)
		require.ErrorContains(t, err, want)
		_, err = ReadFile(name, 10)
		require.ErrorAs(t, err, &bad)
	}
	b, err := ReadFile(filepath.Join(dir, "to-f"), 5)
	require.NoError(t, err)
	require.Equal(t, "hello", string(b))
	_, err = ReadFile(filepath.Join(dir, "f"), 4)
	require.ErrorContains(t, err, "at most 4")
}

// A file that becomes a pipe after it was looked at does not block.
func TestOpenDoesNotWaitForAPipe(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "f")
	put(t, name, "hello")
	at(t, "open", func(string) {
		require.NoError(t, os.Remove(name))
		require.NoError(t, syscall.Mkfifo(name, 0o600))
	})
	_, err := OpenRegular(name)
	var bad *NotRegularError
	require.ErrorAs(t, err, &bad)
}

func TestOpenInStaysInside(t *testing.T) {
	for name, swap := range map[string]func(t *testing.T, dir, outside string){
		"the file": func(t *testing.T, dir, outside string) {
			require.NoError(t, os.Remove(filepath.Join(dir, "d", "f")))
			require.NoError(t, os.Symlink(filepath.Join(outside, "f"), filepath.Join(dir, "d", "f")))
		},
		"the file, to another one inside": func(t *testing.T, dir, _ string) {
			put(t, filepath.Join(dir, "other"), "secret") // before: else it may get the inode of f
			require.NoError(t, os.Remove(filepath.Join(dir, "d", "f")))
			require.NoError(t, os.Symlink("../other", filepath.Join(dir, "d", "f")))
		},
		"its directory": func(t *testing.T, dir, outside string) {
			require.NoError(t, os.Rename(filepath.Join(dir, "d"), filepath.Join(dir, "moved")))
			require.NoError(t, os.Symlink(outside, filepath.Join(dir, "d")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir, outside := t.TempDir(), t.TempDir()
			put(t, filepath.Join(outside, "f"), "secret")
			require.NoError(t, os.Mkdir(filepath.Join(dir, "d"), 0o700))
			put(t, filepath.Join(dir, "d", "f"), "hello")
			root, err := os.OpenRoot(dir)
			require.NoError(t, err)
			defer root.Close()
			f, err := OpenIn(root, "d/f")
			require.NoError(t, err)
			b, err := io.ReadAll(f.Reader())
			require.NoError(t, err)
			require.Equal(t, "hello", string(b))
			require.NoError(t, f.Close())
			at(t, "open", func(string) { swap(t, dir, outside) })
			_, err = OpenIn(root, "d/f")
			require.Error(t, err)
			for _, bad := range []string{"../f", filepath.Join(outside, "f"), "d/../../f", "d"} {
				_, err = OpenIn(root, bad)
				require.Error(t, err, bad)
			}
		})
	}
}

func TestFileThatGrows(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	put(t, name, "hello")
	f, err := OpenRegular(name)
	require.NoError(t, err)
	defer f.Close()
	put(t, name, "hello, and more")
	_, err = io.ReadAll(f.Reader())
	require.ErrorIs(t, err, ErrGrew)
}
