package dirbackend_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/skerry-sync/skerry/internal/disk"
	"github.com/skerry-sync/skerry/localfirst"
	"github.com/skerry-sync/skerry/localfirst/backendtest"
	"github.com/skerry-sync/skerry/localfirst/dirbackend"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func same[T comparable](a, b T) bool { return a == b }

func open[T any](t testing.TB, c dirbackend.Config[T]) *dirbackend.Dir[T] {
	d, err := dirbackend.Open(c)
	require.NoError(t, err)
	t.Cleanup(func() { _ = d.Close() }) // it may be closed already
	return d
}

func notes(t testing.TB) (*dirbackend.Dir[string], string) {
	dir := t.TempDir()
	return open(t, dirbackend.Config[string]{
		Dir: dir, Ext: ".txt", Codec: localfirst.StringCodec(),
	}), dir
}

func TestDir(t *testing.T) {
	t.Run("texts", func(t *testing.T) {
		backendtest.Run(t, backendtest.Config[string]{
			Value: func(n int) string { return strings.Repeat("x", n) }, Equal: same[string],
			Open: func(t testing.TB) localfirst.ValueBackend[string] {
				d, _ := notes(t)
				return d
			},
		})
	})
	t.Run("JSON without extension", func(t *testing.T) {
		backendtest.Run(t, backendtest.Config[map[string]int]{
			Value: func(n int) map[string]int { return map[string]int{"n": n} },
			Equal: func(a, b map[string]int) bool { return len(a) == len(b) && a["n"] == b["n"] },
			Open: func(t testing.TB) localfirst.ValueBackend[map[string]int] {
				return open(t, dirbackend.Config[map[string]int]{
					Dir: filepath.Join(t.TempDir(), "new", "dir"), Codec: localfirst.JSONCodec[map[string]int](),
				})
			},
		})
	})
}

func TestConfig(t *testing.T) {
	for _, ext := range []string{".", "txt", ".TXT", ".a b", "./a", ".a.b", ".abcdefghijklmnopq"} {
		_, err := dirbackend.Open(dirbackend.Config[string]{
			Dir: t.TempDir(), Ext: ext, Codec: localfirst.StringCodec(),
		})
		require.ErrorIs(t, err, dirbackend.ErrConfig, ext)
	}
	_, err := dirbackend.Open(dirbackend.Config[string]{Dir: t.TempDir()})
	require.ErrorIs(t, err, dirbackend.ErrConfig)
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err = dirbackend.Open(dirbackend.Config[string]{Dir: file, Codec: localfirst.StringCodec()})
	require.Error(t, err)
}

// Names must stay as they are: files are found again by them, on every system.
func TestNames(t *testing.T) {
	d, _ := notes(t)
	for key, want := range map[string]string{
		"shopping-list_1": "shopping-list_1.txt", "": "%.txt", "Zoë": "^zo%c3%ab.txt", "a.b": "a.b.txt",
		"../a": "%2e.%2fa.txt", ".": "%2e.txt", "a.": "a%2e.txt", "con": "%63on.txt",
		"com1.x": "%63om1.x.txt", "cond": "cond.txt", "a/b c": "a%2fb%20c.txt", "~^%": "%7e%5e%25.txt",
		strings.Repeat("a", 400): strings.Repeat("a", 194) + "~/" + strings.Repeat("a", 194) + "~/" +
			strings.Repeat("a", 12) + ".txt",
	} {
		require.Equal(t, want, d.Name(key))
	}
}

// Names of two keys differ, also where case is ignored, and are fit for every system.
func FuzzNames(f *testing.F) {
	for _, key := range backendtest.Keys() {
		f.Add(key, strings.ToUpper(key))
	}
	d, _ := notes(f)
	f.Fuzz(func(t *testing.T, a, b string) {
		name := d.Name(a)
		if a != b {
			require.NotEqual(t, strings.ToLower(name), strings.ToLower(d.Name(b)))
		}
		for part := range strings.SplitSeq(name, "/") {
			require.LessOrEqual(t, len(part), 255-17)
			require.Empty(t, strings.Trim(part, "abcdefghijklmnopqrstuvwxyz0123456789-_.^%~"))
			require.NotEqual(t, byte('.'), part[0])
			require.NotEqual(t, byte('.'), part[len(part)-1])
			stem, _, _ := strings.Cut(part, ".")
			require.NotContains(t, []string{"con", "prn", "aux", "nul", "com1", "lpt9"}, stem)
		}
	})
}

func keys(t *testing.T, d *dirbackend.Dir[string]) []string {
	t.Helper()
	all, err := d.Keys(t.Context())
	require.NoError(t, err)
	slices.Sort(all)
	return all
}

func snapshot(t *testing.T, d *dirbackend.Dir[string]) map[string]string {
	t.Helper()
	all, err := d.Snapshot(t.Context())
	require.NoError(t, err)
	return all
}

