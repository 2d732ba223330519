package directory

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/blobstest"
	"github.com/skerry-sync/skerry/blobs/chunked"
)

func TestGather(t *testing.T) {
	s := blobstest.New(t)
	named := func(path string, whole bool, parts ...string) (n Named) {
		n.Path, n.Whole = path, whole
		for _, p := range parts {
			info, err := s.ImportBytes(t.Context(), []byte(p))
			require.NoError(t, err)
			n.Content.Hashes = append(n.Content.Hashes, info.Hash)
			n.Content.Sizes = append(n.Content.Sizes, info.Size)
		}
		return n
	}
	d, hidden, err := Gather([]Named{
		named("z", true, "last"), named("a/b/c", false, "one", "two"), named("a/b", true, "hidden"),
		named("a-b", false, "one chunk"), named("a", true, "hidden too"),
	})
	require.NoError(t, err)
	require.Equal(t, []string{"a", "a/b"}, hidden)
	require.EqualValues(t, 19, d.Size())
	out := filepath.Join(t.TempDir(), "out")
	require.NoError(t, d.ExportFrom(t.Context(), FromStore(s), out, nil))
	for name, want := range map[string]string{
		"z": "last", "a/b/c": "onetwo", "a-b": "one chunk",
	} {
		got, err := os.ReadFile(filepath.Join(out, filepath.FromSlash(name)))
		require.NoError(t, err)
		require.Equal(t, want, string(got))
	}

	for _, wrong := range [][]Named{
		{{Path: "../x"}}, {{Path: "x", Whole: true, Content: one()}, {Path: "x", Content: one()}},
	} {
		_, _, err = Gather(wrong)
		require.Error(t, err)
	}
}

func one() chunked.Chunks {
	return chunked.Chunks{Hashes: []blobs.Hash{{1}}, Sizes: []uint64{1}}
}

func TestCheckFile(t *testing.T) {
	long := strings.Repeat("x", maxName)
	for path, ok := range map[string]bool{
		"a/b": true, long: true, long + "/" + long: true,
		long + "y": false, "a/" + long + "y/b": false, "/a": false, "a/../b": false, "": false,
	} {
		require.Equal(t, ok, CheckFile(path) == nil, path)
	}
}
