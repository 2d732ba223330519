package sqlbackend_test

import (
	"database/sql"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/localfirst"
	"github.com/skerry-sync/skerry/localfirst/sqlbackend"
)

func changes(
	t *testing.T, b localfirst.ChangingBackend[row], token string,
) localfirst.Changes[row] {
	t.Helper()
	got, err := b.ChangesSince(t.Context(), token)
	require.NoError(t, err)
	return got
}

// Whatever statement the app uses, its change is noted.
func TestStatementsOfTheApp(t *testing.T) {
	db, tracked := newTracked(t)
	at := changes(t, tracked, "")
	require.True(t, at.All)
	for _, step := range []struct {
		query string
		here  map[string]row
		gone  []string
	}{
		{`INSERT INTO N ("order", "title", "group by") VALUES ('a', 'a', 1), ('b', 'b', 2)`,
			map[string]row{"a": {"a", 1}, "b": {"b", 2}}, nil},
		{`UPDATE N SET "title" = 'A' WHERE "order" = 'a'`, map[string]row{"a": {"A", 1}}, nil},
		{`UPDATE N SET "seen" = 1`, nil, nil}, // no column of a value
		{`UPDATE OR IGNORE N SET "title" = 'AA' WHERE "order" = 'a'`,
			map[string]row{"a": {"AA", 1}}, nil},
		{`UPDATE N SET "order" = 'c' WHERE "order" = 'b'`, map[string]row{"c": {"b", 2}},
			[]string{"b"}},
		{`INSERT OR IGNORE INTO N VALUES ('b', 'b', 0, 3), ('a', 'no', 0, 0)`,
			map[string]row{"b": {"b", 3}}, nil},
		{`INSERT OR REPLACE INTO N VALUES ('b', 'B', 0, 4)`, map[string]row{"b": {"B", 4}}, nil},
		{`INSERT INTO N VALUES ('b', 'B', 0, 5) ON CONFLICT DO UPDATE SET "group by" = 6`,
			map[string]row{"b": {"B", 6}}, nil},
		{`DELETE FROM N WHERE "order" = 'c'`, nil, []string{"c"}},
		{`DELETE FROM N WHERE "order" = 'c'`, nil, nil},
		{`BEGIN; DELETE FROM N; ROLLBACK`, nil, nil},
		{`DELETE FROM N`, nil, []string{"a", "b"}},
		{`INSERT INTO N VALUES ('a', 'again', 0, 1)`, map[string]row{"a": {"again", 1}}, nil},
	} {
		exec(t, db, replaceN(step.query))
		got := changes(t, tracked, at.Next)
		require.False(t, got.All, step.query)
		slices.Sort(got.Gone)
		require.Equal(t, step.gone, got.Gone, step.query)
		require.True(t, maps.Equal(step.here, got.Values), "%s: %v", step.query, got.Values)
		at = got
	}
}

func replaceN(query string) string {
	out := ""
	for i := range len(query) {
		if query[i] == 'N' && i > 0 && query[i-1] == ' ' && (i+1 == len(query) || query[i+1] == ' ' ||
			query[i+1] == ';') {
			out += `"my ""notes"""`
			continue
		}
		out += query[i : i+1]
	}
	return out
}

// The app is started anew; the changes since are known.
func TestTokenOutlivesTheProcess(t *testing.T) {
	file := filepath.Join(t.TempDir(), "app.db")
	db := open(t, file, "")
	exec(t, db, schema)
	table, err := sqlbackend.New(db, config(sqlbackend.SQLite()))
	require.NoError(t, err)
	tracked, err := table.Track(t.Context())
	require.NoError(t, err)
	require.NoError(t, tracked.Set(t.Context(), "a", value(1)))
	at := changes(t, tracked, "")
	require.NoError(t, db.Close())

	db = open(t, file, "")
	exec(t, db, replaceN(`INSERT INTO N VALUES ('b', 'while nobody looked', 0, 1)`))
	table, err = sqlbackend.New(db, config(sqlbackend.SQLite()))
	require.NoError(t, err)
	tracked, err = table.Track(t.Context())
	require.NoError(t, err)
	got := changes(t, tracked, at.Next)
	require.False(t, got.All)
	require.Equal(t, map[string]row{"b": {"while nobody looked", 1}}, got.Values)
}

