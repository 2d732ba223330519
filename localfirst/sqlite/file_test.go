package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/internal/kind"
	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/localfirst"
)

func record(key, value string) localfirst.Record {
	return localfirst.Record{
		Name:  localfirst.Name{Kind: localfirst.ItemRecord, Namespace: "ns", Collection: "c", Key: key},
		Value: []byte(value),
	}
}

// write makes a store with some records in it.
func write(t *testing.T, path string, n int) {
	s, err := Open(path)
	require.NoError(t, err)
	for i := range n {
		r := record(fmt.Sprintf("%05d", i), string(testkit.Random(i, 300)))
		require.NoError(t, s.Apply(t.Context(), []localfirst.Record{r}))
	}
	require.NoError(t, s.Close())
}

// Each connection brings what it commits to the disk, whichever it is.
func TestDurable(t *testing.T) {
	s, err := Open(filepath.Join(t.TempDir(), "store"))
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	for range 5 {
		c, err := s.db.Conn(t.Context())
		require.NoError(t, err)
		defer func() { require.NoError(t, c.Close()) }()
		for pragma, want := range map[string]string{
			"synchronous": "2", "fullfsync": "1", "checkpoint_fullfsync": "1", "journal_mode": "wal",
		} {
			var got string
			require.NoError(t, c.QueryRowContext(t.Context(), "PRAGMA "+pragma).Scan(&got))
			require.Equal(t, want, got, pragma)
		}
	}
}

// Whatever a path looks like, the store is there, and in no other file.
func TestPaths(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	var want []string
	for i, name := range []string{
		"plain", "a b", "what?mode=memory", "c#d", "per%41cent", "ünï", "'quoted'", ":memory:",
		"file:x",
	} {
		if runtime.GOOS == "windows" && i > 1 {
			break
		}
		write(t, name, 1)
		want = append(want, name, name+lockSuffix)
	}
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	var got []string
	for _, f := range files {
		got = append(got, f.Name())
	}
	require.ElementsMatch(t, want, got)
}

// Nobody else can read any of the files, also if others could before.
func TestModes(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("it has no such modes")
	}
	path := filepath.Join(t.TempDir(), "store")
	for range 2 {
		s, err := Open(path)
		require.NoError(t, err)
		require.NoError(t, s.Apply(t.Context(), []localfirst.Record{record("k", "v")}))
		for _, suffix := range append([]string{"", lockSuffix}, suffixes...) {
			info, err := os.Stat(path + suffix)
			require.NoError(t, err)
			require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), suffix)
		}
		require.NoError(t, s.Close())
		require.NoError(t, os.Chmod(path, 0o644))
	}
}

func refuses(t *testing.T, path string, want error) {
	t.Helper()
	before, err := os.ReadFile(path)
	require.NoError(t, err)
	_, err = Open(path)
	require.ErrorIs(t, err, want)
	require.Contains(t, err.Error(), path)
	after, err := os.ReadFile(path)
	require.NoError(t, err)
	require.True(t, bytes.Equal(before, after), "it has been written to")
}

// What others have written, and newer programs, is refused and left as it is.
func TestNotItsOwn(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "text")
	require.NoError(t, os.WriteFile(text, []byte("notes of a person, of more than 16 bytes"), 0o600))
	refuses(t, text, ErrNoStore)
	require.NoError(t, os.WriteFile(text, []byte("short"), 0o600))
	refuses(t, text, ErrNoStore)

	exec := func(path string, all ...string) {
		where, err := source(path)
		require.NoError(t, err)
		db, err := sql.Open("sqlite", where)
		require.NoError(t, err)
		for _, text := range all {
			_, err = db.Exec(text)
			require.NoError(t, err)
		}
		require.NoError(t, db.Close())
	}
	foreign := filepath.Join(dir, "foreign")
	exec(foreign, "CREATE TABLE notes (x)")
	refuses(t, foreign, ErrNoStore)
	exec(foreign, "DROP TABLE notes", "PRAGMA application_id = 7")
	refuses(t, foreign, ErrNoStore)

	newer := filepath.Join(dir, "newer")
	write(t, newer, 1)
	exec(newer, fmt.Sprintf("PRAGMA user_version = %d", format+1))
	refuses(t, newer, ErrNewer)
	exec(newer, fmt.Sprintf("PRAGMA user_version = %d", format))
	write(t, newer, 1)

	_, err := Open(dir)
	require.Error(t, err, "it is a directory")
	empty := filepath.Join(dir, "empty") // what a death leaves right at the start
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	write(t, empty, 1)
}

