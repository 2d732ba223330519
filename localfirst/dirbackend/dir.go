// Package dirbackend is a store of an app's values in a directory, with a file for each value: a
// backend for package localfirst. Other programs may read and change the files.
//
// What belongs here: names of files for keys, and values read and replaced whole. What never
// belongs here: trees of files that a person arranges, which a folder is for (package project), and
// the engine's own store.
//
// Start at [Open].
package dirbackend

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/skerry-sync/skerry/internal/disk"
	"github.com/skerry-sync/skerry/internal/kind"
	"github.com/skerry-sync/skerry/localfirst"
)

// Config is for Open. Dir and Codec must be given.
type Config[T any] struct {
	// Dir is the directory. It is made if it is not there.
	Dir string
	// Ext is the end of all names, such as ".json": a dot, and up to 16 small letters and digits. It
	// may be empty. Files of other names are left alone.
	Ext string
	// Codec writes values into files and reads them.
	Codec localfirst.Codec[T]
	// Keys returns keys of values that may be elsewhere and are wanted here. It may be nil.
	Keys func(ctx context.Context) ([]string, error)
}

// MaxSize is the most bytes of a value.
const MaxSize = 256 << 20

// Errors of a directory.
var (
	ErrConfig = kind.New(kind.Usage, "a directory of values needs a codec, and an extension of a dot "+
		"and small letters and digits, or none")
	ErrTooLarge = kind.New(kind.NoSpace, "a value has at most 256 MiB")
	// ErrName reports a file whose name stands for no key.
	ErrName = kind.New(kind.Usage, "the name is that of no key")
)

// Dir is a localfirst.ConditionalValueBackend and a localfirst.DeletingBackend. One process may
// have a directory open at a time. Its methods may be called at the same time; the app writes
// through them, too.
//
// Files are replaced whole, and are durable when a call returns. Links are not followed, and are no
// values. What other programs write is seen by the next Snapshot, also half of it if they do not
// replace files whole; what they write between the two steps of one call here is lost, and has no
// lock that would prevent it.
//
// A file that cannot be read as a value fails one pass, is out of the scope from then on, and in
// Problems: it is neither published nor taken for deleted until it can be read.
//
// Keys of files that are gone stay in the scope, so that the deletion is published, until Forget.
// They are kept in the file ".keys".
type Dir[T any] struct {
	c    Config[T]
	root *os.Root

	mu    sync.Mutex
	known map[string]bool  // keys that had a file once, or are wanted
	bad   map[string]error // by key: files that cannot be read as values
	other map[string]error // by name: what is no value
}

// Open opens a directory.
func Open[T any](c Config[T]) (*Dir[T], error) {
	if c.Codec == nil || !validExt(c.Ext) {
		return nil, fmt.Errorf("directory %s, extension %q: %w", c.Dir, c.Ext, ErrConfig)
	}
	if err := os.MkdirAll(c.Dir, 0o777); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(c.Dir)
	if err != nil {
		return nil, err
	}
	d := &Dir[T]{c: c, root: root, known: map[string]bool{}, bad: map[string]error{}}
	if err := d.readKnown(); err != nil {
		return nil, errors.Join(d.failedKeys(err), root.Close())
	}
	return d, nil
}

func validExt(ext string) bool {
	if ext == "" {
		return true
	}
	return ext[0] == '.' && len(ext) >= 2 && len(ext) <= 17 && strings.Trim(ext[1:],
		"abcdefghijklmnopqrstuvwxyz0123456789") == ""
}

// Close closes the directory. No other method may be called after it.
func (d *Dir[T]) Close() error { return d.root.Close() }

func (d *Dir[T]) failed(key string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("directory %s, key %q: %w", d.c.Dir, key, err)
}

// Problems returns what is in the directory and is no value, by the names of the files: those that
// cannot be read, as the last pass found them, and others that are not the backend's.
func (d *Dir[T]) Problems() map[string]error {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := maps.Clone(d.other)
	if all == nil {
		all = map[string]error{}
	}
	for key, err := range d.bad {
		all[d.Name(key)] = err
	}
	return all
}

// Name returns the name of a key's file, below the directory, with slashes.
func (d *Dir[T]) Name(key string) string {
	dirs, base := parts(key)
	return strings.Join(append(dirs, base+d.c.Ext), "/")
}

// read reads a value. It returns fs.ErrNotExist if there is none.
func (d *Dir[T]) read(key string) (v T, st fs.FileInfo, err error) {
	at, base, err := d.place(key, false)
	if err != nil {
		return v, nil, err
	}
	defer at.close()
	f, err := disk.OpenIn(at.root, base)
	if err != nil {
		return v, nil, err
	}
	defer f.Close()
	if f.Size > MaxSize {
		return v, nil, ErrTooLarge
	}
	b, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err != nil {
		return v, nil, err
	}
	if len(b) > MaxSize {
		return v, nil, ErrTooLarge
	}
	v, err = d.c.Codec.Decode(b)
	return v, f.Info, err
}

// current is read, where none is no error.
func (d *Dir[T]) current(key string) (v T, st fs.FileInfo, err error) {
	v, st, err = d.read(key)
	if errors.Is(err, fs.ErrNotExist) {
		return v, nil, nil
	}
	return v, st, err
}

