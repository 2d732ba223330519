// Package badger reads the Badger database in which earlier versions kept what now lies in package pebble.
//
// What belongs here: copying such a store. What never belongs here: anything that writes one.
package badger

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	bdg "github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"

	"github.com/skerry-sync/skerry/kv"
)

// lastVersion is the format version that was last written to Badger databases (docs/protocol/storage.md).
const lastVersion = 3

// versionKey sorts before every other key and holds the version as one varint.
var versionKey = []byte{0x00, 'v'}

// Copy writes all records of the store in dir to another one, which then holds what dir held. It reports progress every million records. What dir
// holds stays as it is, but for logs that are read again after a crash. It returns *kv.LockedError when another process has dir open and
// *kv.VersionError when dir has a later version.
func Copy(ctx context.Context, dir string, to kv.Store, progress func(records int)) (err error) {
	db, err := bdg.Open(bdg.DefaultOptions(dir).
		WithLogger(nil).
		WithMetricsEnabled(false).
		WithMemTableSize(8 << 20).
		WithBaseTableSize(4 << 20).
		WithBaseLevelSize(64 << 20).
		WithValueThreshold(64 << 10).
		WithBlockCacheSize(0).
		WithCompression(options.None))
	if err != nil {
		if strings.Contains(err.Error(), "Another process is using") || strings.Contains(err.Error(), "Cannot acquire directory lock") {
			return &kv.LockedError{Dir: dir}
		}
		return fmt.Errorf("open store of an earlier version %s: %w", dir, err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	tx := db.NewTransaction(false)
	defer tx.Discard()
	if err := checkVersion(dir, tx); err != nil {
		return err
	}
	records := 0
	err = to.Batch(ctx, func(w kv.Writer) error {
		it := tx.NewIterator(bdg.IteratorOptions{PrefetchValues: false})
		defer it.Close()
		for it.Seek([]byte{1}); it.Valid(); it.Next() { // keys below are the store's own
			key := it.Item().KeyCopy(nil)
			value, err := it.Item().ValueCopy(nil)
			if err != nil {
				return fmt.Errorf("read %x: %w", key, err)
			}
			if err := w.Set(key, value); err != nil {
				return err
			}
			if records++; records%1_000_000 == 0 {
				progress(records)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("copy store of an earlier version %s: %w", dir, err)
	}
	return to.Sync(ctx)
}

func checkVersion(dir string, tx *bdg.Txn) error {
	item, err := tx.Get(versionKey)
	if errors.Is(err, bdg.ErrKeyNotFound) {
		return nil // the program was killed at its first start
	}
	if err != nil {
		return fmt.Errorf("read version of %s: %w", dir, err)
	}
	return item.Value(func(v []byte) error {
		if have, n := binary.Uvarint(v); n <= 0 || have > lastVersion {
			return &kv.VersionError{Dir: dir, Have: int(have), Max: lastVersion}
		}
		return nil
	})
}
