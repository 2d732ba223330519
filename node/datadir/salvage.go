package datadir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/skerry-sync/skerry/internal/disk"
	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/kv/pebble"
)

// salvagedDir is where the store that Salvage makes waits for its place. It is whole once
// storeDir is out of the way.
const salvagedDir = "kv.salvaged"

// DamagedStore is a file of the store that could not be read whole.
type DamagedStore struct {
	File  string `json:"file"`
	Cause string `json:"cause"`
	// what may have been in the damaged part; all kinds if empty
	Kinds []string `json:"kinds,omitempty"`
}

// Salvaged is what Salvage has done.
type Salvaged struct {
	Records uint64         // that were kept
	Damaged []DamagedStore // files of the store
	Old     string         // where the damaged store is kept; empty if nothing was damaged
}

// Salvage puts a new store, of all that can be read, in the place of a damaged one, which it
// keeps. A store in which nothing is damaged stays as it is. No process may have the directory
// open. See package repair for what is to follow.
func Salvage(
	ctx context.Context, dir, command string, o pebble.Options,
) (out Salvaged, err error) {
	at := func(name string) string { return filepath.Join(dir, name) }
	if _, err := os.Stat(at(lockName)); err != nil {
		return out, fmt.Errorf("%s is no data directory: %w", dir, err)
	}
	d, err := acquire(dir, command)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	if err := finishSalvage(dir); err != nil {
		return out, err
	}
	if err := os.RemoveAll(at(salvagedDir)); err != nil { // of a run that was cut short
		return out, err
	}
	got, err := pebble.Salvage(ctx, at(storeDir), at(salvagedDir), o)
	if err != nil {
		return out, err
	}
	out.Records = got.Records
	if len(got.Damaged) == 0 {
		return out, os.RemoveAll(at(salvagedDir))
	}
	for _, x := range got.Damaged {
		out.Damaged = append(out.Damaged, DamagedStore{x.File, x.Cause, kindsOf(x.Lost)})
	}
	if err := pebble.DropBallast(at(storeDir)); err != nil {
		return out, err
	}
	out.Old = at(storeDir + ".damaged-" + time.Now().UTC().Format("20060102-150405"))
	if err := os.Rename(at(storeDir), out.Old); err != nil {
		return out, err
	}
	return out, finishSalvage(dir)
}

// finishSalvage gives the new store its place, if the old one has left it.
func finishSalvage(dir string) error {
	_, err := os.Stat(filepath.Join(dir, storeDir))
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err = os.Rename(filepath.Join(dir, salvagedDir), filepath.Join(dir, storeDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return errors.Join(err, disk.SyncDir(dir))
}

// kindsOf names what the keys of some ranges are of.
func kindsOf(lost []kv.Range) (out []string) {
	for _, kind := range []struct {
		first byte
		name  string
	}{{'b', "content"}, {'n', "peers and settings of the node"}, {'r',
		"replicas, entries and keys"}, {'s', "registrations of a seed"}} {
		for _, r := range lost {
			before := r.To != nil && (len(r.To) == 0 || r.To[0] < kind.first)
			after := len(r.From) > 0 && r.From[0] > kind.first
			if !before && !after {
				out = append(out, kind.name)
				break
			}
		}
	}
	return out
}
