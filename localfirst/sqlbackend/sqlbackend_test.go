package sqlbackend_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	_ "modernc.org/sqlite"

	"github.com/skerry-sync/skerry/localfirst"
	"github.com/skerry-sync/skerry/localfirst/backendtest"
	"github.com/skerry-sync/skerry/localfirst/sqlbackend"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type row struct {
	Title string
	Stars int
}

func value(n int) row { return row{fmt.Sprint("title ", n), n} }

func equal(a, b row) bool { return a == b }

func config(d sqlbackend.Dialect) sqlbackend.Config[row] {
	return sqlbackend.Config[row]{
		Dialect: d, Table: `my "notes"`, Key: "order", Columns: []string{"title", "group by"},
		Scan: func(r sqlbackend.Row) (v row, err error) {
			err = r.Scan(&v.Title, &v.Stars)
			return v, err
		},
		Args:  func(v row) ([]any, error) { return []any{v.Title, v.Stars}, nil },
		Equal: equal,
	}
}

// fast waits for no disk.
const fast = "?_pragma=synchronous(off)"

const schema = `CREATE TABLE "my ""notes""" ("order" TEXT PRIMARY KEY, "title" TEXT NOT NULL,
	"seen" INTEGER NOT NULL DEFAULT 0, "group by" INTEGER)`

