package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/kv/pebble"
)

// storeDir is the key-value store in the data directory. Programs of before the first release had a
// Badger database at oldStoreDir.
const (
	storeDir    = "kv"
	oldStoreDir = "store"
)

// OpenStore opens the key-value store of the data directory. It returns *kv.OldFormatError for a
// directory of before the first release, and what [pebble.Open] returns.
func (d *Dir) OpenStore(o pebble.Options) (kv.Store, error) {
	if o.FS != nil {
		return openPebble(storeDir, o)
	}
	if err := finishSalvage(d.path); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	old := filepath.Join(d.path, oldStoreDir)
	if i, err := os.Stat(old); err == nil && i.IsDir() {
		return nil, &kv.OldFormatError{Dir: old}
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open store: %w", err)
	}
	return openPebble(filepath.Join(d.path, storeDir), o)
}

func openPebble(dir string, o pebble.Options) (kv.Store, error) {
	s, err := pebble.Open(dir, o)
	if err != nil {
		return nil, err // and no interface that holds nothing
	}
	return s, nil
}
