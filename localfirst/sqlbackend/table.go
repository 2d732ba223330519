// Package sqlbackend is a store of an app's values in a table of a SQL database: a backend for
// package localfirst. The table is the app's own, which reads and writes it as it likes.
//
//	notes, err := sqlbackend.New(db, sqlbackend.Config[Note]{
//		Dialect: sqlbackend.SQLite(), Table: "notes", Key: "id", Columns: []string{"title", "body"},
//		Scan: func(row sqlbackend.Row) (n Note, err error) {
//			err = row.Scan(&n.Title, &n.Body)
//			return n, err
//		},
//		Args:  func(n Note) ([]any, error) { return []any{n.Title, n.Body}, nil },
//		Equal: func(a, b Note) bool { return a == b },
//	})
//
// What belongs here: a value in each row, found by a key column, and how a database is asked what
// has changed. What never belongs here: a driver, which the app chooses and links; the engine's own
// store (package localfirst/sqlite); and values that are made of several rows.
//
// Start at [New] and [Table.Track].
package sqlbackend

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/skerry-sync/skerry/internal/kind"
	"github.com/skerry-sync/skerry/localfirst"
)

// Config says how values stand in a table. All but Keys must be given.
type Config[T any] struct {
	Dialect Dialect
	// Table is the name of the table, as it is; it is quoted.
	Table string
	// Key is the column of the keys: text, each once, compared byte by byte. Rows whose key is null
	// are no values.
	Key string
	// Columns hold a value. If there are others, they need defaults.
	Columns []string
	// Scan reads the columns of a value, in their order.
	Scan func(row Row) (T, error)
	// Args returns what is written in the columns, in their order.
	Args func(value T) ([]any, error)
	// Equal reports whether two values that Scan has read are the same.
	Equal func(a, b T) bool
	// Keys returns keys of values that may be elsewhere and are wanted here. Those of all rows are in
	// the scope besides. It may be nil.
	Keys func(ctx context.Context) ([]string, error)
}

// Row is a row to be read.
type Row interface {
	// Scan is that of [sql.Rows], for the columns of a value.
	Scan(dest ...any) error
}

// Table is a localfirst.ConditionalValueBackend and a localfirst.DeletingBackend. It compares and
// writes in one transaction, so what the app writes in a transaction of its own is never lost. Its
// methods may be called at the same time.
//
// A deletion is only published if its key is in the scope: Config.Keys must return keys of rows
// that were deleted, or the app calls Delete of the collection. [Tracked] does so by itself.
type Table[T any] struct {
	db   *sql.DB
	c    Config[T]
	keys string // SELECT key
	all  string // SELECT key, columns
	one  string // the same, of one key
	ins  string
	upd  string
	del  string
}

// Errors of a table.
var (
	// ErrConfig reports a Config that cannot be meant.
	ErrConfig = kind.New(kind.Usage, "the table's columns are not fully described")
	// ErrKeyTaken reports a key that the database takes for another.
	ErrKeyTaken = kind.New(kind.Conflict, "the key column takes two keys for one")
)

// New returns the backend of a table that is there. It reads nothing.
func New[T any](db *sql.DB, c Config[T]) (*Table[T], error) {
	if c.Table == "" || c.Key == "" || len(c.Columns) == 0 || c.Scan == nil || c.Args == nil ||
		c.Equal == nil || c.Dialect.Begin == "" || c.Dialect.Placeholder == nil ||
		c.Dialect.Quote == nil {
		return nil, fmt.Errorf("table %q: %w", c.Table, ErrConfig)
	}
	quote, mark := c.Dialect.Quote, c.Dialect.Placeholder
	table, key := quote(c.Table), quote(c.Key)
	var names, marks, sets []string
	for i, column := range c.Columns {
		names = append(names, quote(column))
		marks = append(marks, mark(i+1))
		sets = append(sets, quote(column)+" = "+mark(i+1))
	}
	n := len(names)
	t := &Table[T]{db: db, c: c}
	t.keys = fmt.Sprintf("SELECT %s FROM %s WHERE %s IS NOT NULL", key, table, key)
	t.all = fmt.Sprintf("SELECT %s, %s FROM %s WHERE %s", key, strings.Join(names, ", "), table, key)
	t.one = t.all + " = " + mark(1)
	t.all += " IS NOT NULL"
	t.ins = fmt.Sprintf("INSERT INTO %s (%s, %s) VALUES (%s, %s)", table, strings.Join(names, ", "),
		key, strings.Join(marks, ", "), mark(n+1))
	t.upd = fmt.Sprintf("UPDATE %s SET %s WHERE %s = %s", table, strings.Join(sets, ", "), key,
		mark(n+1))
	t.del = fmt.Sprintf("DELETE FROM %s WHERE %s = %s", table, key, mark(1))
	return t, nil
}

func (t *Table[T]) failed(key string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("table %s, key %q: %w", t.c.Table, key, err)
}