// A database of yesterday does not know a token of today, though it has counted further since.
func TestRestoredBackup(t *testing.T) {
	db, tracked := newTracked(t)
	ctx := t.Context()
	for n := range 5 {
		require.NoError(t, tracked.Set(ctx, fmt.Sprint(n), value(n)))
	}
	old := changes(t, tracked, "")
	backup := filepath.Join(t.TempDir(), "backup.db")
	exec(t, db, `VACUUM INTO ?`, backup)
	require.NoError(t, tracked.Set(ctx, "1", value(100)))
	today := changes(t, tracked, old.Next)

	table, err := sqlbackend.New(open(t, backup, fast), config(sqlbackend.SQLite()))
	require.NoError(t, err)
	restored, err := table.Track(ctx)
	require.NoError(t, err)
	for n := range 5 {
		require.NoError(t, restored.Set(ctx, "2", value(200+n)))
	}
	got := changes(t, restored, today.Next)
	require.True(t, got.All)
	require.Equal(t, value(1), got.Values["1"])
	require.False(t, changes(t, restored, old.Next).All)
}

// An app that makes its table anew loses the triggers; what it changes then is not passed over.
func TestTableMadeAnew(t *testing.T) {
	db, tracked := newTracked(t)
	require.NoError(t, tracked.Set(t.Context(), "a", value(1)))
	at := changes(t, tracked, "")
	for _, anew := range []string{
		`ALTER TABLE N RENAME TO old; CREATE TABLE N ("order" TEXT PRIMARY KEY, "title", "group by");
			INSERT INTO N SELECT "order", 'anew', "group by" FROM old; DROP TABLE old`,
		`DROP TRIGGER "my ""notes""_skerry_update"; UPDATE N SET "title" = 'anew'`,
		`DROP TABLE "my ""notes""_skerry_changes"; DROP TRIGGER "my ""notes""_skerry_update"`,
	} {
		exec(t, db, replaceN(anew))
		got := changes(t, tracked, at.Next)
		require.True(t, got.All, anew)
		require.Equal(t, map[string]row{"a": {"anew", 1}}, got.Values)
		at = got
		exec(t, db, replaceN(`UPDATE N SET "group by" = 2`))
		got = changes(t, tracked, at.Next)
		require.False(t, got.All, anew)
		require.Equal(t, map[string]row{"a": {"anew", 2}}, got.Values)
		exec(t, db, replaceN(`UPDATE N SET "group by" = 1`))
		at = changes(t, tracked, got.Next)
	}
}

// An idle pass writes nothing.
func TestIdleWritesNothing(t *testing.T) {
	db, tracked := newTracked(t)
	require.NoError(t, tracked.Set(t.Context(), "a", value(1)))
	at := changes(t, tracked, "")
	watch := open(t, dbFile(t, db), "")
	watch.SetMaxOpenConns(1) // a connection sees what others have written
	version := func() (n int) {
		require.NoError(t, watch.QueryRowContext(t.Context(), `PRAGMA data_version`).Scan(&n))
		return n
	}
	before := version()
	for range 3 {
		require.Equal(t, at.Next, changes(t, tracked, at.Next).Next)
	}
	require.Equal(t, before, version())
	require.NoError(t, tracked.Set(t.Context(), "a", value(2)))
	require.NotEqual(t, before, version())
}

func dbFile(t *testing.T, db *sql.DB) (file string) {
	var seq int
	var name string
	row := db.QueryRowContext(t.Context(), `PRAGMA database_list`)
	require.NoError(t, row.Scan(&seq, &name, &file))
	return file
}

// BenchmarkChangesSince asks a table of 10,000 rows what has changed: nothing, ten rows, or all.
func BenchmarkChangesSince(b *testing.B) {
	_, tracked := newTracked(b)
	ctx := b.Context()
	for n := range 10_000 {
		require.NoError(b, tracked.Set(ctx, fmt.Sprintf("key %05d", n), value(n)))
	}
	at, err := tracked.ChangesSince(ctx, "")
	require.NoError(b, err)
	b.Run("idle", func(b *testing.B) {
		for b.Loop() {
			_, err := tracked.ChangesSince(ctx, at.Next)
			require.NoError(b, err)
		}
	})
	b.Run("10 changes", func(b *testing.B) {
		for b.Loop() {
			for n := range 10 {
				require.NoError(b, tracked.Set(ctx, fmt.Sprintf("key %05d", n), value(n)))
			}
			at, err = tracked.ChangesSince(ctx, at.Next)
			require.NoError(b, err)
		}
	})
	b.Run("snapshot", func(b *testing.B) {
		for b.Loop() {
			_, err := tracked.Snapshot(ctx)
			require.NoError(b, err)
		}
	})
}
