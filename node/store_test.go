package node_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/node"
)

// A directory with the Badger database of before the first release is refused, and nothing begins
// beside it.
func TestDirectoryOfBeforeTheFirstRelease(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "store"), 0o700))
	_, err := node.Open(context.Background(), node.Config{Dir: dir})
	var old *kv.OldFormatError
	require.ErrorAs(t, err, &old)
	require.ErrorContains(t, err, "export")
	require.NoDirExists(t, filepath.Join(dir, "kv"))
}