func write(t *testing.T, dir, name, content string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
}

// What other programs do to the files is seen, and what they have deleted stays in the scope.
func TestChangesOfOthers(t *testing.T) {
	d, dir := notes(t)
	require.NoError(t, d.Set(t.Context(), "a", "1"))
	write(t, dir, "a.txt", "edited")
	write(t, dir, "b.txt", "new")
	require.Equal(t, map[string]string{"a": "edited", "b": "new"}, snapshot(t, d))
	require.Equal(t, []string{"a", "b"}, keys(t, d))
	done, err := d.SetIfCurrent(t.Context(), "a", "1", true, "2")
	require.NoError(t, err)
	require.False(t, done)
	require.NoError(t, os.Remove(filepath.Join(dir, "b.txt")))
	require.Equal(t, map[string]string{"a": "edited"}, snapshot(t, d))
	require.Equal(t, []string{"a", "b"}, keys(t, d))
	require.NoError(t, d.Want("far", "a"))
	require.NoError(t, d.Close())

	c := dirbackend.Config[string]{
		Dir: dir, Ext: ".txt", Codec: localfirst.StringCodec(),
		Keys: func(context.Context) ([]string, error) { return []string{"asked for"}, nil },
	}
	d = open(t, c)
	require.Equal(t, []string{"a", "asked for", "b", "far"}, keys(t, d), "started anew")
	require.NoError(t, d.Forget("b", "a"))
	require.Equal(t, []string{"a", "asked for", "far"}, keys(t, d), "a is here")
	require.NoError(t, d.Delete(t.Context(), "a"))
	require.NoError(t, d.Delete(t.Context(), "a"), "it is gone")
	require.NoError(t, d.Close())
	d = open(t, c)
	require.Equal(t, []string{"a", "asked for", "far"}, keys(t, d))
	require.Empty(t, snapshot(t, d))
	require.Empty(t, d.Problems())

	errKeys := errors.New("no keys")
	c.Keys = func(context.Context) ([]string, error) { return nil, errKeys }
	_, err = open(t, c).Keys(t.Context())
	require.ErrorIs(t, err, errKeys)
}

// A file that cannot be read costs one pass and then itself alone. It is never taken for deleted.
func TestFileThatCannotBeRead(t *testing.T) {
	d, dir := notes(t)
	ctx := t.Context()
	require.NoError(t, d.Set(ctx, "a", "1"))
	require.NoError(t, d.Set(ctx, "b", "1"))
	write(t, dir, "a.txt", "\xff")
	require.Equal(t, []string{"a", "b"}, keys(t, d))
	_, err := d.Snapshot(ctx)
	require.ErrorContains(t, err, `key "a"`)
	require.Equal(t, []string{"b"}, keys(t, d))
	require.Equal(t, map[string]string{"b": "1"}, snapshot(t, d))
	require.Contains(t, d.Problems(), "a.txt")
	_, err = d.Get(ctx, "a")
	require.ErrorContains(t, err, "not UTF-8")
	_, err = d.SetIfCurrent(ctx, "a", "1", true, "2")
	require.ErrorContains(t, err, "not UTF-8")
	_, err = d.DeleteIfCurrent(ctx, "a", "1")
	require.ErrorContains(t, err, "not UTF-8")

	write(t, dir, "a.txt", "mended")
	require.Equal(t, map[string]string{"b": "1"}, snapshot(t, d), "it is not in the scope yet")
	require.Equal(t, []string{"a", "b"}, keys(t, d))
	require.Equal(t, map[string]string{"a": "mended", "b": "1"}, snapshot(t, d))
	require.Empty(t, d.Problems())

	require.Error(t, d.Set(ctx, "b", "\xff"))
	require.Equal(t, "1", snapshot(t, d)["b"])
}

// A file of more bytes than a value has is none; it is not read.
func TestFileThatIsTooLarge(t *testing.T) {
	d, dir := notes(t)
	write(t, dir, "a.txt", "")
	require.NoError(t, os.Truncate(filepath.Join(dir, "a.txt"), dirbackend.MaxSize+1))
	_, err := d.Get(t.Context(), "a")
	require.ErrorIs(t, err, dirbackend.ErrTooLarge)
}

