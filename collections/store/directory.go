package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/skerry-sync/skerry/internal/disk"
)

// Directory keeps each object in a file of its own. One process at a time may write to it.
//
// The object under a/b lies in a/b~ and its media type, unless it is defaultType, in a/b~type; what
// is written first lies in a file whose name begins with "~". Bytes of a segment other than letters
// and digits of ASCII and "._@-" are written as % and two hex digits, so that no object's file is
// in the way of another's directory.
type Directory struct {
	root string
	// whoever writes excludes all others: the condition of a Put and the two files of an object belong
	// together
	mu sync.RWMutex
}

const defaultType = "application/json"

// ErrCase reports a file system that takes names which differ in case for the same.
var ErrCase = errors.New("the file system does not tell upper from lower case")

// OpenDirectory opens a directory, which it makes if there is none. It returns an error that is
// ErrCase.
func OpenDirectory(root string) (*Directory, error) {
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, err
	}
	probe, err := os.CreateTemp(root, "~Probe")
	if err != nil {
		return nil, err
	}
	_, other := os.Stat(filepath.Join(root, strings.ToLower(filepath.Base(probe.Name()))))
	if err := errors.Join(probe.Close(), os.Remove(probe.Name())); err != nil {
		return nil, err
	}
	if other == nil {
		return nil, fmt.Errorf("%s: %w", root, ErrCase)
	}
	return &Directory{root: root}, nil
}

func escape(segment string) string {
	plain := func(c byte) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' ||
			strings.IndexByte("._@-", c) >= 0
	}
	var b strings.Builder
	for i := range len(segment) {
		if c := segment[i]; plain(c) {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02x", c)
		}
	}
	return b.String()
}

func unescape(name string) string {
	var b strings.Builder
	for i := 0; i < len(name); i++ {
		var c byte
		if n, _ := fmt.Sscanf(name[i:], "%%%02x", &c); n == 1 {
			b.WriteByte(c)
			i += 2
		} else {
			b.WriteByte(name[i])
		}
	}
	return b.String()
}

func (d *Directory) path(key string) string {
	segments := strings.Split(key, "/")
	for i, s := range segments {
		segments[i] = escape(s)
	}
	return filepath.Join(d.root, filepath.Join(segments...)) + "~"
}

// maxName is how long the name of a file may be, in bytes, in all file systems.
const maxName = 255

// holds reports whether there can be something under a key: a file, and one beside it for its type.
func holds(key string) bool {
	for s := range strings.SplitSeq(key, "/") {
		if len(escape(s))+len("~type") > maxName {
			return false
		}
	}
	return true
}

// Get implements Store.
func (d *Directory) Get(_ context.Context, key string) (*Object, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.get(key)
}

func (d *Directory) get(key string) (*Object, error) {
	if !holds(key) {
		return nil, ErrNotFound
	}
	path := d.path(key)
	body, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	o := &Object{Body: body, Type: defaultType, Tag: tagOf(body)}
	switch kind, err := os.ReadFile(path + "type"); {
	case err == nil:
		o.Type = string(kind)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	return o, nil
}

// Put implements Store.
func (d *Directory) Put(_ context.Context, key string, o *Object, if_ Condition) error {
	if !holds(key) {
		return ErrKey
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, given := if_.Tag(); given {
		now, err := d.get(key)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		if !if_.met(now) {
			return ErrChanged
		}
	}
	path := d.path(key)
	dir := filepath.Dir(path)
	made, err := d.mkdir(dir)
	if err != nil {
		return err
	}
	if o.Type != "" && o.Type != defaultType {
		err = replace(path+"type", []byte(o.Type))
	} else if err = os.Remove(path + "type"); errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err == nil {
		err = replace(path, o.Body)
	}
	for ; err == nil && len(made) > 0; made = made[1:] {
		err = disk.SyncDir(filepath.Dir(made[0]))
	}
	if err == nil {
		err = disk.SyncDir(dir)
	}
	return err
}

// mkdir makes a directory with its parents and returns those that were not there.
func (d *Directory) mkdir(dir string) (made []string, err error) {
	for at := dir; at != d.root; at = filepath.Dir(at) {
		if _, err := os.Stat(at); err == nil {
			break
		}
		made = append(made, at)
	}
	return made, os.MkdirAll(dir, 0o700)
}

// replace puts a file in the place of another, so that there is always the one or the other.
func replace(path string, body []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "~")
	if err != nil {
		return err
	}
	_, err = f.Write(body)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// List implements Store.
func (d *Directory) List(
	ctx context.Context, prefix, after string, limit int,
) (all []string, err error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	above := prefix[:strings.LastIndexByte(prefix, '/')+1] // what all keys lie under
	if !holds(above) {
		return nil, nil
	}
	dir := strings.TrimSuffix(d.path(strings.TrimSuffix(above, "/")), "~")
	if above == "" {
		dir = d.root
	}
	if err := d.walk(ctx, dir, above, prefix, after, &all); err != nil {
		return nil, err
	}
	slices.Sort(all)
	return all[:min(limit, len(all))], nil
}

func (d *Directory) walk(
	ctx context.Context, dir, above, prefix, after string, all *[]string,
) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		if !e.IsDir() {
			if segment, ok := strings.CutSuffix(name, "~"); ok && segment != "" {
				if key := above + unescape(segment); strings.HasPrefix(key, prefix) && key > after {
					*all = append(*all, key)
				}
			}
			continue
		}
		inner := above + unescape(name) + "/"
		begins := strings.HasPrefix(inner, prefix) || strings.HasPrefix(prefix, inner)
		if begins && (inner > after || strings.HasPrefix(after, inner)) {
			if err := d.walk(ctx, filepath.Join(dir, name), inner, prefix, after, all); err != nil {
				return err
			}
		}
	}
	return nil
}

// Delete implements Store.
func (d *Directory) Delete(_ context.Context, key string) error {
	if !holds(key) {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	path := d.path(key)
	for _, name := range []string{path, path + "type"} {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := disk.SyncDir(filepath.Dir(path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Close implements Store.
func (d *Directory) Close() error { return nil }
