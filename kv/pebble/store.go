// Package pebble implements kv.Store on a Pebble database, a log-structured merge tree: the default
// store of a node, and with an empty directory name an in-memory store for tests.
//
// What belongs here: opening, transactions with detection of conflicts (which Pebble itself does
// not have), and the guard against full disks. What never belongs here: any knowledge of the
// records.
//
// Start at [Open].
package pebble

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	pbl "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/skerry-sync/skerry/internal/disk"
	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/kv/flush"
	"github.com/skerry-sync/skerry/kv/gate"
)

// formatVersion is the version of the record layout that this program writes
// (docs/protocol/storage.md).
const formatVersion = 1

// pebbleFormat is the version of Pebble's files. The next one notes in the log how far it has been
// synced, and refuses a log with a hole before that place; but what logFS calls a sync is none, and
// after the loss of power there may be holes, where the log then ends.
const pebbleFormat = pbl.FormatColumnarBlocks

// versionKey sorts before every other key and holds formatVersion as one varint. Programs of before
// format 1 had theirs under oldVersionKey.
var (
	versionKey    = []byte{0x00, 'f'}
	oldVersionKey = []byte{0x00, 'v'}
)

const (
	memTableSize = 16 << 20
	memTables    = 3
	cacheSize    = 64 << 20 // blocks of tables; the operating system has the rest in its page cache
	smallTable   = 4 << 20  // of level 0
	// of the lowest levels: bounds what a compaction needs beside what is there
	largeTable = 32 << 20
	blockSize  = 8 << 10
	// of a block of a table's index; larger indexes have two levels, so that a large store needs
	// little of them at once
	indexSize     = 32 << 10
	firstLevel    = 64 << 20 // bytes of the first level below level 0
	openFiles     = 500
	maxTxnSize    = 4 << 20 // half of the size from which Pebble makes a table of a batch at once
	batchSize     = 1 << 20
	conflictTries = 16 // from then on a transaction runs alone
)

// Options tune a store; the zero value is right for a node.
type Options struct {
	// Reserve is how many bytes must stay free on the file system for content to be accepted. 0 means
	// 256 MiB. Small records and deletions are accepted while a quarter of it is free. What makes room
	// (kv.ToMakeRoom) is accepted even on a full disk.
	Reserve uint64
	// Ballast is how many bytes are kept for that in a file of their own. 0 means 64 MiB: a store that
	// was not closed needs up to three memory tables of room to be opened.
	Ballast uint64
	// CacheBytes is how much memory keeps what was read. 0 means 64 MiB.
	CacheBytes int64
	// FreeBytes reports the bytes free on the file system of dir; nil asks the operating system. Tests
	// replace it.
	FreeBytes func(dir string) (uint64, error)
	// FS is where the files lie; nil is the operating system's, or memory for an empty dir. Tests that
	// simulate the loss of power set it.
	FS vfs.FS
}

// Store implements kv.Store.
type Store struct {
	db     *pbl.DB
	dir    string // empty in memory
	opt    Options
	logs   *logFS
	flush  *flush.Group
	oracle *oracle
	use    gate.Gate
	size   size
	room   *disk.Ballast // nil in memory
}

var (
	_ kv.Store = (*Store)(nil)
	_ kv.Sized = (*Store)(nil)
)

// Open opens or creates the store in dir; an empty dir makes an in-memory store. It returns
// *kv.LockedError when another process has dir open and *kv.VersionError when a newer program wrote
// it.
func Open(dir string, opt Options) (*Store, error) {
	if opt.Reserve == 0 {
		opt.Reserve = 256 << 20
	}
	if opt.Ballast == 0 {
		opt.Ballast = 64 << 20
	}
	if opt.FreeBytes == nil {
		opt.FreeBytes = disk.Free
	}
	s := &Store{dir: dir, opt: opt, oracle: newOracle()}
	switch {
	case opt.FS != nil:
		s.dir = ""
	case dir == "":
		opt.FS = vfs.NewMem()
	default:
		opt.FS = privateFS{vfs.Default}
		if err := errors.Join(makeDir(dir), makePrivate(dir)); err != nil {
			return nil, fmt.Errorf("open store: %w", err)
		}
		s.room = disk.NewBallast(filepath.Join(dir, ballastName), opt.Ballast)
		if err := s.checkSpace(toMakeRoom); err != nil {
			return nil, fmt.Errorf("open store: %w", err)
		}
	}
	s.logs = newLogFS(opt.FS)
	s.flush = flush.New(s.logs.sync)
	o := options(s.logs)
	o.EventListener = listener(s.room)
	cache := pbl.NewCache(cmp.Or(opt.CacheBytes, cacheSize))
	defer cache.Unref()
	o.Cache = cache
	db, err := openDB(dir, o)
	if s.room != nil &&
		disk.IsFull(err) { // such as by a quota, of which the file system does not tell
		if was, dropErr := s.room.Drop(); dropErr == nil && was {
			db, err = openDB(dir, o)
		}
	}
	if err != nil {
		if isLocked(err) {
			return nil, &kv.LockedError{Dir: dir}
		}
		return nil, openError(dir, err)
	}
	s.db = db
	if err := s.checkVersion(); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return s, nil
}

