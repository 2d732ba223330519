package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/skerry-sync/skerry/internal/disk"
	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/kv/badger"
	"github.com/skerry-sync/skerry/kv/pebble"
)

// Names in the data directory. Earlier versions had a Badger database at oldStoreDir; there is a file of that name now, so that these refuse the
// directory and do not begin a store of their own in it.
const (
	storeDir    = "kv"
	newStoreDir = "kv.new" // being copied, worth nothing yet
	oldStoreDir = "store"
)

const oldStoreNote = "The store lies in the directory " + storeDir + " now. This file keeps programs of earlier versions from making another.\n"

// openStore opens the key-value store of the data directory, after moving an earlier version's to where it belongs now.
func (n *Node) openStore(ctx context.Context) (kv.Store, error) {
	at := func(name string) string { return filepath.Join(n.cfg.Dir, name) }
	if n.cfg.Store.FS != nil {
		store, err := pebble.Open(storeDir, n.cfg.Store)
		if err != nil {
			return nil, err
		}
		return store, nil
	}
	if err := finishSalvage(n.cfg.Dir); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	_, err := os.Stat(at(storeDir))
	moved := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open store: %w", err)
	}
	old, err := os.Stat(at(oldStoreDir))
	isOld := err == nil && old.IsDir()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open store: %w", err)
	}
	if isOld && !moved {
		if err := n.copyStore(ctx, at(oldStoreDir), at(newStoreDir)); err != nil {
			return nil, fmt.Errorf("move the store of an earlier version: %w", err)
		}
		if err := os.Rename(at(newStoreDir), at(storeDir)); err != nil {
			return nil, fmt.Errorf("move the store of an earlier version: %w", err)
		}
		if err := disk.SyncDir(n.cfg.Dir); err != nil {
			return nil, fmt.Errorf("move the store of an earlier version: %w", err)
		}
	}
	if isOld {
		if err := os.RemoveAll(at(oldStoreDir)); err != nil {
			return nil, fmt.Errorf("remove the store of an earlier version: %w", err)
		}
	}
	store, err := pebble.Open(at(storeDir), n.cfg.Store)
	if err != nil {
		return nil, err
	}
	if isOld || old == nil {
		if err := os.WriteFile(at(oldStoreDir), []byte(oldStoreNote), 0o600); err != nil {
			return nil, errors.Join(fmt.Errorf("open store: %w", err), store.Close())
		}
	}
	return store, nil
}

func (n *Node) copyStore(ctx context.Context, from, to string) error {
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	n.log.Info("moving the store of an earlier version")
	store, err := pebble.Open(to, n.cfg.Store)
	if err != nil {
		return err
	}
	err = badger.Copy(ctx, from, store, func(records int) { n.log.Info("moving the store of an earlier version", "records", records) })
	return errors.Join(err, store.Close())
}