// Links and what else is no value are left alone, and shown.
func TestLinksAreNotFollowed(t *testing.T) {
	d, dir := notes(t)
	ctx := t.Context()
	outside := filepath.Join(t.TempDir(), "outside.txt")
	require.NoError(t, os.WriteFile(outside, []byte("secret"), 0o600))
	long := strings.Repeat("x", 300)
	name := d.Name(long)
	first, _, _ := strings.Cut(name, "/")
	require.NoError(t, os.Symlink(outside, filepath.Join(dir, "a.txt")))
	require.NoError(t, os.Symlink("b.txt", filepath.Join(dir, "c.txt")))
	require.NoError(t, os.Symlink(filepath.Dir(outside), filepath.Join(dir, first)))
	write(t, dir, "b.txt", "b")
	write(t, dir, "Notes.txt", "its name is that of no key")
	write(t, dir, "b.md", "another program's")
	write(t, dir, ".hidden.txt", "a person's")
	require.NoError(t, os.Mkdir(filepath.Join(dir, "d.txt"), 0o700))

	require.Equal(t, []string{"b"}, keys(t, d))
	require.Equal(t, map[string]string{"b": "b"}, snapshot(t, d))
	var names []string
	for name := range d.Problems() {
		names = append(names, name)
	}
	slices.Sort(names)
	require.Equal(t, []string{"Notes.txt", "a.txt", "b.md", "c.txt", "d.txt", first}, names)
	var special *disk.NotRegularError
	for _, key := range []string{"a", "c", "d"} {
		_, err := d.Get(ctx, key)
		require.ErrorAs(t, err, &special, key)
		require.ErrorAs(t, d.Set(ctx, key, "1"), &special, key)
		require.ErrorAs(t, d.Delete(ctx, key), &special, key)
	}
	require.Error(t, d.Set(ctx, long, "1"))
	_, err := d.Get(ctx, long)
	require.Error(t, err)
	b, err := os.ReadFile(outside)
	require.NoError(t, err)
	require.Equal(t, "secret", string(b))
	all, err := os.ReadDir(filepath.Dir(outside))
	require.NoError(t, err)
	require.Len(t, all, 1)
}

// What a process that was killed has left is no value and in nobody's way; a link in its place is
// not followed.
func TestLeftBehind(t *testing.T) {
	d, dir := notes(t)
	ctx := t.Context()
	outside := filepath.Join(t.TempDir(), "outside.txt")
	require.NoError(t, os.WriteFile(outside, []byte("secret"), 0o600))
	write(t, dir, ".new", "half")
	require.Empty(t, snapshot(t, d))
	require.NoError(t, d.Set(ctx, "a", "1"))
	require.NoError(t, os.Symlink(outside, filepath.Join(dir, ".new")))
	require.NoError(t, d.Set(ctx, "a", "2"))
	require.Equal(t, map[string]string{"a": "2"}, snapshot(t, d))
	b, err := os.ReadFile(outside)
	require.NoError(t, err)
	require.Equal(t, "secret", string(b))
	_, err = os.Lstat(filepath.Join(dir, ".new"))
	require.ErrorIs(t, err, fs.ErrNotExist)

	// A line of the keys that was not written whole.
	require.NoError(t, d.Want("b"))
	require.NoError(t, d.Close())
	f, err := os.OpenFile(filepath.Join(dir, ".keys"), os.O_WRONLY|os.O_APPEND, 0)
	require.NoError(t, err)
	_, err = f.WriteString("no key/\nhal")
	require.NoError(t, errors.Join(err, f.Close()))
	c := dirbackend.Config[string]{Dir: dir, Ext: ".txt", Codec: localfirst.StringCodec()}
	d = open(t, c)
	require.Equal(t, []string{"a", "b"}, keys(t, d))
	require.NoError(t, d.Want("c"))
	require.NoError(t, d.Close())
	require.Equal(t, []string{"a", "b", "c"}, keys(t, open(t, c)))

	require.NoError(t, os.Remove(filepath.Join(dir, ".keys")))
	require.NoError(t, os.Symlink(outside, filepath.Join(dir, ".keys")))
	_, err = dirbackend.Open(c)
	var special *disk.NotRegularError
	require.ErrorAs(t, err, &special)
}

// A file keeps its mode, and long names leave no directories behind.
func TestModesAndDirectories(t *testing.T) {
	d, dir := notes(t)
	ctx := t.Context()
	require.NoError(t, d.Set(ctx, "a", "1"))
	require.NoError(t, os.Chmod(filepath.Join(dir, "a.txt"), 0o640))
	require.NoError(t, d.Set(ctx, "a", "2"))
	st, err := os.Stat(filepath.Join(dir, "a.txt"))
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o640), st.Mode())

	long := strings.Repeat("x", 500)
	for n := range 2 {
		require.NoError(t, d.Set(ctx, long+fmt.Sprint(n), "1"))
	}
	require.NoError(t, d.Delete(ctx, long+"0"))
	require.Equal(t, map[string]string{"a": "2", long + "1": "1"}, snapshot(t, d))
	require.NoError(t, d.Delete(ctx, long+"1"))
	all, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, all, 2, "a.txt and .keys")
}

func TestCancelled(t *testing.T) {
	d, _ := notes(t)
	require.NoError(t, d.Set(t.Context(), "a", "1"))
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := d.Snapshot(gone)
	require.ErrorIs(t, err, context.Canceled)
}
