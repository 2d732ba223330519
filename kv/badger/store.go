// Package badger implements kv.Store on a Badger database in a directory, or in memory for tests.
// No command makes a store of it yet: the store of a node is package pebble.
//
// Badger maps its files into memory, so a full disk would kill the process with a bus error instead
// of failing a write; this package refuses writes while there is still room (see Options.Reserve).
//
// What belongs here: what Badger does otherwise than kv asks for. What never belongs here: keys and
// values of the packages above.
package badger

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"time"

	bdg "github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"

	"github.com/skerry-sync/skerry/internal/disk"
	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/kv/flush"
	"github.com/skerry-sync/skerry/kv/gate"
)

// formatVersion is the version of the record layout that this program writes
// (docs/protocol/storage.md).
const formatVersion = 1

// versionKey sorts before every other key and holds formatVersion as one varint. Programs of before
// format 1 had theirs under oldVersionKey.
var (
	versionKey    = []byte{0x00, 'f'}
	oldVersionKey = []byte{0x00, 'v'}
)

const (
	memTableSize  = 8 << 20
	tableSize     = 4 << 20   // half of a memtable: builders double their buffers from twice this
	firstLevel    = 64 << 20  // bytes of the first level below that of whole memtables
	valueLogSize  = 256 << 20 // bounds what is read again after a crash
	inTables      = 64 << 10  // values up to this length lie in tables: compactions drop what is dead
	conflictTries = 100
)

// Options tune a store; the zero value is right for a node.
type Options struct {
	// Reserve is how many bytes must stay free on the file system for content to be accepted. 0
	// means 256 MiB. Small records and deletions are accepted while a quarter of it is free. What
	// makes room (kv.ToMakeRoom), and Open, need an eighth: the memory tables, written as files, take
	// up to 24 MiB, and a mapping must not meet a full disk.
	Reserve uint64
	// FreeBytes reports the bytes free on the file system of dir; nil asks the operating system.
	FreeBytes func(dir string) (uint64, error)
}

// Store implements kv.Store.
type Store struct {
	db    *bdg.DB
	dir   string // empty in memory
	opt   Options
	flush *flush.Group
	use   gate.Gate
}

var _ kv.Store = (*Store)(nil)

// Open opens or creates the store in dir; an empty dir makes an in-memory store. It returns
// *kv.LockedError when another process has dir open and *kv.VersionError when a newer program
// wrote it.
func Open(dir string, opt Options) (*Store, error) {
	if opt.Reserve == 0 {
		opt.Reserve = 256 << 20
	}
	if opt.FreeBytes == nil {
		opt.FreeBytes = disk.Free
	}
	s := &Store{dir: dir, opt: opt}
	if dir != "" {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("open store: %w", err)
		}
		if err := s.checkSpace(toMakeRoom); err != nil {
			return nil, fmt.Errorf("open store: %w", err)
		}
	}
	bo := bdg.DefaultOptions(dir).
		WithInMemory(dir == "").
		WithLogger(nil).
		WithMetricsEnabled(false).
		WithMemTableSize(memTableSize).
		WithNumMemtables(3).
		WithNumCompactors(2).
		WithBaseTableSize(tableSize).
		WithBaseLevelSize(firstLevel).
		WithBlockCacheSize(0). // the page cache has blocks as they are: neither compressed nor encrypted
		WithValueLogFileSize(valueLogSize).
		WithCompression(options.None) // content is compressed or random, keys and entries are hashes
	if dir != "" {
		bo = bo.WithValueThreshold(inTables)
	}
	db, err := bdg.Open(bo)
	if err != nil {
		if text := err.Error(); strings.Contains(text, "Another process is using") ||
			strings.Contains(text, "Cannot acquire directory lock") {
			return nil, &kv.LockedError{Dir: dir}
		}
		return nil, fmt.Errorf("open store %s: %w", dir, err)
	}
	s.db = db
	s.flush = flush.New(s.syncFiles)
	if err := s.checkVersion(); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return s, nil
}

