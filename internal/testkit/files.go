package testkit

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// FilesOf returns the files below dir that hold what, and where.
func FilesOf(t *testing.T, dir string, what []byte) map[string]int {
	t.Helper()
	found := map[string]int{}
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(name)
		if i := bytes.Index(b, what); err == nil && i >= 0 {
			found[name] = i
		}
		return err
	})
	require.NoError(t, err)
	return found
}

// FileOf returns the one content file below dir that holds what, and where.
func FileOf(t *testing.T, dir string, what []byte) (name string, at int) {
	t.Helper()
	found := FilesOf(t, dir, what)
	require.Len(t, found, 1)
	for name, at = range found {
	}
	return name, at
}

// FlipIn changes one byte of what lies in a content file below dir.
func FlipIn(t *testing.T, dir string, what []byte, at int) {
	t.Helper()
	name, i := FileOf(t, dir, what)
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	require.NoError(t, err)
	defer func() { require.NoError(t, f.Close()) }()
	b := make([]byte, 1)
	_, err = f.ReadAt(b, int64(i+at))
	require.NoError(t, err)
	b[0] ^= 1
	_, err = f.WriteAt(b, int64(i+at))
	require.NoError(t, err)
}