func options(files vfs.FS) *pbl.Options {
	o := &pbl.Options{
		FS:                          files,
		MemTableSize:                memTableSize,
		MemTableStopWritesThreshold: memTables,
		LBaseMaxBytes:               firstLevel,
		MaxOpenFiles:                openFiles,
		FormatMajorVersion:          pebbleFormat,
		CompactionConcurrencyRange:  func() (int, int) { return 1, 2 },
		Logger:                      logger{},
		EventListener:               listener(nil),
	}
	for i := range o.Levels {
		o.TargetFileSizes[i] = int64(min(smallTable<<i, largeTable))
		o.Levels[i].BlockSize = blockSize
		o.Levels[i].IndexBlockSize = indexSize
		// Filters of the last level would be nine tenths of all, and push everything else out of the
		// cache.
		if i < len(o.Levels)-1 {
			o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
		}
		// Keys and entries are hashes and signatures, content is compressed or random: there is nothing
		// to gain.
		o.Levels[i].Compression = func() *sstable.CompressionProfile { return sstable.NoCompression }
	}
	return o
}

func isLocked(err error) bool {
	return err != nil && (strings.Contains(err.Error(), "lock held by current process") ||
		strings.Contains(err.Error(), "resource temporarily unavailable"))
}

// openDB opens a database, with a scheduler of its own: each serves one. Pebble does not take leave
// of it if it fails after it has come to it, as on a full disk.
func openDB(dir string, o *pbl.Options) (db *pbl.DB, err error) {
	c := newCompactions()
	o.Experimental.CompactionScheduler = c
	defer func() {
		if err != nil && c.db != nil {
			c.Unregister()
		}
	}()
	defer caught(dir, &err)
	return pbl.Open(dir, o)
}

// makeDir makes a directory, and its name durable, unless it is there.
func makeDir(dir string) error {
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return disk.SyncDir(filepath.Dir(dir))
}

func (s *Store) checkVersion() error {
	have, err := s.version(versionKey)
	if err == nil && have == 0 {
		var old uint64
		if old, err = s.version(oldVersionKey); err == nil && old > 0 {
			return &kv.OldFormatError{Dir: s.dir}
		}
	}
	switch {
	case err != nil:
		return err
	case have > formatVersion:
		return &kv.VersionError{Dir: s.dir, Have: int(have), Max: formatVersion}
	case have == formatVersion:
		return nil
	}
	if err := s.db.Set(versionKey, binary.AppendUvarint(nil, formatVersion), pbl.Sync); err != nil {
		return fmt.Errorf("open store %s: %w", s.dir, err)
	}
	return nil
}

// version returns what stands under a key; 0 if nothing does.
func (s *Store) version(key []byte) (uint64, error) {
	v, done, err := s.db.Get(key)
	if errors.Is(err, pbl.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("open store %s: %w", s.dir, damaged(s.dir, err))
	}
	have, n := binary.Uvarint(v)
	if err := done.Close(); err != nil {
		return 0, fmt.Errorf("open store %s: %w", s.dir, err)
	}
	if n <= 0 || have == 0 {
		return 0, fmt.Errorf("open store %s: its format version is malformed", s.dir)
	}
	return have, nil
}

