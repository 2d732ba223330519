package embedded

import (
	"database/sql"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite"

	"github.com/skerry-sync/skerry/localfirst"
	"github.com/skerry-sync/skerry/localfirst/dirbackend"
	"github.com/skerry-sync/skerry/localfirst/sqlbackend"
)

// One app keeps its values in a table and another in a directory. Each writes as it likes: SQL
// statements here, a text editor there.
func TestTableAndDirectory(t *testing.T) {
	a, b := pair(t)
	ctx := t.Context()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "app.db"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	exec := func(query string, args ...any) {
		t.Helper()
		_, err := db.ExecContext(ctx, query, args...)
		require.NoError(t, err)
	}
	exec(`CREATE TABLE pages (name TEXT PRIMARY KEY, body TEXT NOT NULL)`)
	table, err := sqlbackend.New(db, sqlbackend.Config[string]{
		Dialect: sqlbackend.SQLite(), Table: "pages", Key: "name", Columns: []string{"body"},
		Scan: func(row sqlbackend.Row) (s string, err error) {
			err = row.Scan(&s)
			return s, err
		},
		Args: func(s string) ([]any, error) { return []any{s}, nil }, Equal: equal,
	})
	require.NoError(t, err)
	pages, err := table.Track(ctx)
	require.NoError(t, err)
	files := t.TempDir()
	dir, err := dirbackend.Open(dirbackend.Config[string]{
		Dir: files, Ext: ".md", Codec: localfirst.StringCodec(),
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, dir.Close()) })
	cfg := localfirst.CollectionConfig[string]{
		Codec: localfirst.StringCodec(),
		Merge: localfirst.FirstOf(localfirst.MergeText(), localfirst.PreferLocal[string]()),
	}
	cfg.Backend = pages
	_, err = localfirst.OpenCollection(a.ns, "pages", cfg)
	require.NoError(t, err)
	cfg.Backend = dir
	_, err = localfirst.OpenCollection(b.ns, "pages", cfg)
	require.NoError(t, err)
	write := func(key, content string) {
		t.Helper()
		require.NoError(t, os.WriteFile(filepath.Join(files, dir.Name(key)), []byte(content), 0o600))
	}
	become := func(want map[string]string) {
		t.Helper()
		end := time.Now().Add(waitTime)
		var one, two map[string]string
		for time.Now().Before(end) {
			a.sync()
			b.sync()
			one, err = pages.Snapshot(ctx)
			require.NoError(t, err)
			two, err = dir.Snapshot(ctx)
			require.NoError(t, err)
			if maps.Equal(one, want) && maps.Equal(two, want) {
				return
			}
			time.Sleep(tick)
		}
		require.Fail(t, fmt.Sprintf("want %v, got %v and %v", want, one, two))
	}

	require.NoError(t, dir.Want("Plan", "a/b"))
	require.NoError(t, pages.Want(ctx, "from a file"))
	exec(`INSERT INTO pages VALUES ('Plan', 'one' || char(10) || 'two' || char(10)), ('a/b', '')`)
	write("from a file", "text")
	become(map[string]string{"Plan": "one\ntwo\n", "a/b": "", "from a file": "text"})

	exec(`UPDATE pages SET body = 'zero' || char(10) || body WHERE name = 'Plan'`)
	write("Plan", "one\ntwo\nthree\n")
	become(map[string]string{"Plan": "zero\none\ntwo\nthree\n", "a/b": "", "from a file": "text"})

	exec(`DELETE FROM pages WHERE name = 'a/b'`)
	require.NoError(t, os.Remove(filepath.Join(files, dir.Name("from a file"))))
	become(map[string]string{"Plan": "zero\none\ntwo\nthree\n"})

	write("a/b", "again")
	become(map[string]string{"Plan": "zero\none\ntwo\nthree\n", "a/b": "again"})
}
