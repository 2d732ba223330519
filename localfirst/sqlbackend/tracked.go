package sqlbackend

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/skerry-sync/skerry/internal/kind"
	"github.com/skerry-sync/skerry/localfirst"
)

// Tracked is a Table whose database notes what is changed, by whomever: a
// localfirst.ChangingBackend. Keys of rows that were deleted stay in the scope, so that the
// deletion is published, until Forget.
//
// What is noted stands beside the table, under its name and "_skerry_": three triggers, a table
// "changes" with a row for each key that was ever written, and a table "marks" with the tokens that
// were given. If the app makes its table anew, without the triggers, they are put back at the next
// call, and all values are given.
//
// SQLite does not run triggers for rows that REPLACE deletes because of a UNIQUE column other than
// the key, unless PRAGMA recursive_triggers is on.
type Tracked[T any] struct {
	*Table[T]
	changes, marks string // names, quoted
	since          string // SELECT key of the change, key, columns
	triggers       []trigger
}

type trigger struct{ name, text string }

// ErrNoTracking reports a dialect in which it is not known how to track changes.
var ErrNoTracking = kind.New(kind.Usage, "changes can be tracked in SQLite alone")

// keptMarks is how many of the last tokens are known.
const keptMarks = 16

// Track has the database note what is changed from now on, unless it does so already.
func (t *Table[T]) Track(ctx context.Context) (*Tracked[T], error) {
	if !t.c.Dialect.sqlite {
		return nil, fmt.Errorf("table %s: %w", t.c.Table, ErrNoTracking)
	}
	quote := t.c.Dialect.Quote
	name := func(what string) string { return t.c.Table + "_skerry_" + what }
	table, key := quote(t.c.Table), quote(t.c.Key)
	x := &Tracked[T]{Table: t, changes: quote(name("changes")), marks: quote(name("marks"))}
	columns := []string{key}
	read := []string{"c.\"key\"", "t." + key}
	for _, c := range t.c.Columns {
		columns = append(columns, quote(c))
		read = append(read, "t."+quote(c))
	}
	note := func(row string) string {
		// No conflict clause: that of the app's statement would count in its place.
		return fmt.Sprintf(`DELETE FROM %s WHERE "key" = %s.%s; `+
			`INSERT INTO %s ("key") SELECT %s.%s WHERE %s.%s IS NOT NULL; `,
			x.changes, row, key, x.changes, row, key, row, key)
	}
	for what, on := range map[string]string{
		"insert": "INSERT", "update": "UPDATE OF " + strings.Join(columns, ", "), "delete": "DELETE",
	} {
		body := note("NEW")
		switch what {
		case "update":
			body = note("OLD") + body
		case "delete":
			body = note("OLD")
		}
		x.triggers = append(x.triggers, trigger{name(what), fmt.Sprintf(
			"CREATE TRIGGER %s AFTER %s ON %s BEGIN %sEND", quote(name(what)), on, table, body)})
	}
	x.since = fmt.Sprintf(`SELECT %s FROM %s AS c LEFT JOIN %s AS t ON t.%s = c."key" `+
		`WHERE c."seq" > ?`, strings.Join(read, ", "), x.changes, table, key)
	err := t.write(ctx, func(conn *sql.Conn) error { return x.install(ctx, conn) })
	if err != nil {
		return nil, fmt.Errorf("table %s: tracking changes: %w", t.c.Table, err)
	}
	return x, nil
}

// install makes what is not there as it should be. If a trigger was missing, changes may have been
// passed over, and all tokens are forgotten.
func (x *Tracked[T]) install(ctx context.Context, conn *sql.Conn) error {
	whole, err := x.whole(ctx, conn)
	if err != nil || whole {
		return err
	}
	all := []string{
		// A number is never used again, also if the last row is deleted.
		`CREATE TABLE IF NOT EXISTS ` + x.changes +
			` ("seq" INTEGER PRIMARY KEY AUTOINCREMENT, "key" NOT NULL UNIQUE)`,
		`CREATE TABLE IF NOT EXISTS ` + x.marks +
			` ("id" INTEGER PRIMARY KEY AUTOINCREMENT, "seq" INTEGER NOT NULL, "nonce" TEXT NOT NULL)`,
		`DELETE FROM ` + x.marks,
	}
	for _, tr := range x.triggers {
		all = append(all, "DROP TRIGGER IF EXISTS "+x.c.Dialect.Quote(tr.name), tr.text)
	}
	for _, query := range all {
		if _, err := conn.ExecContext(ctx, query); err != nil {
			return err
		}
	}
	return nil
}