// View implements kv.Store.
func (s *Store) View(ctx context.Context, fn func(kv.Reader) error) error {
	if err := s.use.Enter(ctx); err != nil {
		return err
	}
	defer s.use.Leave()
	snap := s.db.NewSnapshot()
	defer snap.Close()
	r := &reader{ctx: ctx, dir: s.dir, from: snap}
	defer r.close()
	return fn(r)
}

// Update implements kv.Store.
func (s *Store) Update(ctx context.Context, fn func(kv.Txn) error) error {
	if err := s.checkSpace(needOf(ctx, false)); err != nil {
		return err
	}
	for try := 0; ; try++ {
		err := s.updateOnce(ctx, fn, try >= conflictTries)
		if !errors.Is(err, kv.ErrConflict) {
			return err
		}
		if try > 4 { // let the others finish
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(time.Duration(try) * 100 * time.Microsecond):
			}
		}
	}
}

// updateOnce runs fn once. A transaction that runs alone keeps others from committing meanwhile,
// and so has no conflicts.
func (s *Store) updateOnce(ctx context.Context, fn func(kv.Txn) error, alone bool) error {
	if err := s.use.Enter(ctx); err != nil {
		return err
	}
	defer s.use.Leave()
	if alone {
		s.oracle.commits.Lock()
		defer s.oracle.commits.Unlock()
	}
	start := s.oracle.begin()
	defer s.oracle.end(start)
	snap := s.db.NewSnapshot()
	defer snap.Close()
	tx := &txn{
		reader: reader{ctx: ctx, dir: s.dir, from: snap, watch: s.oracle.hash}, s: s,
		batch: s.db.NewBatch(),
	}
	// of a batch that was not applied there is nothing to be said
	defer func() { _ = tx.batch.Close() }()
	defer tx.close()
	if err := fn(tx); err != nil {
		return err
	}
	if tx.batch.Empty() {
		return nil
	}
	if !alone {
		s.oracle.commits.Lock()
		defer s.oracle.commits.Unlock()
		if s.oracle.changed(tx.watched, start) {
			return kv.ErrConflict
		}
	}
	if err := s.apply(tx.batch); err != nil {
		return err
	}
	s.oracle.committed(tx.changed, start, true)
	return nil
}

// apply writes a batch and hands it to the operating system. The caller holds oracle.commits.
func (s *Store) apply(b *pbl.Batch) error {
	s.size.written.Add(uint64(b.Len()))
	if err := s.db.Apply(b, pbl.Sync); err != nil {
		return fmt.Errorf("write to store %s: %w", s.dir, damaged(s.dir, err))
	}
	return nil
}

// Batch implements kv.Store.
func (s *Store) Batch(ctx context.Context, fn func(kv.Writer) error) error {
	if err := s.use.Enter(ctx); err != nil {
		return err
	}
	defer s.use.Leave()
	b := &batch{ctx: ctx, s: s, b: s.db.NewBatch()}
	defer func() { _ = b.b.Close() }()
	if err := b.check(false); err != nil {
		return err
	}
	if err := fn(b); err != nil {
		return err
	}
	return b.flush()
}

// Sync implements kv.Store.
func (s *Store) Sync(ctx context.Context) error {
	if err := s.use.Enter(ctx); err != nil {
		return err
	}
	defer s.use.Leave()
	if err := s.flush.Wait(); err != nil {
		return fmt.Errorf("sync store %s: %w", s.dir, err)
	}
	return nil
}

// Compact implements kv.Store: all tables are merged, which drops what is dead in them. That needs
// as much room as they take: if there is less, it returns a *kv.NoSpaceError and does nothing.
func (s *Store) Compact(ctx context.Context) error {
	if err := s.roomToCompact(); err != nil {
		return err
	}
	if err := s.use.Enter(ctx); err != nil {
		return err
	}
	defer s.use.Leave()
	if err := s.db.Compact(ctx, []byte{0}, []byte{0xff, 0xff, 0xff, 0xff}, true); err != nil {
		return fmt.Errorf("compact store %s: %w", s.dir, damaged(s.dir, err))
	}
	return nil
}

// Close implements kv.Store. It waits for calls under way.
func (s *Store) Close() error {
	if !s.use.Close() {
		return nil
	}
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("close store %s: %w", s.dir, damaged(s.dir, err))
	}
	return nil
}
