// Package sqlite keeps what an engine (package localfirst) remembers in a SQLite database.
//
// What belongs here: a localfirst.Store in a file. What never belongs here: values of apps, and
// what records mean.
//
// Start at [Open].
package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"

	"github.com/cespare/xxhash/v2"

	"github.com/skerry-sync/skerry/localfirst"
)

// Store is a localfirst.Store in a SQLite database. Its methods may be called at the same time.
// Close it after the engine.
//
// The table record has a row for each record. Its value holds the key once more, so that a Scan
// reads one column, and begins with a checksum, since SQLite itself does not notice a wrong bit
// in a row:
//
//	XXH64 of all that follows u64 BE, length of the key u16 BE, key, value
type Store struct {
	path    string
	lock    *os.File
	db      *sql.DB       // each connection is one of one file
	writing chan struct{} // has room for one: who has put something in it may write
	get     *sql.Stmt
	put     *sql.Stmt
	drop    *sql.Stmt
}

const (
	getRecord = `SELECT value FROM record
		WHERE kind = ? AND namespace = ? AND collection = ? AND key = ?`
	scanRecords = `SELECT value FROM record
		WHERE kind = ? AND namespace = ? AND collection = ? ORDER BY key`
	putRecord = `INSERT INTO record (kind, namespace, collection, key, value) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET value = excluded.value`
	dropRecord = `DELETE FROM record
		WHERE kind = ? AND namespace = ? AND collection = ? AND key = ?`
	dropIdentity = `DELETE FROM record WHERE kind = ? AND namespace = ?`
)

func (s *Store) prepare() (err error) {
	for text, at := range map[string]**sql.Stmt{
		getRecord: &s.get, putRecord: &s.put, dropRecord: &s.drop,
	} {
		if *at, err = s.db.Prepare(text); err != nil {
			return err
		}
	}
	return nil
}

// Close closes the file. Calls under way must have ended.
func (s *Store) Close() error {
	return errors.Join(s.db.Close(), s.lock.Close())
}

// headSize is how many bytes stand before the key in the value of a row.
const headSize = 8 + 2

// rowOf returns the value of a row. The checksum is none against somebody who wants to deceive.
func rowOf(key string, value []byte) []byte {
	b := make([]byte, headSize, headSize+len(key)+len(value))
	binary.BigEndian.PutUint16(b[8:], uint16(len(key)))
	b = append(append(b, key...), value...)
	binary.BigEndian.PutUint64(b, xxhash.Sum64(b[8:]))
	return b
}

// parseRow returns what is in the value of a row, or ErrDamaged.
func parseRow(b []byte) (key, value []byte, err error) {
	if len(b) < headSize || binary.BigEndian.Uint64(b) != xxhash.Sum64(b[8:]) {
		return nil, nil, fmt.Errorf("%w: a record has a wrong checksum", ErrDamaged)
	}
	end := headSize + int(binary.BigEndian.Uint16(b[8:]))
	if end > len(b) {
		return nil, nil, fmt.Errorf("%w: a record is cut short", ErrDamaged)
	}
	return b[headSize:end], b[end:], nil
}

// blob returns a part of a name as a value of SQLite: never nil, which would be NULL.
func blob(s string) []byte { return append([]byte{}, s...) }

// Get implements localfirst.Store.
func (s *Store) Get(ctx context.Context, n localfirst.Name) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	// A context that can end costs a goroutine for each call of the driver.
	rows, err := s.get.QueryContext(context.WithoutCancel(ctx), blob(string(n.Kind)),
		blob(n.Namespace), blob(n.Collection), blob(n.Key))
	if err != nil {
		return nil, s.failed(err)
	}
	var row []byte
	if found := rows.Next(); found {
		err = rows.Scan(&row)
	} else if err = rows.Err(); err == nil {
		err = fmt.Errorf("record %s: %w", n, localfirst.ErrNotFound)
	}
	if err = errors.Join(err, rows.Close()); err != nil {
		return nil, s.failed(err)
	}
	key, value, err := parseRow(row)
	if err == nil && string(key) != n.Key {
		err = fmt.Errorf("%w: a record is in the place of another", ErrDamaged)
	}
	if err != nil {
		return nil, s.failed(err)
	}
	return value, nil
}

