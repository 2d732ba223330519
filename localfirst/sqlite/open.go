package sqlite

import (
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	driver "modernc.org/sqlite"
	result "modernc.org/sqlite/lib"

	"github.com/skerry-sync/skerry/internal/disk"
	"github.com/skerry-sync/skerry/internal/kind"
)

// Errors of a store in a file.
var (
	// ErrInUse reports a file that another store has open, in this process or another.
	ErrInUse = kind.New(kind.Conflict, "another process has this store open")
	// ErrNoStore reports a file that something else has written.
	ErrNoStore = kind.New(kind.Usage, "the file is no store of this engine")
	// ErrNewer reports a store that a newer program has written.
	ErrNewer = kind.New(kind.Conflict, "a newer program has written this store: use that one")
	// ErrDamaged reports a file that is damaged. SetAside moves it away; the engine makes a new one
	// from the replica and the app's store.
	ErrDamaged = kind.New(kind.Verification, "the store is damaged: set it aside, and begin a new one")
	// ErrFull reports a disk that has no room. Nothing of the batch is there.
	ErrFull = kind.New(kind.NoSpace, "there is no room on the disk")
)

const (
	fileMagic = "SQLite format 3\x00"
	// application says whose database a file is: "SKLF".
	application = 0x534b4c46
	// format is the version of the schema.
	format = 1

	lockSuffix = "-lock"
)

// suffixes of the files that SQLite puts beside the database.
var suffixes = []string{"-wal", "-shm"}

const schema = `
CREATE TABLE record (
	kind       BLOB NOT NULL,
	namespace  BLOB NOT NULL,
	collection BLOB NOT NULL,
	key        BLOB NOT NULL,
	value      BLOB NOT NULL,
	PRIMARY KEY (kind, namespace, collection, key)
) STRICT, WITHOUT ROWID;`

// pragmas of each connection. FULL brings each transaction to the disk when it is committed; on
// Apple's systems that takes fullfsync, too. Pages of 16 KiB make a Scan a sixth faster than those
// of 4 KiB; a file keeps the size that it was made with.
var pragmas = []string{
	"busy_timeout(10000)", "synchronous(FULL)", "fullfsync(1)", "checkpoint_fullfsync(1)",
	"trusted_schema(0)", "cell_size_check(1)", "cache_size(-16384)",
	"page_size(16384)",
}

// Open opens the store in a file, which only its owner may read, or makes it. Beside it are three
// files whose names go on with -wal, -shm and -lock; what is moved or copied is moved or copied
// with the first, while no program has it open. It returns ErrInUse, ErrNoStore, ErrNewer or
// ErrDamaged.
func Open(path string) (*Store, error) {
	s := &Store{path: path, writing: make(chan struct{}, 1)}
	var err error
	if s.lock, err = lock(path); err != nil {
		return nil, s.failed(err)
	}
	if err := s.open(); err != nil {
		if s.db != nil {
			err = errors.Join(err, s.db.Close())
		}
		return nil, s.failed(errors.Join(err, s.lock.Close()))
	}
	return s, nil
}

func lock(path string) (*os.File, error) {
	f, err := os.OpenFile(path+lockSuffix, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := disk.Lock(f); err != nil {
		return nil, errors.Join(ErrInUse, f.Close())
	}
	return f, nil
}

func (s *Store) open() error {
	if err := s.create(); err != nil {
		return err
	}
	if is, err := isStore(s.path); err != nil || !is {
		return errors.Join(err, ErrNoStore)
	}
	where, err := source(s.path)
	if err != nil {
		return err
	}
	if s.db, err = sql.Open("sqlite", where); err != nil {
		return err
	}
	if err := s.check(); err != nil {
		return err
	}
	var mode string
	if err := s.db.QueryRow("PRAGMA journal_mode = WAL").Scan(&mode); err != nil {
		return err
	}
	if mode != "wal" {
		return fmt.Errorf("this file system cannot hold it: SQLite's journal is %q, not wal", mode)
	}
	return s.prepare()
}

// create makes the file, which is empty, or takes away the rights that others have to it.
func (s *Store) create() error {
	f, err := os.OpenFile(s.path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		return errors.Join(f.Close(), disk.SyncDir(filepath.Dir(s.path)))
	}
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	for _, suffix := range append([]string{""}, suffixes...) {
		info, err := os.Stat(s.path + suffix)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			err = os.Chmod(s.path+suffix, 0o600)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// source returns what the driver calls a file.
func source(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if abs = filepath.ToSlash(abs); !strings.HasPrefix(abs, "/") {
		abs = "/" + abs
	}
	u := url.URL{Scheme: "file", Path: abs, OmitHost: true}
	q := url.Values{"_txlock": {"immediate"}, "_pragma": pragmas}
	return u.String() + "?" + q.Encode(), nil
}

// check makes the tables of an empty database, and reads whose the others are.
func (s *Store) check() error {
	tx, err := s.db.Begin()
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // it does nothing after Commit
	var owner, version, tables int
	for what, into := range map[string]*int{
		"PRAGMA application_id": &owner, "PRAGMA user_version": &version,
		"SELECT count(*) FROM sqlite_schema": &tables,
	} {
		if err := tx.QueryRow(what).Scan(into); err != nil {
			return err
		}
	}
	switch {
	case owner == 0 && version == 0 && tables == 0: // new, or its making was interrupted
		_, err := tx.Exec(schema + fmt.Sprintf(
			"PRAGMA application_id = %d; PRAGMA user_version = %d;", application, format))
		return errors.Join(err, tx.Commit())
	case owner != application:
		return ErrNoStore
	case version > format:
		return fmt.Errorf("%w: it has version %d, this program knows versions up to %d", ErrNewer,
			version, format)
	}
	return nil
}

// failed gives an error of SQLite its name, and says which store it is of.
func (s *Store) failed(err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*driver.Error](err); ok {
		switch e.Code() & 0xff {
		case result.SQLITE_CORRUPT, result.SQLITE_NOTADB,
			result.SQLITE_ERROR: // what it is asked fits the tables, unless they say something else
			err = fmt.Errorf("%w: %w", ErrDamaged, err)
		case result.SQLITE_FULL:
			err = fmt.Errorf("%w: %w", ErrFull, err)
		}
	}
	return fmt.Errorf("store %s: %w", s.path, err)
}

// SetAside moves a store that is damaged, or too old a copy, to the returned place beside it, where
// a person can look at it. Nothing may have it open; else it returns ErrInUse.
func SetAside(path string) (to string, err error) {
	s := &Store{path: path}
	held, err := lock(path)
	if err != nil {
		return "", s.failed(err)
	}
	defer func() { err = errors.Join(err, held.Close()) }()
	for i := 1; ; i++ {
		to = fmt.Sprintf("%s.damaged%d", path, i)
		if _, err := os.Lstat(to); errors.Is(err, fs.ErrNotExist) {
			break
		} else if err != nil {
			return "", err
		}
	}
	// The database first: SQLite removes what is left beside one that is made anew.
	if err := os.Rename(path, to); err != nil {
		return "", err
	}
	for _, suffix := range suffixes {
		if err := os.Rename(path+suffix, to+suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	return to, disk.SyncDir(filepath.Dir(path))
}