func (s *Store) checkVersion() error {
	return s.db.Update(func(tx *bdg.Txn) error {
		item, err := tx.Get(versionKey)
		if errors.Is(err, bdg.ErrKeyNotFound) {
			if _, err := tx.Get(oldVersionKey); !errors.Is(err, bdg.ErrKeyNotFound) {
				return errors.Join(&kv.OldFormatError{Dir: s.dir}, err)
			}
			return tx.Set(versionKey, binary.AppendUvarint(nil, formatVersion))
		}
		if err != nil {
			return err
		}
		return item.Value(func(v []byte) error {
			switch have, n := binary.Uvarint(v); {
			case n <= 0 || have == 0:
				return fmt.Errorf("open store %s: its format version is malformed", s.dir)
			case have > formatVersion:
				return &kv.VersionError{Dir: s.dir, Have: int(have), Max: formatVersion}
			}
			return nil
		})
	})
}

// need is what a write needs room for.
type need int

const (
	toMakeRoom   need = iota // removes things, or comes before that: see kv.ToMakeRoom
	smallRecords             // so many that they cannot fill what is left soon
	content
)

// needOf is what a write needs room for that is content, or is not.
func needOf(ctx context.Context, isContent bool) need {
	switch {
	case kv.MakesRoom(ctx):
		return toMakeRoom
	case isContent:
		return content
	}
	return smallRecords
}

// contentSize is the length from which a value counts as content.
const contentSize = 4 << 10

func (s *Store) checkSpace(n need) error {
	if s.dir == "" {
		return nil
	}
	reserve := s.opt.Reserve
	switch n {
	case toMakeRoom:
		reserve /= 8
	case smallRecords:
		reserve /= 4
	}
	return s.checkFree(reserve)
}

// checkFree returns a *kv.NoSpaceError if fewer bytes are free.
func (s *Store) checkFree(reserve uint64) error {
	free, err := s.opt.FreeBytes(s.dir)
	if err != nil {
		return fmt.Errorf("ask for free disk space of %s: %w", s.dir, err)
	}
	if free < reserve {
		return &kv.NoSpaceError{Dir: s.dir, Free: free, Reserve: reserve}
	}
	return nil
}

// View implements kv.Store.
func (s *Store) View(ctx context.Context, fn func(kv.Reader) error) error {
	if err := s.use.Enter(ctx); err != nil {
		return err
	}
	defer s.use.Leave()
	tx := s.db.NewTransaction(false)
	defer tx.Discard()
	return fn(&txn{ctx: ctx, tx: tx})
}

// Update implements kv.Store.
func (s *Store) Update(ctx context.Context, fn func(kv.Txn) error) error {
	if err := s.checkSpace(needOf(ctx, false)); err != nil {
		return err
	}
	for try := range conflictTries {
		err := s.updateOnce(ctx, fn)
		if !errors.Is(err, bdg.ErrConflict) {
			return translate(err)
		}
		if try > 10 { // under heavy contention, let the others finish
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(time.Duration(try) * 100 * time.Microsecond):
			}
		}
	}
	return kv.ErrConflict
}

func (s *Store) updateOnce(ctx context.Context, fn func(kv.Txn) error) error {
	if err := s.use.Enter(ctx); err != nil {
		return err
	}
	defer s.use.Leave()
	tx := s.db.NewTransaction(true)
	defer tx.Discard()
	if err := fn(&txn{ctx: ctx, tx: tx, s: s}); err != nil {
		return err
	}
	return tx.Commit()
}

// Batch implements kv.Store.
func (s *Store) Batch(ctx context.Context, fn func(kv.Writer) error) error {
	if err := s.use.Enter(ctx); err != nil {
		return err
	}
	defer s.use.Leave()
	b := &batch{ctx: ctx, s: s, wb: s.db.NewWriteBatch()}
	defer b.wb.Cancel()
	if err := b.check(false); err != nil {
		return err
	}
	if err := fn(b); err != nil {
		return err
	}
	return translate(b.wb.Flush())
}

