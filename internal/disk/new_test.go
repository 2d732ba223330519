package disk

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// at makes do happen at a step, once.
func at(t *testing.T, step string, do func(name string)) {
	done := false
	t.Cleanup(SetTestHook(func(s, name string) {
		if s == step && !done {
			done = true
			do(name)
		}
	}))
	t.Cleanup(func() { require.True(t, done, "the step %q was never reached", step) })
}

func put(t *testing.T, name, content string) {
	t.Helper()
	require.NoError(t, os.WriteFile(name, []byte(content), 0o600))
}

func content(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	require.NoError(t, err)
	return string(b)
}

func hello(f *os.File) error {
	_, err := f.WriteString("hello")
	return err
}

func helloDir(root *os.Root) error { return root.WriteFile("f", []byte("hello"), 0o600) }

// left are the names in a directory.
func left(t *testing.T, dir string) (names []string) {
	t.Helper()
	all, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range all {
		names = append(names, e.Name())
	}
	return names
}

func TestNewReplacesNothing(t *testing.T) {
	for _, tt := range []struct {
		name   string
		appear func(t *testing.T, name string)
		check  func(t *testing.T, name string)
	}{
		{"a file", func(t *testing.T, name string) { put(t, name, "theirs") },
			func(t *testing.T, name string) { require.Equal(t, "theirs", content(t, name)) }},
		{"an empty file", func(t *testing.T, name string) { put(t, name, "") },
			func(t *testing.T, name string) { require.Empty(t, content(t, name)) }},
		{"a link to nothing", func(t *testing.T, name string) {
			require.NoError(t, os.Symlink("nowhere", name))
		},
			func(t *testing.T, name string) {
				to, err := os.Readlink(name)
				require.NoError(t, err)
				require.Equal(t, "nowhere", to)
				require.NoFileExists(t, filepath.Join(filepath.Dir(name), "nowhere"))
			}},
		{"a directory with a file", func(t *testing.T, name string) {
			require.NoError(t, os.Mkdir(name, 0o700))
			put(t, filepath.Join(name, "x"), "theirs")
		}, func(t *testing.T, name string) {
			require.Equal(t, "theirs", content(t, filepath.Join(name, "x")))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			name := filepath.Join(dir, "out")
			at(t, "publish", func(string) { tt.appear(t, name) })
			require.ErrorIs(t, NewFile(name, 0o666, hello), fs.ErrExist)
			tt.check(t, name)
			require.Equal(t, []string{"out"}, left(t, dir), "nothing half-written stays")
		})
		t.Run(tt.name+" for a directory", func(t *testing.T) {
			dir := t.TempDir()
			name := filepath.Join(dir, "out")
			at(t, "publish", func(string) { tt.appear(t, name) })
			require.ErrorIs(t, NewDir(name, helloDir), fs.ErrExist)
			tt.check(t, name)
			require.Equal(t, []string{"out"}, left(t, dir), "nothing half-written stays")
		})
	}
}

func TestNew(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, NewFile(filepath.Join(dir, "f"), 0o640, hello))
	require.Equal(t, "hello", content(t, filepath.Join(dir, "f")))
	require.NoError(t, NewDir(filepath.Join(dir, "d"), helloDir))
	require.Equal(t, "hello", content(t, filepath.Join(dir, "d", "f")))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "empty"), 0o700))
	require.NoError(
		t, NewDir(filepath.Join(dir, "empty")+"/", helloDir), "an empty directory is filled",
	)
	require.Equal(t, "hello", content(t, filepath.Join(dir, "empty", "f")))
	require.Equal(t, []string{"d", "empty", "f"}, left(t, dir))
	require.ErrorIs(t, NewDir(filepath.Join(dir, "no", "d"), helloDir), fs.ErrNotExist)
	require.ErrorIs(t, NewDir(string(filepath.Separator), helloDir), fs.ErrExist)
}

// Cleaning up removes what this process created. Another thing that got the temporary name stays.
func TestCleanRemovesOnlyItsOwn(t *testing.T) {
	failed := errors.New("failed")
	for _, kind := range []string{"file", "directory", "link"} {
		for _, what := range []string{"file", "directory"} {
			t.Run(kind+" in place of a "+what, func(t *testing.T) {
				dir := t.TempDir()
				name, kept := filepath.Join(dir, "out"), filepath.Join(dir, "kept")
				require.NoError(t, os.Mkdir(kept, 0o700))
				put(t, filepath.Join(kept, "x"), "theirs")
				var tmp string
				at(t, "clean", func(n string) {
					tmp = n
					require.NoError(t, os.Rename(tmp, filepath.Join(dir, "moved")))
					switch kind {
					case "file":
						put(t, tmp, "theirs")
					case "directory":
						require.NoError(t, os.Rename(kept, tmp))
					case "link":
						require.NoError(t, os.Symlink(kept, tmp))
					}
				})
				if what == "file" {
					require.ErrorIs(t, NewFile(name, 0o666, func(*os.File) error { return failed }), failed)
				} else {
					require.ErrorIs(t, NewDir(name, func(*os.Root) error { return failed }), failed)
				}
				switch kind {
				case "file":
					require.Equal(t, "theirs", content(t, tmp))
				default:
					require.Equal(t, "theirs", content(t, filepath.Join(tmp, "x")))
				}
			})
		}
	}
	dir := t.TempDir()
	require.ErrorIs(t, NewDir(filepath.Join(dir, "out"), func(root *os.Root) error {
		require.NoError(t, root.MkdirAll("a/b", 0o700))
		return errors.Join(failed, root.Symlink("..", "a/up"))
	}), failed)
	require.Empty(t, left(t, dir))
}