// same compares values as the codec writes them.
func (d *Dir[T]) same(a, b T) (bool, error) {
	x, err := d.c.Codec.Encode(a)
	if err != nil {
		return false, err
	}
	y, err := d.c.Codec.Encode(b)
	return string(x) == string(y), err
}

// Get implements localfirst.ValueBackend.
func (d *Dir[T]) Get(_ context.Context, key string) (T, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	v, _, err := d.read(key)
	if errors.Is(err, fs.ErrNotExist) {
		err = localfirst.ErrNotFound
	}
	return v, d.failed(key, err)
}

// Set implements localfirst.ValueBackend.
func (d *Dir[T]) Set(_ context.Context, key string, value T) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.failed(key, d.write(key, value))
}

// SetIfCurrent implements localfirst.ConditionalValueBackend.
func (d *Dir[T]) SetIfCurrent(
	_ context.Context, key string, current T, found bool, value T,
) (done bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now, st, err := d.current(key)
	if err != nil {
		return false, d.failed(key, err)
	}
	if done = found == (st != nil); done && found {
		done, err = d.same(now, current)
	}
	if err != nil || !done {
		return false, d.failed(key, err)
	}
	err = d.write(key, value)
	return err == nil, d.failed(key, err)
}

// DeleteIfCurrent implements localfirst.DeletingBackend.
func (d *Dir[T]) DeleteIfCurrent(_ context.Context, key string, current T) (done bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now, st, err := d.current(key)
	if err == nil && st != nil {
		done, err = d.same(now, current)
	}
	if err != nil || !done {
		return false, d.failed(key, err)
	}
	err = d.remove(key)
	return err == nil, d.failed(key, err)
}

// Delete deletes a value, as an app does. Its key stays in the scope.
func (d *Dir[T]) Delete(_ context.Context, key string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	err := d.remove(key)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return d.failed(key, err)
}

// Snapshot implements localfirst.ValueBackend.
func (d *Dir[T]) Snapshot(ctx context.Context) (map[string]T, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	keys, err := d.list()
	if err != nil {
		return nil, fmt.Errorf("directory %s: %w", d.c.Dir, err)
	}
	all := make(map[string]T, len(keys))
	var failed error
	for _, key := range keys {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		v, _, err := d.read(key)
		switch {
		case errors.Is(err, fs.ErrNotExist): // it has gone meanwhile
		case err == nil && d.bad[key] == nil:
			all[key] = v
		case err != nil && d.bad[key] == nil:
			// Keys had it in the scope: it must not be taken for one that was deleted.
			d.bad[key] = err
			failed = errors.Join(failed, d.failed(key, err))
		}
	}
	return all, failed
}

// Keys implements localfirst.ValueBackend.
func (d *Dir[T]) Keys(ctx context.Context) ([]string, error) {
	var wanted []string
	if d.c.Keys != nil {
		var err error
		if wanted, err = d.c.Keys(ctx); err != nil {
			return nil, err
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	keys, err := d.list()
	if err == nil {
		err = d.know(keys, false)
	}
	if err != nil {
		return nil, fmt.Errorf("directory %s: %w", d.c.Dir, err)
	}
	for key := range d.bad {
		if _, _, err := d.current(key); err == nil {
			delete(d.bad, key)
		} else {
			d.bad[key] = err
		}
	}
	all := map[string]bool{}
	for _, some := range [][]string{keys, wanted, slices.Collect(maps.Keys(d.known))} {
		for _, key := range some {
			all[key] = d.bad[key] == nil
		}
	}
	maps.DeleteFunc(all, func(_ string, in bool) bool { return !in })
	return slices.Collect(maps.Keys(all)), nil
}

// list returns the keys of all files, and notes what else is there.
func (d *Dir[T]) list() (keys []string, err error) {
	d.other = map[string]error{}
	err = d.walk(d.root, nil, &keys)
	return keys, err
}

func (d *Dir[T]) walk(root *os.Root, dirs []string, keys *[]string) error {
	f, err := root.Open(".")
	if err != nil {
		return err
	}
	entries, err := f.ReadDir(-1)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		if strings.HasPrefix(name, ".") { // ours, or hidden by a person
			continue
		}
		at := strings.Join(append(slices.Clone(dirs), name), "/")
		base, is := strings.CutSuffix(name, d.c.Ext)
		switch {
		case e.IsDir() && strings.HasSuffix(name, "~"):
			sub, err := disk.OpenDirIn(root, name)
			if err == nil {
				err = errors.Join(d.walk(sub, append(slices.Clone(dirs), name), keys), sub.Close())
			}
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("%s: %w", at, err)
			}
		case !e.Type().IsRegular():
			d.other[at] = &disk.NotRegularError{Path: at, Mode: e.Type()}
		default:
			key, ok := keyOf(dirs, base)
			if !is || !ok || !utf8.ValidString(key) || len(key) > localfirst.MaxKey {
				d.other[at] = fmt.Errorf("%q: %w", at, ErrName)
				continue
			}
			*keys = append(*keys, key)
		}
	}
	return nil
}