// open opens a database as an app may that knows little of SQLite: nothing waits for a lock.
func open(t testing.TB, file, options string) *sql.DB {
	db, err := sql.Open("sqlite", "file:"+file+options)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

func newTable(
	t testing.TB, options string, d sqlbackend.Dialect,
) (*sql.DB, *sqlbackend.Table[row]) {
	db := open(t, filepath.Join(t.TempDir(), "app.db"), options)
	exec(t, db, schema)
	table, err := sqlbackend.New(db, config(d))
	require.NoError(t, err)
	return db, table
}

func newTracked(t testing.TB) (*sql.DB, *sqlbackend.Tracked[row]) {
	db, table := newTable(t, fast, sqlbackend.SQLite())
	tracked, err := table.Track(t.Context())
	require.NoError(t, err)
	return db, tracked
}

func exec(t testing.TB, db *sql.DB, query string, args ...any) {
	t.Helper()
	_, err := db.ExecContext(t.Context(), query, args...)
	require.NoError(t, err)
}

func TestTable(t *testing.T) {
	for _, options := range []string{
		fast, "?_pragma=journal_mode(wal)&_pragma=busy_timeout(5000)&_pragma=synchronous(off)",
	} {
		t.Run("table"+options, func(t *testing.T) {
			backendtest.Run(t, backendtest.Config[row]{
				Value: value, Equal: equal, Open: func(t testing.TB) localfirst.ValueBackend[row] {
					_, table := newTable(t, options, sqlbackend.SQLite())
					return table
				},
			})
		})
	}
	t.Run("tracked", func(t *testing.T) {
		backendtest.Run(t, backendtest.Config[row]{
			Value: value, Equal: equal, Open: func(t testing.TB) localfirst.ValueBackend[row] {
				_, tracked := newTracked(t)
				return tracked
			},
		})
	})
	t.Run("another dialect", func(t *testing.T) {
		d := sqlbackend.Dialect{
			Begin:       "BEGIN EXCLUSIVE",
			Placeholder: func(n int) string { return fmt.Sprintf("$%d", n) },
			Quote:       func(name string) string { return "[" + name + "]" },
			Busy:        sqlbackend.SQLite().Busy,
		}
		backendtest.Run(t, backendtest.Config[row]{
			Value: value, Equal: equal, Open: func(t testing.TB) localfirst.ValueBackend[row] {
				_, table := newTable(t, fast, d)
				return table
			},
		})
		_, table := newTable(t, fast, d)
		_, err := table.Track(t.Context())
		require.ErrorIs(t, err, sqlbackend.ErrNoTracking)
	})
}

func TestConfig(t *testing.T) {
	for _, spoil := range []func(c *sqlbackend.Config[row]){
		func(c *sqlbackend.Config[row]) { c.Table = "" },
		func(c *sqlbackend.Config[row]) { c.Key = "" },
		func(c *sqlbackend.Config[row]) { c.Columns = nil },
		func(c *sqlbackend.Config[row]) { c.Scan = nil },
		func(c *sqlbackend.Config[row]) { c.Args = nil },
		func(c *sqlbackend.Config[row]) { c.Equal = nil },
		func(c *sqlbackend.Config[row]) { c.Dialect = sqlbackend.Dialect{} },
	} {
		c := config(sqlbackend.SQLite())
		spoil(&c)
		_, err := sqlbackend.New[row](nil, c)
		require.ErrorIs(t, err, sqlbackend.ErrConfig)
	}
}

// What the app's functions do wrong is an error, and nothing is written.
func TestFaultsOfTheApp(t *testing.T) {
	db, table := newTable(t, fast, sqlbackend.SQLite())
	ctx := t.Context()
	require.NoError(t, table.Set(ctx, "a", value(1)))
	exec(t, db, `INSERT INTO "my ""notes""" VALUES ('bad', 'x', 0, 'no number')`)
	_, err := table.Snapshot(ctx)
	require.ErrorContains(t, err, `key "bad"`)
	_, err = table.Get(ctx, "bad")
	require.ErrorContains(t, err, `key "bad"`)
	require.NotErrorIs(t, err, localfirst.ErrNotFound)

	c := config(sqlbackend.SQLite())
	c.Scan = func(sqlbackend.Row) (row, error) { return row{}, nil }
	table, err = sqlbackend.New(db, c)
	require.NoError(t, err)
	_, err = table.Get(ctx, "a")
	require.ErrorContains(t, err, "has not scanned")
	c = config(sqlbackend.SQLite())
	c.Args = func(row) ([]any, error) { return []any{"title"}, nil }
	table, err = sqlbackend.New(db, c)
	require.NoError(t, err)
	require.ErrorIs(t, table.Set(ctx, "a", value(2)), sqlbackend.ErrConfig)
	errArgs := errors.New("it cannot be written")
	c.Args = func(row) ([]any, error) { return nil, errArgs }
	table, err = sqlbackend.New(db, c)
	require.NoError(t, err)
	require.ErrorIs(t, table.Set(ctx, "a", value(2)), errArgs)
	c = config(sqlbackend.SQLite())
	c.Equal = func(a, b row) bool { panic("equal") }
	table, err = sqlbackend.New(db, c)
	require.NoError(t, err)
	require.Panics(t, func() { _, _ = table.SetIfCurrent(ctx, "a", value(1), true, value(2)) })
	got, err := table.Get(ctx, "a")
	require.NoError(t, err)
	require.Equal(t, value(1), got)
	require.NoError(t, table.Set(ctx, "a", value(3)), "no transaction is left")
}

// A constraint of the app costs one value; a transaction that was cancelled leaves nothing.
func TestFailedWritesLeaveNothing(t *testing.T) {
	db, table := newTable(t, fast, sqlbackend.SQLite())
	ctx := t.Context()
	exec(t, db, `CREATE UNIQUE INDEX one ON "my ""notes""" ("title")`)
	require.NoError(t, table.Set(ctx, "a", value(1)))
	require.Error(t, table.Set(ctx, "b", value(1)))
	done, err := table.SetIfCurrent(ctx, "b", row{}, false, value(1))
	require.Error(t, err)
	require.False(t, done)
	gone, cancel := context.WithCancel(ctx)
	cancel()
	require.ErrorIs(t, table.Set(gone, "c", value(3)), context.Canceled)
	require.NoError(t, table.Set(ctx, "d", value(4)))
	all, err := table.Snapshot(ctx)
	require.NoError(t, err)
	require.Equal(t, map[string]row{"a": value(1), "d": value(4)}, all)
}

// The app holds the database for longer than the driver waits.
func TestBusyDatabaseIsTriedAgain(t *testing.T) {
	db, table := newTable(t, fast, sqlbackend.SQLite())
	ctx := t.Context()
	conn, err := db.Conn(ctx)
	require.NoError(t, err)
	_, err = conn.ExecContext(ctx, "BEGIN IMMEDIATE")
	require.NoError(t, err)
	_, err = conn.ExecContext(ctx, `INSERT INTO "my ""notes""" VALUES ('a', 'by the app', 0, 1)`)
	require.NoError(t, err)
	set := make(chan bool)
	failed := make(chan error, 1)
	go func() {
		done, err := table.SetIfCurrent(ctx, "a", row{}, false, value(2))
		failed <- err
		set <- done
	}()
	_, err = conn.ExecContext(ctx, "COMMIT")
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	require.NoError(t, <-failed)
	require.False(t, <-set, "what the app wrote in its transaction stays")

	// One that does not end is an error at last; here the caller is tired first.
	conn, err = db.Conn(ctx)
	require.NoError(t, err)
	defer conn.Close()
	_, err = conn.ExecContext(ctx, "BEGIN EXCLUSIVE")
	require.NoError(t, err)
	tired, cancel := context.WithCancelCause(ctx)
	c := config(sqlbackend.SQLite())
	c.Dialect.Busy = func(err error) bool {
		cancel(err)
		return sqlbackend.SQLite().Busy(err)
	}
	table, err = sqlbackend.New(db, c)
	require.NoError(t, err)
	require.ErrorIs(t, table.Set(tired, "b", value(1)), context.Canceled)
	require.ErrorContains(t, context.Cause(tired), "locked")
	_, err = conn.ExecContext(ctx, "ROLLBACK")
	require.NoError(t, err)
}

// A key column that takes two keys for one gives no value of another key, and loses none.
func TestKeysTheDatabaseTakesForOne(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "app.db"), "")
	exec(t, db, `CREATE TABLE "my ""notes""" ("order" TEXT PRIMARY KEY COLLATE NOCASE, "title",
		"group by")`)
	table, err := sqlbackend.New(db, config(sqlbackend.SQLite()))
	require.NoError(t, err)
	ctx := t.Context()
	require.NoError(t, table.Set(ctx, "a", value(1)))
	_, err = table.Get(ctx, "A")
	require.ErrorIs(t, err, localfirst.ErrNotFound)
	require.ErrorIs(t, table.Set(ctx, "A", value(2)), sqlbackend.ErrKeyTaken)
	_, err = table.DeleteIfCurrent(ctx, "A", value(1))
	require.ErrorIs(t, err, sqlbackend.ErrKeyTaken)
	all, err := table.Snapshot(ctx)
	require.NoError(t, err)
	require.Equal(t, map[string]row{"a": value(1)}, all)
}

