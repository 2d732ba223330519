package sqlbackend

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"math/rand/v2"
	"strings"
	"time"
)

// Dialect says how a database is spoken to. SQLite is there; others are described by whoever has
// them.
type Dialect struct {
	// Begin is the statement that begins a transaction in which nothing that was read is changed by
	// others until it ends: "BEGIN IMMEDIATE", "BEGIN ISOLATION LEVEL SERIALIZABLE".
	Begin string
	// Placeholder returns what stands for the n-th argument of a statement, from 1 on: "?", "$1".
	Placeholder func(n int) string
	// Quote writes a name of a table or column.
	Quote func(name string) string
	// Busy reports an error after which a transaction may be tried again, since others had the
	// database to themselves. It may be nil.
	Busy func(err error) bool

	sqlite bool // changes can be tracked
}

// SQLite is the dialect of SQLite, for any driver.
func SQLite() Dialect {
	return Dialect{
		Begin:       "BEGIN IMMEDIATE",
		Placeholder: func(int) string { return "?" },
		Quote:       func(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` },
		Busy: func(err error) bool {
			for _, said := range []string{"database is locked", "table is locked", "SQLITE_BUSY"} {
				if err != nil && strings.Contains(err.Error(), said) {
					return true
				}
			}
			return false
		},
		sqlite: true,
	}
}

// How often something is tried while others have the database, and how long is waited at most
// before it is tried again: 5 s in all, beside what the driver waits.
const (
	tries   = 64
	maxWait = 100 * time.Millisecond
)

// write runs fn in a transaction, again if the database was busy. All that fn did is undone if it
// returns an error.
func (t *Table[T]) write(ctx context.Context, fn func(conn *sql.Conn) error) error {
	return t.again(ctx, func() error { return t.writeOnce(ctx, fn) })
}

// again calls fn until the database is not busy. A read may find it so, too.
func (t *Table[T]) again(ctx context.Context, fn func() error) error {
	wait := time.Millisecond
	for try := 1; ; try++ {
		err := fn()
		if err == nil || try == tries || t.c.Dialect.Busy == nil || !t.c.Dialect.Busy(err) {
			return err
		}
		select {
		case <-time.After(wait/2 + rand.N(wait)):
			wait = min(2*wait, maxWait)
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		}
	}
}

func (t *Table[T]) writeOnce(ctx context.Context, fn func(conn *sql.Conn) error) (err error) {
	conn, err := t.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if _, err := conn.ExecContext(ctx, t.c.Dialect.Begin); err != nil {
		return err
	}
	// Whatever becomes of ctx, and also after a panic, the connection goes back without a transaction.
	ended := context.WithoutCancel(ctx)
	committed := false
	defer func() {
		if committed {
			return
		}
		if _, failed := conn.ExecContext(ended, "ROLLBACK"); failed != nil {
			_ = conn.Raw(func(any) error { return driver.ErrBadConn }) // it is thrown away
		}
	}()
	if err := fn(conn); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if _, err := conn.ExecContext(ended, "COMMIT"); err != nil {
		return err
	}
	committed = true
	return nil
}
