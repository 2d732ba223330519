package server

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/api"
)

// The names of what is left out of a directory are carried, not replaced (kopia #1764).
func TestNamesOfWhatIsLeftOut(t *testing.T) {
	require.Equal(t, []string{"plain", "hex:66ff", "hex:6865783a616263"},
		pathTexts([]string{"plain", "f\xff", "hex:abc"}))
}

// A directory that is named is verified with what it lists; a blob that lists nothing is itself.
func TestVerifyOfADirectory(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	for _, name := range []string{"one", "two"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600))
	}
	c, _ := open(t)
	var added []api.Added
	require.NoError(
		t,
		c.BlobAdd(ctx, api.AddRequest{Paths: []string{dir, filepath.Join(dir, "one")}},
			func(a api.Added) error { added = append(added, a); return nil }),
	)
	verify := func(hashes ...string) api.Verified {
		sum, err := c.BlobVerify(
			ctx,
			api.VerifyRequest{Hashes: hashes},
			func(api.Damage) error { return nil },
		)
		require.NoError(t, err)
		return sum
	}
	tree, one := added[0].Hash.String(), added[1].Hash.String()
	require.Equal(t, 4, verify(tree).Blobs, "the sequence, the manifest and two files")
	require.Equal(t, 4, verify(tree, one, tree).Blobs, "each once")
	require.Equal(t, 1, verify(one).Blobs)
	_, err := c.BlobRemove(ctx, api.HashRequest{Hash: one})
	require.NoError(t, err)
	sum := verify(tree)
	require.Equal(t, 3, sum.Blobs)
	require.Equal(t, 1, sum.Missing)
}