func TestKeysAreNumbers(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "app.db"), "")
	exec(t, db, `CREATE TABLE "my ""notes""" ("order" INTEGER PRIMARY KEY, "title", "group by")`)
	table, err := sqlbackend.New(db, config(sqlbackend.SQLite()))
	require.NoError(t, err)
	tracked, err := table.Track(t.Context())
	require.NoError(t, err)
	first := changes(t, tracked, "")
	exec(t, db, `INSERT INTO "my ""notes""" VALUES (7, 'title 1', 1)`)
	require.NoError(t, tracked.Set(t.Context(), "8", value(2)))
	got := changes(t, tracked, first.Next)
	require.False(t, got.All)
	require.Equal(t, map[string]row{"7": value(1), "8": value(2)}, got.Values)
}

func TestScope(t *testing.T) {
	db, tracked := newTracked(t)
	ctx := t.Context()
	keys := func() []string {
		all, err := tracked.Keys(ctx)
		require.NoError(t, err)
		slices.Sort(all)
		return slices.Compact(all)
	}
	exec(t, db, replaceN(`INSERT INTO N VALUES (NULL, 'x', 0, 1), ('a', 'x', 0, 1), ('b', 'x', 0, 1)`))
	exec(t, db, `DELETE FROM "my ""notes""" WHERE "order" = 'b'`)
	require.Equal(t, []string{"a", "b"}, keys(), "b was deleted, which others must be told")
	require.NoError(t, tracked.Want(ctx, "c", "a", "c"))
	require.Equal(t, []string{"a", "b", "c"}, keys())
	require.NoError(t, tracked.Forget(ctx, "a", "b", "none"))
	require.Equal(t, []string{"a", "c"}, keys(), "a is here")
	all, err := tracked.Snapshot(ctx)
	require.NoError(t, err)
	require.Equal(t, map[string]row{"a": {"x", 1}}, all)

	c := config(sqlbackend.SQLite())
	c.Keys = func(context.Context) ([]string, error) { return []string{"a", "far"}, nil }
	table, err := sqlbackend.New(db, c)
	require.NoError(t, err)
	got, err := table.Keys(ctx)
	require.NoError(t, err)
	slices.Sort(got)
	require.Equal(t, []string{"a", "a", "far"}, got)
}
