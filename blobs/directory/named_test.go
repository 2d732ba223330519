package directory

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// An error about something in a directory names it from the top of that.
func TestErrorsNameThePathInTheDirectory(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "sub", "deep"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "sub", "deep", "file"), []byte("x"), 0o600))
	root, err := os.OpenRoot(dir)
	require.NoError(t, err)
	m, _, err := scan(t.Context(), root, ImportOptions{})
	require.NoError(t, err)
	require.NoError(t, os.Remove(filepath.Join(dir, "sub", "deep", "file"))) // since it was listed
	im := importer{root: root, contents: nil, counter: newCounter(m, nil)}
	at := opener{root: root}
	_, err = im.file(t.Context(), &m[0], &at, nil, nil)
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorContains(t, err, "sub/deep/file:")
	require.NoError(t, at.close())
	require.NoError(t, root.Close())
}