// Sync implements kv.Store.
func (s *Store) Sync(ctx context.Context) error {
	if err := s.use.Enter(ctx); err != nil {
		return err
	}
	defer s.use.Leave()
	return s.flush.Wait()
}

// syncFiles flushes the write-ahead logs and the value log. Badger's own Sync leaves out the
// logs of memtables that are full but not yet written as tables, so their files are flushed here
// by name.
func (s *Store) syncFiles() error {
	if s.dir == "" {
		return nil
	}
	logs, err := filepath.Glob(filepath.Join(s.dir, "*.mem"))
	if err != nil {
		return err
	}
	if len(logs) > 1 {
		for _, name := range logs {
			f, err := os.OpenFile(name, os.O_RDWR, 0)
			if errors.Is(err, os.ErrNotExist) {
				continue // written as a table meanwhile
			}
			if err != nil {
				return fmt.Errorf("sync store: %w", err)
			}
			if err := errors.Join(f.Sync(), f.Close()); err != nil {
				return fmt.Errorf("sync store: %w", err)
			}
		}
	}
	if err := s.db.Sync(); err != nil {
		return fmt.Errorf("sync store %s: %w", s.dir, err)
	}
	return nil
}

// valueLogWaste is the share of a value log file that must be dead for it to be written anew.
const valueLogWaste = 0.2

// Compact implements kv.Store. Tables are merged into one level, which drops what is dead in
// them and counts what is dead in the value log; then log files are written anew until none is
// worth it. If there is less room than that needs, it returns a *kv.NoSpaceError.
func (s *Store) Compact(ctx context.Context) error {
	if err := s.use.Enter(ctx); err != nil {
		return err
	}
	defer s.use.Leave()
	if s.dir == "" {
		return nil
	}
	tables, _ := s.db.Size()
	if err := s.checkFree(uint64(tables) + s.opt.Reserve/4); err != nil {
		return err
	}
	if err := s.db.Flatten(2); err != nil {
		return fmt.Errorf("compact store %s: %w", s.dir, translate(err))
	}
	for ctx.Err() == nil {
		if err := s.checkFree(valueLogSize + s.opt.Reserve/4); err != nil {
			return err
		}
		switch err := s.db.RunValueLogGC(valueLogWaste); {
		case errors.Is(err, bdg.ErrNoRewrite), errors.Is(err, bdg.ErrRejected):
			return nil // nothing more to gain, or it is being done already
		case err != nil:
			return fmt.Errorf("compact store %s: %w", s.dir, translate(err))
		}
	}
	return ctx.Err()
}

// Close implements kv.Store. It waits for calls under way: Badger unmaps its tables whoever reads
// them.
func (s *Store) Close() error {
	if !s.use.Close() {
		return nil
	}
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("close store %s: %w", s.dir, err)
	}
	return nil
}

func translate(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, bdg.ErrTxnTooBig):
		return kv.ErrTooBig
	case errors.Is(err, bdg.ErrDBClosed), errors.Is(err, bdg.ErrBlockedWrites):
		return kv.ErrClosed
	}
	return err
}

// txn adapts a Badger transaction.
type txn struct {
	ctx     context.Context
	tx      *bdg.Txn
	s       *Store
	content bool // has been checked for
}

func (t *txn) Get(key []byte) ([]byte, error) {
	item, err := t.item(key)
	if err != nil {
		return nil, err
	}
	return item.ValueCopy(nil)
}

func (t *txn) Peek(key []byte, fn func([]byte) error) error {
	item, err := t.item(key)
	if err != nil {
		return err
	}
	return item.Value(fn)
}

