package directory

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/blobstest"
	"github.com/skerry-sync/skerry/internal/disk"
)

// swapAt makes do happen when name is about to be opened, after it was looked at.
func swapAt(t *testing.T, name string, do func()) {
	var once sync.Once
	done := false
	t.Cleanup(disk.SetTestHook(func(step, at string) {
		if step == "open" && at == name {
			once.Do(func() { done = true; do() })
		}
	}))
	t.Cleanup(func() { require.True(t, done, "%s was never opened", name) })
}

// A link that takes the place of a file or directory during an import brings nothing in from
// outside.
func TestImportTakesNothingFromOutside(t *testing.T) {
	secret := []byte("a secret of this machine")
	for _, tt := range []struct {
		name, at string
		swap     func(t *testing.T, dir, outside string)
	}{
		{"a file becomes a link", "f", func(t *testing.T, dir, outside string) {
			require.NoError(t, os.Remove(filepath.Join(dir, "d", "f")))
			require.NoError(t, os.Symlink(filepath.Join(outside, "f"), filepath.Join(dir, "d", "f")))
		}},
		{"a directory becomes a link when it is listed", "d", func(t *testing.T, dir, outside string) {
			require.NoError(t, os.Rename(filepath.Join(dir, "d"), filepath.Join(dir, "moved")))
			require.NoError(t, os.Symlink(outside, filepath.Join(dir, "d")))
		}},
		{"a file becomes a pipe", "f", func(t *testing.T, dir, _ string) {
			require.NoError(t, os.Remove(filepath.Join(dir, "d", "f")))
			pipe(t, filepath.Join(dir, "d", "f"))
		}},
	} {
		for _, o := range []ImportOptions{{}, {Reference: true}, {Whole: true}} {
			t.Run(tt.name, func(t *testing.T) {
				s := blobstest.New(t)
				dir, outside := t.TempDir(), t.TempDir()
				plant(t, dir, map[string]string{"d/f": "hello", "g": "x"})
				require.NoError(t, os.WriteFile(filepath.Join(outside, "f"), secret, 0o600))
				swapAt(t, tt.at, func() { tt.swap(t, dir, outside) })
				_, err := Import(bg, s, dir, o)
				require.Error(t, err)
				has, err := s.Has(bg, blobs.HashOf(secret))
				require.NoError(t, err)
				require.False(t, has)
			})
		}
	}
}

// A directory on the way that becomes a link after it was listed brings nothing in either.
func TestImportLooksUpNamesInsideOnly(t *testing.T) {
	s := blobstest.New(t)
	dir, outside := t.TempDir(), t.TempDir()
	plant(t, dir, map[string]string{"a": "x", "d/f": "hello"})
	secret := []byte("a secret of this machine")
	require.NoError(t, os.WriteFile(filepath.Join(outside, "f"), secret, 0o600))
	root, err := os.OpenRoot(dir)
	require.NoError(t, err)
	defer root.Close()
	at := opener{root: root}
	require.NoError(t, os.Rename(filepath.Join(dir, "d"), filepath.Join(dir, "moved")))
	require.NoError(t, os.Symlink(outside, filepath.Join(dir, "d")))
	_, err = at.open("d/f")
	require.ErrorContains(t, err, "escapes")
	require.NoError(t, at.close())
	_, err = Import(bg, s, dir, ImportOptions{SkipUnsafeLinks: true})
	require.NoError(t, err)
	has, err := s.Has(bg, blobs.HashOf(secret))
	require.NoError(t, err)
	require.False(t, has)
}

// What appears under the name of an export while it is written stays, and the export leaves
// nothing.
func TestExportReplacesNothing(t *testing.T) {
	s := blobstest.New(t)
	in := t.TempDir()
	plant(t, in, map[string]string{"f": "hello", "d/g": "x"})
	info, err := Import(bg, s, in, ImportOptions{})
	require.NoError(t, err)
	d, err := Load(bg, s, info.Hash)
	require.NoError(t, err)
	for name, appear := range map[string]func(t *testing.T, out string){
		"a file": func(t *testing.T, out string) {
			require.NoError(t, os.WriteFile(out, []byte("theirs"), 0o600))
		},
		"a link": func(t *testing.T, out string) {
			require.NoError(t, os.Symlink("theirs", out))
		},
		"a directory with content": func(t *testing.T, out string) {
			plant(t, out, map[string]string{"x": "theirs"})
		},
	} {
		t.Run(name, func(t *testing.T) {
			top := t.TempDir()
			out := filepath.Join(top, "out")
			var before map[string]string
			from := func(
				ctx context.Context, f *os.File, h blobs.Hash, size uint64, progress func(uint64),
			) error {
				if before == nil {
					appear(t, out)
					before = snapshot(t, top)
					for p := range before { // without what is being written
						if strings.Contains(p, ".skerry-") {
							delete(before, p)
						}
					}
				}
				return FromStore(s)(ctx, f, h, size, progress)
			}
			one := Directory{Manifest: d.Manifest[:1], Sequence: d.Sequence}
			require.ErrorIs(t, one.ExportFrom(bg, from, out, nil), fs.ErrExist)
			require.Equal(t, before, snapshot(t, top))
		})
	}
}

// A link that takes the place of a directory that is being written leads nothing outside.
func TestExportWritesNothingOutside(t *testing.T) {
	s := blobstest.New(t)
	in := t.TempDir()
	plant(t, in, map[string]string{"a/f": "1", "b/c/f": "2"})
	info, err := Import(bg, s, in, ImportOptions{})
	require.NoError(t, err)
	d, err := Load(bg, s, info.Hash)
	require.NoError(t, err)
	for name, swap := range map[string]func(t *testing.T, tmp, outside string){
		"the whole": func(t *testing.T, tmp, outside string) {
			require.NoError(t, os.Rename(tmp, tmp+"-moved"))
			require.NoError(t, os.Symlink(outside, tmp))
		},
		"a directory that comes later": func(t *testing.T, tmp, outside string) {
			require.NoError(t, os.Symlink(outside, filepath.Join(tmp, "b")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			top, outside := t.TempDir(), t.TempDir()
			out := filepath.Join(top, "out")
			require.ErrorContains(t, disk.NewDir(out, func(root *os.Root) error {
				swap(t, filepath.Join(top, entries(t, top)[0]), outside)
				return d.write(bg, FromStore(s), root, newCounter(d.Manifest, nil))
			}), map[string]string{"the whole": "replaced", "a directory that comes later": "escapes"}[name])
			require.Empty(t, entries(t, outside))
			require.NoFileExists(t, out)
		})
	}
}

func entries(t *testing.T, dir string) (names []string) {
	t.Helper()
	all, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range all {
		names = append(names, e.Name())
	}
	return names
}