// What is written into a directory stays in it, whatever its name comes to mean.
func TestNewDirStaysInItself(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	err := NewDir(filepath.Join(dir, "out"), func(root *os.Root) error {
		tmp := filepath.Join(dir, left(t, dir)[0])
		require.NoError(t, os.Rename(tmp, tmp+"-moved"))
		require.NoError(t, os.Symlink(outside, tmp))
		return helloDir(root)
	})
	require.ErrorContains(t, err, "replaced")
	require.Empty(t, left(t, outside))
	require.NoFileExists(t, filepath.Join(dir, "out"))
}

// An empty directory is filled, and stays the one that it is: whose current directory it is, or
// what is mounted there, sees what comes.
func TestNewDirFillsWhatIsThere(t *testing.T) {
	name := filepath.Join(t.TempDir(), "out")
	require.NoError(t, os.Mkdir(name, 0o700))
	before, err := os.Stat(name)
	require.NoError(t, err)
	t.Chdir(name)
	require.NoError(t, Vacant(name, true))
	require.NoError(t, NewDir(name, func(root *os.Root) error {
		require.NoError(t, root.Mkdir("sub", 0o700))
		return errors.Join(root.WriteFile("sub/g", nil, 0o600), root.Symlink("f", "link"), helloDir(root))
	}))
	after, err := os.Stat(name)
	require.NoError(t, err)
	require.True(t, os.SameFile(before, after))
	require.Equal(t, before.Mode(), after.Mode())
	require.Equal(t, []string{"f", "link", "sub"}, left(t, "."))
	require.ErrorIs(t, Vacant(name, true), fs.ErrExist)
	require.ErrorIs(t, NewDir(name, helloDir), fs.ErrExist)
	require.Equal(t, []string{"f", "link", "sub"}, left(t, "."))
	require.NoError(t, os.RemoveAll("sub"))
	require.ErrorIs(t, Vacant(name, false), fs.ErrExist)

	// What fails, or finds something there at the end, leaves nothing behind.
	failed := errors.New("failed")
	full := filepath.Join(t.TempDir(), "full")
	require.NoError(t, os.Mkdir(full, 0o700))
	require.ErrorIs(t, NewDir(full, func(root *os.Root) error {
		return errors.Join(helloDir(root), failed)
	}), failed)
	require.Empty(t, left(t, full))
	at(t, "publish", func(string) { put(t, filepath.Join(full, "f"), "theirs") })
	require.ErrorIs(t, NewDir(full, helloDir), fs.ErrExist)
	require.Equal(t, []string{"f"}, left(t, full))
	require.Equal(t, "theirs", content(t, filepath.Join(full, "f")))
}

// What a process that was killed has left behind is removed by the next one that writes there
// (syncthing #3677). What another one is writing is not, nor what is no file or directory.
func TestWhatAKilledProcessLeft(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "out")
	require.NoError(t, os.MkdirAll(name+".skerry-1/sub", 0o700))
	put(t, name+".skerry-1/sub/f", "half")
	require.NoError(t, NewFile(name, 0o600, func(f *os.File) error {
		require.Equal(t, []string{"out.skerry-1"}, left(t, dir))
		// Another one, at the same time.
		err := NewFile(name, 0o600, func(*os.File) error {
			require.Equal(t, []string{"out.skerry-1", "out.skerry-2"}, left(t, dir))
			return errors.New("failed")
		})
		require.Error(t, err)
		return hello(f)
	}))
	require.Equal(t, []string{"out"}, left(t, dir))

	fill := filepath.Join(dir, "fill")
	require.NoError(t, os.MkdirAll(filepath.Join(fill, ".skerry-1", "x"), 0o700))
	require.NoError(t, Vacant(fill, true), "only what was left behind is in it")
	require.Empty(t, left(t, fill))
	require.NoError(t, os.MkdirAll(filepath.Join(fill, ".skerry-1", "x"), 0o700))
	require.NoError(t, NewDir(fill, helloDir))
	require.Equal(t, []string{"f"}, left(t, fill))

	other := filepath.Join(dir, "other")
	require.NoError(t, os.Symlink(fill, other+".skerry-1"))
	require.NoError(t, NewDir(other, helloDir))
	require.Equal(t, []string{"fill", "other", "other.skerry-1", "out"}, left(t, dir))
	require.Equal(t, []string{"f"}, left(t, fill))
}

// Where nothing can be created, that is told before the work.
func TestVacantWhereNothingCanBeCreated(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, Vacant(filepath.Join(dir, "out"), true))
	require.Empty(t, left(t, dir))
	require.ErrorIs(t, Vacant(filepath.Join(dir, "no", "out"), true), fs.ErrNotExist)
	put(t, filepath.Join(dir, "file"), "x")
	require.ErrorIs(t, Vacant(filepath.Join(dir, "file"), true), fs.ErrExist)
	require.Error(t, Vacant(filepath.Join(dir, "file", "out"), true))
}