// queries is a *sql.DB, or a connection of one.
type queries interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// each reads rows of keys and values.
func (t *Table[T]) each(
	ctx context.Context, q queries, fn func(key string, v T) error, query string, args ...any,
) error {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		row := &keyed{rows: rows}
		v, err := t.c.Scan(row)
		if err == nil && !row.read {
			err = errNotScanned
		}
		if err != nil {
			return fmt.Errorf("the row of key %q: %w", row.key, err)
		}
		if err := fn(row.key, v); err != nil {
			return err
		}
	}
	return rows.Err()
}

var errNotScanned = errors.New("the app's function has not scanned the row")

// keyed reads the key before the columns of a value.
type keyed struct {
	rows *sql.Rows
	key  string
	read bool
}

// Scan implements Row.
func (k *keyed) Scan(dest ...any) error {
	k.read = true
	return k.rows.Scan(append([]any{&k.key}, dest...)...)
}

func (t *Table[T]) get(ctx context.Context, q queries, key string) (v T, found bool, err error) {
	err = t.each(ctx, q, func(is string, value T) error {
		if is != key {
			return fmt.Errorf("%w: %q is there", ErrKeyTaken, is)
		}
		v, found = value, true
		return nil
	}, t.one, key)
	return v, found, err
}

// Keys implements localfirst.ValueBackend.
func (t *Table[T]) Keys(ctx context.Context) ([]string, error) {
	all, err := t.strings(ctx, t.keys)
	if err != nil || t.c.Keys == nil {
		return all, err
	}
	more, err := t.c.Keys(ctx)
	return append(all, more...), err
}

func (t *Table[T]) strings(ctx context.Context, query string) (all []string, err error) {
	err = t.again(ctx, func() error {
		all = nil
		rows, err := t.db.QueryContext(ctx, query)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var key string
			if err := rows.Scan(&key); err != nil {
				return err
			}
			all = append(all, key)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("table %s: its keys: %w", t.c.Table, err)
	}
	return all, nil
}

// Get implements localfirst.ValueBackend.
func (t *Table[T]) Get(ctx context.Context, key string) (v T, err error) {
	var found bool
	err = t.again(ctx, func() (err error) {
		v, found, err = t.get(ctx, t.db, key)
		return err
	})
	if err == nil && !found || errors.Is(err, ErrKeyTaken) {
		err = localfirst.ErrNotFound
	}
	return v, t.failed(key, err)
}

// Snapshot implements localfirst.ValueBackend. A row that cannot be read is an error: a value that
// is left out would be taken for one that was deleted.
func (t *Table[T]) Snapshot(ctx context.Context) (all map[string]T, err error) {
	err = t.again(ctx, func() (err error) {
		all, err = t.snapshot(ctx, t.db)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("table %s: its values: %w", t.c.Table, err)
	}
	return all, nil
}

func (t *Table[T]) snapshot(ctx context.Context, q queries) (map[string]T, error) {
	all := map[string]T{}
	err := t.each(ctx, q, func(key string, v T) error {
		all[key] = v
		return nil
	}, t.all)
	return all, err
}

// Set implements localfirst.ValueBackend.
func (t *Table[T]) Set(ctx context.Context, key string, value T) error {
	_, err := t.replace(ctx, key, value, func(T, bool) bool { return true })
	return err
}

// SetIfCurrent implements localfirst.ConditionalValueBackend.
func (t *Table[T]) SetIfCurrent(
	ctx context.Context, key string, current T, found bool, value T,
) (bool, error) {
	return t.replace(ctx, key, value, func(now T, is bool) bool {
		return is == found && (!is || t.c.Equal(now, current))
	})
}

// replace writes a value if what is there may be replaced.
func (t *Table[T]) replace(
	ctx context.Context, key string, value T, may func(now T, found bool) bool,
) (done bool, err error) {
	args, err := t.c.Args(value)
	if err == nil && len(args) != len(t.c.Columns) {
		err = fmt.Errorf("%w: %d values for %d columns", ErrConfig, len(args), len(t.c.Columns))
	}
	if err != nil {
		return false, t.failed(key, err)
	}
	args = append(args, key)
	err = t.write(ctx, func(conn *sql.Conn) error {
		now, found, err := t.get(ctx, conn, key)
		if err != nil {
			return err
		}
		if done = may(now, found); !done {
			return nil
		}
		query := t.ins
		if found {
			query = t.upd
		}
		_, err = conn.ExecContext(ctx, query, args...)
		return err
	})
	return done && err == nil, t.failed(key, err)
}

// DeleteIfCurrent implements localfirst.DeletingBackend.
func (t *Table[T]) DeleteIfCurrent(
	ctx context.Context, key string, current T,
) (done bool, err error) {
	err = t.write(ctx, func(conn *sql.Conn) error {
		now, found, err := t.get(ctx, conn, key)
		if err != nil {
			return err
		}
		if done = found && t.c.Equal(now, current); !done {
			return nil
		}
		_, err = conn.ExecContext(ctx, t.del, key)
		return err
	})
	return done && err == nil, t.failed(key, err)
}