func readAll(ctx context.Context, s *Store, want map[string]string) error {
	n := 0
	for r, err := range s.Scan(ctx, localfirst.ItemRecord, "ns", "c") {
		if err != nil {
			return err
		}
		if want[r.Key] != string(r.Value) {
			return fmt.Errorf("a wrong value of %q", r.Key)
		}
		n++
	}
	for key, value := range want {
		b, err := s.Get(ctx, record(key, "").Name)
		if err != nil {
			return err
		}
		if string(b) != value {
			return fmt.Errorf("a wrong value of %q", key)
		}
	}
	if n != len(want) {
		return fmt.Errorf("%d records, not %d", n, len(want))
	}
	return nil
}

// Whichever byte of the file is wrong, wrong values are never read for right ones: the store says
// that it is damaged. At worst a record cannot be found any more, if its name is damaged, which
// is as if it had never been written.
func TestDamaged(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "store")
	const n = 100
	write(t, path, n)
	want := map[string]string{}
	for i := range n {
		want[fmt.Sprintf("%05d", i)] = string(testkit.Random(i, 300))
	}
	good, err := os.ReadFile(path)
	require.NoError(t, err)
	noticed, tried := 0, 0
	var places []int
	for at := 0; at < len(good); at += testkit.Few(397, 4001) {
		places = append(places, at)
	}
	// What the tables are stands at the end of the first page.
	names := bytes.Index(good, []byte("CREATE TABLE record"))
	require.Positive(t, names)
	for at := range testkit.Few(300, 20) {
		places = append(places, names+at)
	}
	for _, at := range places {
		tried++
		bad := bytes.Clone(good)
		bad[at] ^= 0x5a
		require.NoError(t, os.WriteFile(path, bad, 0o600))
		s, err := Open(path)
		if err == nil {
			err = readAll(t.Context(), s, want)
			require.NoError(t, s.Close())
		}
		if err != nil {
			noticed++
			named := []kind.Kind{kind.Verification, kind.Usage, kind.Conflict, kind.NotFound}
			require.Contains(t, named, kind.Of(err), "byte %d: %v", at, err)
		}
	}
	require.Greater(t, noticed, tried/3, "pages have room that holds nothing")

	require.NoError(t, os.WriteFile(path, good[:len(good)/2], 0o600)) // cut short
	s, err := Open(path)
	if err == nil {
		err = readAll(t.Context(), s, want)
		require.NoError(t, s.Close())
	}
	require.ErrorIs(t, err, ErrDamaged)

	to, err := SetAside(path)
	require.NoError(t, err)
	b, err := os.ReadFile(to)
	require.NoError(t, err)
	require.Equal(t, good[:len(good)/2], b)
	write(t, path, 1)
	again, err := SetAside(path)
	require.NoError(t, err)
	require.NotEqual(t, to, again)
	_, err = os.Stat(path)
	require.ErrorIs(t, err, os.ErrNotExist)
}

// What is open is neither opened again nor set aside.
func TestInUse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	s, err := Open(path)
	require.NoError(t, err)
	_, err = Open(path)
	require.ErrorIs(t, err, ErrInUse)
	_, err = SetAside(path)
	require.ErrorIs(t, err, ErrInUse)
	require.NoError(t, s.Close())
	write(t, path, 1)
}