func (t *txn) Has(key []byte) (bool, error) {
	_, err := t.item(key)
	if errors.Is(err, kv.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

func (t *txn) item(key []byte) (*bdg.Item, error) {
	item, err := t.tx.Get(key)
	if errors.Is(err, bdg.ErrKeyNotFound) {
		return nil, kv.ErrNotFound
	}
	return item, err
}

func (t *txn) Scan(r kv.Range, o kv.ScanOptions) iter.Seq2[kv.Pair, error] {
	return func(yield func(kv.Pair, error) bool) {
		it := t.tx.NewIterator(bdg.IteratorOptions{Reverse: o.Reverse, Prefix: commonPrefix(r)})
		defer it.Close()
		low, high := max(string(r.From), "\x01"), string(r.To) // keys below 0x01 are the store's own
		if o.Reverse {
			// Badger seeks backwards to the greatest key <= the one given; To itself is not in the range.
			if r.To == nil {
				it.Rewind()
			} else {
				it.Seek(r.To)
				if it.Valid() && string(it.Item().Key()) == high {
					it.Next()
				}
			}
		} else {
			it.Seek([]byte(low))
		}
		for n := 0; it.Valid(); it.Next() {
			item := it.Item()
			key := item.Key()
			if o.Reverse && string(key) < low || !o.Reverse && r.To != nil && string(key) >= high {
				return
			}
			if n++; n%256 == 0 && t.ctx.Err() != nil {
				yield(kv.Pair{}, t.ctx.Err())
				return
			}
			if o.KeysOnly {
				if !yield(kv.Pair{Key: key}, nil) {
					return
				}
				continue
			}
			more := true
			if err := item.Value(func(v []byte) error {
				more = yield(kv.Pair{Key: key, Value: v}, nil)
				return nil
			}); err != nil {
				yield(kv.Pair{}, fmt.Errorf("scan: read value: %w", err))
				return
			}
			if !more {
				return
			}
		}
	}
}

// commonPrefix returns what all keys of a range begin with: tables that hold none of these are
// left out of a scan, which is most of the cost of a short one.
func commonPrefix(r kv.Range) []byte {
	n := 0
	for n < len(r.From) && n < len(r.To) && r.From[n] == r.To[n] {
		n++
	}
	return r.From[:n]
}

func (t *txn) Set(key, value []byte) error {
	if err := kv.CheckSizes(key, value); err != nil {
		return err
	}
	if len(value) >= contentSize && !t.content {
		if err := t.s.checkSpace(needOf(t.ctx, true)); err != nil {
			return err
		}
		t.content = true
	}
	return t.tx.Set(key, value)
}

func (t *txn) Delete(key []byte) error {
	if err := kv.CheckSizes(key, nil); err != nil {
		return err
	}
	return t.tx.Delete(key)
}

// batch adapts a Badger write batch, asking for free space again after every checkEvery bytes.
type batch struct {
	ctx     context.Context
	s       *Store
	wb      *bdg.WriteBatch
	pending int
	content bool // has been checked for
}

const checkEvery = 8 << 20

func (b *batch) check(isContent bool) error {
	if err := b.ctx.Err(); err != nil {
		return err
	}
	b.pending = 0
	return b.s.checkSpace(needOf(b.ctx, isContent))
}

func (b *batch) Set(key, value []byte) error {
	if err := kv.CheckSizes(key, value); err != nil {
		return err
	}
	isContent := len(value) >= contentSize
	if b.pending += len(key) + len(value); b.pending > checkEvery || isContent && !b.content {
		b.content = b.content || isContent
		if err := b.check(b.content); err != nil {
			return err
		}
	}
	return translate(b.wb.Set(key, value))
}

func (b *batch) Delete(key []byte) error {
	if err := kv.CheckSizes(key, nil); err != nil {
		return err
	}
	if b.pending += len(key) + 64; b.pending > checkEvery {
		if err := b.check(false); err != nil {
			return err
		}
	}
	return translate(b.wb.Delete(key))
}