// Scan implements localfirst.Store. It reads by the driver itself: with database/sql around each
// row, it would take twice as long.
func (s *Store) Scan(
	ctx context.Context, k localfirst.Kind, namespace, collection string,
) iter.Seq2[localfirst.Record, error] {
	return func(yield func(localfirst.Record, error) bool) {
		c, err := s.db.Conn(ctx)
		if err == nil {
			err = c.Raw(func(raw any) error {
				return scan(ctx, raw, localfirst.Name{Kind: k, Namespace: namespace, Collection: collection},
					yield)
			})
			if closed := c.Close(); err == nil {
				err = closed
			}
		}
		if err != nil && !errors.Is(err, errLeft) {
			yield(localfirst.Record{}, s.failed(err))
		}
	}
}

// errLeft ends a scan whose loop was left.
var errLeft = errors.New("the loop was left")

func scan(
	ctx context.Context, raw any, name localfirst.Name, yield func(localfirst.Record, error) bool,
) error {
	args := []driver.NamedValue{
		{Ordinal: 1, Value: blob(string(name.Kind))}, {Ordinal: 2, Value: blob(name.Namespace)},
		{Ordinal: 3, Value: blob(name.Collection)},
	}
	c := raw.(driver.QueryerContext)
	rows, err := c.QueryContext(context.WithoutCancel(ctx), scanRecords, args)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }() // it has been read, or failed
	row := make([]driver.Value, 1)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		switch err := rows.Next(row); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		b, _ := row[0].([]byte)
		key, value, err := parseRow(b)
		if err != nil {
			return err
		}
		name.Key = string(key)
		if !yield(localfirst.Record{Name: name, Value: value}, nil) {
			return errLeft
		}
	}
}

// Apply implements localfirst.Store.
func (s *Store) Apply(ctx context.Context, all []localfirst.Record) error {
	if err := localfirst.CheckBatch(all); err != nil || len(all) == 0 {
		return err
	}
	return s.write(ctx, func(tx *sql.Tx) error {
		put, drop := tx.Stmt(s.put), tx.Stmt(s.drop)
		for i := range all {
			r := &all[i]
			at := append(make([]any, 0, 5),
				blob(string(r.Kind)), blob(r.Namespace), blob(r.Collection), blob(r.Key))
			var err error
			if r.Value == nil {
				_, err = drop.Exec(at...)
			} else {
				_, err = put.Exec(append(at, rowOf(r.Key, r.Value))...)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// ForgetIdentitySecrets implements localfirst.Store.
func (s *Store) ForgetIdentitySecrets(ctx context.Context, keyID string) error {
	return s.write(ctx, func(tx *sql.Tx) error {
		_, err := tx.Exec(dropIdentity, blob(string(localfirst.SecretRecord)), blob(keyID))
		return err
	})
}

// write runs f in a transaction. ctx can end only what has not begun.
func (s *Store) write(ctx context.Context, f func(*sql.Tx) error) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case s.writing <- struct{}{}:
		defer func() { <-s.writing }()
	case <-ctx.Done():
		return ctx.Err()
	}
	tx, err := s.db.BeginTx(context.WithoutCancel(ctx), nil)
	if err != nil {
		return s.failed(err)
	}
	if err := f(tx); err != nil {
		return s.failed(errors.Join(err, tx.Rollback()))
	}
	return s.failed(tx.Commit())
}

var _ localfirst.Store = (*Store)(nil)

// isStore reports whether a file begins as a SQLite database does. An empty one does.
func isStore(path string) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	head := make([]byte, len(fileMagic))
	n, err := io.ReadFull(f, head)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	ok := n == 0 || bytes.Equal(head, []byte(fileMagic))
	return ok, errors.Join(err, f.Close())
}
