package disk

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// Names as long as the system takes can be created.
func TestLongNames(t *testing.T) {
	for _, name := range []string{
		strings.Repeat("x", 255), strings.Repeat("日", 85), strings.Repeat("é", 120) + "x",
	} {
		at := filepath.Join(t.TempDir(), name)
		require.NoError(t, NewFile(at, 0o600, func(f *os.File) error {
			_, err := f.WriteString("content")
			return err
		}))
		b, err := os.ReadFile(at)
		require.NoError(t, err)
		require.Equal(t, "content", string(b))
		require.True(t, utf8.ValidString(shorter(name)))
		dir := filepath.Join(t.TempDir(), name)
		require.NoError(t, NewDir(dir, func(*os.Root) error { return nil }))
		require.DirExists(t, dir)
	}
}
