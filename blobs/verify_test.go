package blobs

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs/files"
	"github.com/skerry-sync/skerry/internal/testkit"
)

// swap puts a directory in the place of a file, so that opening it fails although it is there, and
// returns what brings the file back.
func swap(t *testing.T, name string) (back func()) {
	t.Helper()
	require.NoError(t, os.Rename(name, name+".away"))
	require.NoError(t, os.Mkdir(name, 0o700))
	return func() {
		require.NoError(t, os.Remove(name))
		require.NoError(t, os.Rename(name+".away", name))
	}
}

// Content that cannot be opened is no damage: nothing is deleted for it, and it is whole again when
// the reason is gone. A file that is not there, or is too short, is damage.
func TestVerifyTellsDamageFromErrors(t *testing.T) {
	for name, size := range map[string]int{"packed": 5000, "own file": 2*SegmentSize + 100} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			data := testkit.Random(1, size)
			h := mustImport(t, s, data)
			// Files are kept open; a store that is opened anew has none open yet.
			fs, err := files.Open(s.files.Dir(), files.Options{})
			require.NoError(t, err)
			defer func() { require.NoError(t, fs.Close()) }()
			s, err = Open(bg, s.kv, fs)
			require.NoError(t, err)
			rec, err := s.lookUp(bg, h)
			require.NoError(t, err)
			file := filepath.Join(fs.Dir(), "packs", "00000001")
			if rec.hasFile() {
				files, err := filepath.Glob(filepath.Join(fs.Dir(), "own", "*", "*"))
				require.NoError(t, err)
				require.Len(t, files, 1)
				file = files[0]
			}

			back := swap(t, file)
			damage, err := s.Verify(bg, h, nil)
			require.ErrorContains(t, err, "verify blob "+h.Short())
			require.Empty(t, damage)
			back()
			damage, err = s.Verify(bg, h, nil)
			require.NoError(t, err)
			require.Empty(t, damage)

			// The store has the file open now; it reads on from there.
			require.NoError(t, os.Truncate(file, int64(size)/2))
			damage, err = s.Verify(bg, h, nil)
			require.NoError(t, err)
			require.NotEmpty(t, damage)
			require.NoError(t, s.Drop(bg, h, damage))
		})
	}
}

// A reader says that content has been lost as Check does, so that it can be fetched again.
func TestReadersTellLostContent(t *testing.T) {
	for name, size := range map[string]int{"packed": 5000, "own file": 2*SegmentSize + 100} {
		for way, harm := range map[string]func(string) error{
			"gone":    os.Remove,
			"cut off": func(name string) error { return os.Truncate(name, int64(size)/2) },
		} {
			t.Run(name+" "+way, func(t *testing.T) {
				s := newStore(t)
				data := testkit.Random(1, size)
				h := mustImport(t, s, data)
				fs, err := files.Open(s.files.Dir(), files.Options{}) // with no file open yet
				require.NoError(t, err)
				defer func() { require.NoError(t, fs.Close()) }()
				s, err = Open(bg, s.kv, fs)
				require.NoError(t, err)
				r, err := s.Reader(bg, h)
				require.NoError(t, err)
				for _, dir := range []string{"packs", "own/*"} {
					names, err := filepath.Glob(filepath.Join(fs.Dir(), dir, "*"))
					require.NoError(t, err)
					for _, name := range names {
						require.NoError(t, harm(name))
					}
				}
				damage, err := s.Verify(bg, h, nil)
				require.NoError(t, err)
				require.NotEmpty(t, damage)

				at := int64(size) - 1
				_, err = r.ReadAt(make([]byte, 1), at)
				damaged, is := errors.AsType[*DamageError](err)
				require.True(t, is, err)
				require.Equal(t, h, damaged.Hash)
				require.Equal(t, damage[len(damage)-1], damaged.Damage[0])
				_, err = s.ReadAll(bg, h, uint64(size))
				_, is = errors.AsType[*DamageError](err)
				require.True(t, is, err)
				err = s.Export(bg, h, filepath.Join(t.TempDir(), "file"), nil)
				_, is = errors.AsType[*DamageError](err)
				require.True(t, is, err)
			})
		}
	}
}

// A referenced file that cannot be read now is no damage either; one that has gone is.
func TestVerifyTellsDamageOfReferencesFromErrors(t *testing.T) {
	s := newStore(t)
	dir := filepath.Join(t.TempDir(), "dir")
	require.NoError(t, os.Mkdir(dir, 0o700))
	name := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(name, testkit.Random(1, 3000), 0o600))
	info, err := s.ImportFile(bg, name, ImportOptions{Reference: true})
	require.NoError(t, err)
	// A link to itself can be opened by nobody, whatever their rights.
	require.NoError(t, os.Rename(dir, dir+".away"))
	require.NoError(t, os.Symlink(dir, dir))
	damage, err := s.Verify(bg, info.Hash, nil)
	require.Error(t, err)
	require.Empty(t, damage)
	require.NoError(t, os.Remove(dir))
	damage, err = s.Verify(bg, info.Hash, nil)
	require.NoError(t, err)
	require.Len(t, damage, 1)
}

// A pack that cannot be read keeps only itself from being compacted.
func TestCollectGoesOnBesideAPackThatCannotBeRead(t *testing.T) {
	s := newStore(t)
	fill := func(seed uint64) (keep Hash) {
		for i := range uint64(8) {
			keep = mustImport(t, s, testkit.Random(seed+i, 3000))
		}
		require.NoError(t, s.Pin(bg, Pin{Name: keep.String(), Hash: keep}))
		s.files.Seal()
		return keep
	}
	fill(1)
	whole := fill(100)
	require.NoError(t, s.Sync(bg))
	fs, err := files.Open(s.files.Dir(), files.Options{})
	require.NoError(t, err)
	defer func() { require.NoError(t, fs.Close()) }()
	s, err = Open(bg, s.kv, fs)
	require.NoError(t, err)
	packs, err := fs.Packs()
	require.NoError(t, err)
	require.Len(t, packs, 2)
	back := swap(t, filepath.Join(fs.Dir(), "packs", "00000001"))
	got, err := s.Collect(bg, CollectOptions{})
	require.ErrorContains(t, err, "pack 00000001 cannot be read, and stays")
	require.Equal(t, 14, got.Removed)
	require.Equal(t, uint64(3000), got.Moved)
	_, err = s.ReadAll(bg, whole, 3000)
	require.NoError(t, err)
	require.NoFileExists(t, filepath.Join(fs.Dir(), "packs", "00000002"))
	back()
	got, err = s.Collect(bg, CollectOptions{})
	require.NoError(t, err)
	require.Equal(t, uint64(3000), got.Moved)
	for info, err := range s.List(bg) {
		require.NoError(t, err)
		damage, err := s.Verify(bg, info.Hash, nil)
		require.NoError(t, err)
		require.Empty(t, damage)
	}
	ctx, cancel := context.WithCancel(bg)
	cancel()
	_, err = s.Collect(ctx, CollectOptions{})
	require.True(t, errors.Is(err, context.Canceled))
}