// whole reports whether the triggers are there, on the app's table.
func (x *Tracked[T]) whole(ctx context.Context, conn *sql.Conn) (bool, error) {
	for _, tr := range x.triggers {
		var text string
		err := conn.QueryRowContext(ctx, `SELECT sql FROM sqlite_master `+
			`WHERE type = 'trigger' AND name = ? AND tbl_name = ?`, tr.name, x.c.Table).Scan(&text)
		if errors.Is(err, sql.ErrNoRows) || err == nil && text != tr.text {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
	return true, nil
}

// ChangesSince implements localfirst.ChangingBackend. If nothing has changed it writes nothing.
func (x *Tracked[T]) ChangesSince(
	ctx context.Context, token string,
) (out localfirst.Changes[T], err error) {
	same, err := x.unchanged(ctx, token)
	if err == nil && !same {
		err = x.write(ctx, func(conn *sql.Conn) (err error) {
			out, err = x.read(ctx, conn, token)
			return err
		})
	}
	if err != nil {
		return localfirst.Changes[T]{}, fmt.Errorf("table %s: what has changed: %w", x.c.Table, err)
	}
	if same {
		out.Next = token
	}
	return out, nil
}

// unchanged reports that nothing was changed since a token.
func (x *Tracked[T]) unchanged(ctx context.Context, token string) (same bool, err error) {
	err = x.again(ctx, func() error {
		conn, err := x.db.Conn(ctx)
		if err != nil {
			return err
		}
		defer conn.Close()
		at, last, known, err := x.mark(ctx, conn, token)
		same = known && at == last
		return err
	})
	return same, err
}

// mark finds a token, and the number of the last change; known is false if changes since the token
// cannot be told.
func (x *Tracked[T]) mark(
	ctx context.Context, conn *sql.Conn, token string,
) (at, last int64, known bool, err error) {
	whole, err := x.whole(ctx, conn)
	if err != nil || !whole {
		return 0, 0, false, err
	}
	text, nonce, _ := strings.Cut(token, " ")
	at, failed := strconv.ParseInt(text, 10, 64)
	err = conn.QueryRowContext(ctx, `SELECT coalesce((SELECT seq FROM sqlite_sequence `+
		`WHERE name = ?), 0), EXISTS (SELECT 1 FROM `+x.marks+` WHERE "seq" = ? AND "nonce" = ?)`,
		x.c.Table+"_skerry_changes", at, nonce).Scan(&last, &known)
	return at, last, known && failed == nil, err
}

// read reads what has changed, and gives a token. It is in the database itself, so that a database
// that was restored from a backup does not know it.
func (x *Tracked[T]) read(
	ctx context.Context, conn *sql.Conn, token string,
) (out localfirst.Changes[T], err error) {
	if err := x.install(ctx, conn); err != nil {
		return out, err
	}
	at, last, known, err := x.mark(ctx, conn, token)
	if err != nil {
		return out, err
	}
	if known {
		out.Values, out.Gone, err = x.changed(ctx, conn, at)
	} else {
		out.All = true
		out.Values, err = x.snapshot(ctx, conn)
	}
	if err != nil {
		return out, err
	}
	nonce := rand.Text()
	out.Next = fmt.Sprintf("%d %s", last, nonce)
	_, err = conn.ExecContext(ctx, `INSERT INTO `+x.marks+` ("seq", "nonce") VALUES (?, ?)`, last,
		nonce)
	if err == nil {
		_, err = conn.ExecContext(ctx, `DELETE FROM `+x.marks+` WHERE "id" <= `+
			`(SELECT max("id") FROM `+x.marks+`) - ?`, keptMarks)
	}
	return out, err
}

// changed returns the values of keys that were changed after a number.
func (x *Tracked[T]) changed(
	ctx context.Context, conn *sql.Conn, after int64,
) (values map[string]T, gone []string, err error) {
	rows, err := conn.QueryContext(ctx, x.since, after)
	if err != nil {
		return nil, nil, err
	}
	defer rows.Close()
	values = map[string]T{}
	deleted := map[string]bool{}
	discard := make([]any, len(x.c.Columns))
	for i := range discard {
		discard[i] = new(any)
	}
	for rows.Next() {
		var key string
		var is sql.NullString
		if err := rows.Scan(append([]any{&key, &is}, discard...)...); err != nil {
			return nil, nil, err
		}
		if !is.Valid {
			deleted[key] = true
			continue
		}
		row := &changedRow{rows: rows}
		v, err := x.c.Scan(row)
		if err == nil && !row.read {
			err = errNotScanned
		}
		if err != nil {
			return nil, nil, fmt.Errorf("the row of key %q: %w", key, err)
		}
		values[is.String] = v
	}
	for key := range deleted {
		if _, here := values[key]; !here {
			gone = append(gone, key)
		}
	}
	return values, gone, rows.Err()
}

// changedRow leaves out the two keys that stand before the columns of a value.
type changedRow struct {
	rows *sql.Rows
	read bool
}

// Scan implements Row.
func (r *changedRow) Scan(dest ...any) error {
	r.read = true
	return r.rows.Scan(append([]any{new(any), new(any)}, dest...)...)
}

// Keys implements localfirst.ValueBackend: those of all rows, of rows that were deleted, and those
// that are wanted.
func (x *Tracked[T]) Keys(ctx context.Context) ([]string, error) {
	all, err := x.Table.Keys(ctx)
	if err != nil {
		return nil, err
	}
	more, err := x.strings(ctx, `SELECT "key" FROM `+x.changes)
	return append(all, more...), err
}

// Want adds keys to the scope, of which no rows need to be here.
func (x *Tracked[T]) Want(ctx context.Context, keys ...string) error {
	return x.note(ctx, keys, `INSERT INTO `+x.changes+` ("key") SELECT ? `+
		`WHERE NOT EXISTS (SELECT 1 FROM `+x.changes+` WHERE "key" = ?)`)
}

// Forget takes keys out of the scope. Those of which rows are here stay in it.
func (x *Tracked[T]) Forget(ctx context.Context, keys ...string) error {
	table, key := x.c.Dialect.Quote(x.c.Table), x.c.Dialect.Quote(x.c.Key)
	return x.note(ctx, keys, `DELETE FROM `+x.changes+` WHERE "key" = ? AND NOT EXISTS `+
		`(SELECT 1 FROM `+table+` WHERE `+key+` = ?)`)
}

func (x *Tracked[T]) note(ctx context.Context, keys []string, query string) error {
	err := x.write(ctx, func(conn *sql.Conn) error {
		for _, k := range keys {
			if _, err := conn.ExecContext(ctx, query, k, k); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("table %s: its keys: %w", x.c.Table, err)
	}
	return nil
}
