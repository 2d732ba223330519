//go:build unix

package server

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/api"
	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/internal/disk"
)

// place is a directory with a file, a pipe and links, beside a secret.
func place(t *testing.T) (dir, secret string) {
	t.Helper()
	top := t.TempDir()
	dir, secret = filepath.Join(top, "in"), filepath.Join(top, "secret")
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "sub"), 0o700))
	require.NoError(t, os.WriteFile(secret, []byte("a secret"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "f"), []byte("hello"), 0o600))
	require.NoError(t, os.Symlink("../f", filepath.Join(dir, "sub", "inside")))
	require.NoError(t, os.Symlink(secret, filepath.Join(dir, "absolute")))
	require.NoError(t, os.Symlink("../secret", filepath.Join(dir, "up")))
	require.NoError(t, os.Symlink("..", filepath.Join(dir, "parent")))
	require.NoError(t, syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600))
	return dir, secret
}

// An import is somebody else's text: the files that it names are those beside it, and no others.
func TestImportReadsOnlyFilesBesideIt(t *testing.T) {
	c, n := open(t)
	ctx := t.Context()
	_, err := n.CreateReplica(ctx, "r", false)
	require.NoError(t, err)
	dir, secret := place(t)
	for file, says := range map[string]string{
		secret: "--files-from", "../secret": "--files-from", "sub/../../secret": "--files-from",
		"absolute": "--files-from", "up": "--files-from",
		"parent/secret": "--files-from", "pipe": "a pipe", "sub": "a directory", "none": "no such file",
	} {
		_, err := c.ImportItems(
			ctx, "r", "", dir,
			strings.NewReader("{\"key\":\"a\",\"value\":\"1\"}\n\n{\"key\":\"b\",\"file\":\""+file+"\"}"),
		)
		require.ErrorContains(t, err, "line 3", file)
		require.ErrorContains(t, err, file)
		require.ErrorContains(t, err, says, file)
	}
	has, err := n.Blobs().Has(ctx, blobs.HashOf([]byte("a secret")))
	require.NoError(t, err)
	require.False(t, has)
	sum, err := c.ImportItems(
		ctx, "r", "", dir, strings.NewReader(`{"key":"b","file":"f"} {"key":"c","file":"sub/inside"}`),
	)
	require.NoError(t, err)
	require.Equal(t, 2, sum.Imported)
	_, err = c.ImportItems(
		ctx, "r", "", filepath.Dir(dir), strings.NewReader(`{"key":"s","file":"secret"}`),
	)
	require.NoError(t, err, "another directory, named by who runs the import")
}

// Pipes and devices are refused by name: reading them may never begin, or never end.
func TestSpecialFilesAreRefused(t *testing.T) {
	c, n := open(t)
	ctx := t.Context()
	_, err := n.CreateReplica(ctx, "r", false)
	require.NoError(t, err)
	dir, _ := place(t)
	for _, name := range []string{filepath.Join(dir, "pipe"), "/dev/zero"} {
		for _, req := range []api.AddRequest{{}, {NoCopy: true}, {Chunked: true}, {Whole: true}} {
			req.Paths = []string{name}
			var e *api.Error
			require.ErrorAs(t, c.BlobAdd(ctx, req, func(api.Added) error { return nil }), &e)
			require.Equal(t, api.Usage, e.Kind)
			require.Contains(t, e.Message, name)
		}
		_, err = c.Share(ctx, api.AddRequest{Paths: []string{name}})
		require.ErrorContains(t, err, "not a regular file")
		_, err = c.ReplicaSet(ctx, api.SetRequest{Name: "r", Key: api.Key("k"), File: name})
		require.ErrorContains(t, err, "not a regular file")
		_, err = c.AssetAdd(ctx, api.AddAssetRequest{Project: "r", File: name})
		require.ErrorContains(t, err, "not a regular file")
	}
}

// A file that was added without a copy and has become a pipe is a fault of that blob: reading it
// fails, checking finds it, and the node can still close.
func TestReferencedFileThatBecomesAPipe(t *testing.T) {
	c, _ := open(t)
	ctx := t.Context()
	name := filepath.Join(t.TempDir(), "f")
	require.NoError(t, os.WriteFile(name, bytes.Repeat([]byte("x"), 100_000), 0o600))
	var hash string
	require.NoError(
		t, c.BlobAdd(ctx, api.AddRequest{Paths: []string{name}, NoCopy: true}, func(x api.Added) error {
			hash = x.Hash.String()
			return nil
		}),
	)
	require.NoError(t, os.Remove(name))
	require.NoError(t, syscall.Mkfifo(name, 0o600))
	var out bytes.Buffer
	require.ErrorContains(t, c.ReadBlob(ctx, hash, 0, -1, false, &out), name)
	require.Empty(t, out.Bytes())
	sum, err := c.BlobVerify(ctx, api.VerifyRequest{}, func(api.Damage) error { return nil })
	require.NoError(t, err)
	require.Equal(t, 1, sum.Damaged)
}

// What appears at the path of an export while content is fetched stays as it is.
func TestGetReplacesNothing(t *testing.T) {
	c, n := open(t)
	ctx := t.Context()
	info, err := n.Blobs().ImportBytes(ctx, []byte("hello"))
	require.NoError(t, err)
	out := filepath.Join(t.TempDir(), "out")
	defer disk.SetTestHook(func(step, name string) {
		if step == "publish" {
			require.NoError(t, os.WriteFile(name, []byte("theirs"), 0o600))
		}
	})()
	for _, op := range []string{"get", "blob/export"} {
		_ = os.Remove(out) // for the second time
		if op == "get" {
			_, err = c.Get(ctx, api.GetRequest{What: info.Hash.String(), Path: out})
		} else {
			_, err = c.BlobExport(ctx, api.ExportRequest{Hash: info.Hash.String(), Path: out})
		}
		require.ErrorContains(t, err, "exists", op)
		b, err := os.ReadFile(out)
		require.NoError(t, err)
		require.Equal(t, "theirs", string(b), op)
	}
}
