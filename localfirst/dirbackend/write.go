package dirbackend

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/skerry-sync/skerry/internal/disk"
)

const (
	// newName is what a file is called until it is whole. One that a killed process has left is
	// removed by the next.
	newName = ".new"
	// knownName is the file with the keys that had a file once, one on a line as parts writes it,
	// with slashes. A last line without end was not written whole.
	knownName = ".keys"
)

// place is a directory that is open.
type place struct {
	root *os.Root
	sub  bool
}

func (p place) close() {
	if p.sub {
		_ = p.root.Close() // nothing was written through it that is not synced
	}
}

// place returns the directory of a key's file, and its name there. With create it is made.
func (d *Dir[T]) place(key string, create bool) (p place, base string, err error) {
	dirs, base := parts(key)
	p = place{root: d.root}
	for _, name := range dirs {
		if create {
			err := p.root.Mkdir(name, 0o777)
			if err == nil {
				err = disk.SyncRoot(p.root)
			}
			if err != nil && !errors.Is(err, fs.ErrExist) {
				p.close()
				return p, "", err
			}
		}
		sub, err := disk.OpenDirIn(p.root, name)
		p.close()
		if err != nil {
			return p, "", err
		}
		p = place{sub, true}
	}
	return p, base + d.c.Ext, nil
}

// write replaces a value: whole, or not at all.
func (d *Dir[T]) write(key string, value T) error {
	b, err := d.c.Codec.Encode(value)
	if err != nil {
		return err
	}
	if len(b) > MaxSize {
		return ErrTooLarge
	}
	if err := d.know([]string{key}, false); err != nil {
		return err
	}
	at, base, err := d.place(key, true)
	if err != nil {
		return err
	}
	defer at.close()
	return replace(at.root, base, b)
}

// replace puts a file in the place of another, which keeps its mode, or of none.
func replace(root *os.Root, name string, content []byte) (err error) {
	if err := root.Remove(newName); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	st, err := root.Lstat(name)
	mode := fs.FileMode(0o666)
	if err == nil {
		if !st.Mode().IsRegular() {
			return &disk.NotRegularError{Path: name, Mode: st.Mode()}
		}
		mode = st.Mode().Perm()
	}
	was := err == nil
	f, err := root.OpenFile(newName, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil && was {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = root.Rename(newName, name)
	}
	if err != nil {
		return errors.Join(err, root.Remove(newName))
	}
	return disk.SyncRoot(root)
}

// remove removes a value, and directories that have become empty.
func (d *Dir[T]) remove(key string) error {
	at, base, err := d.place(key, false)
	if err != nil {
		return err
	}
	defer at.close()
	st, err := at.root.Lstat(base)
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() {
		return &disk.NotRegularError{Path: base, Mode: st.Mode()}
	}
	if err := at.root.Remove(base); err != nil {
		return err
	}
	if err := disk.SyncRoot(at.root); err != nil {
		return err
	}
	dirs, _ := parts(key)
	for n := len(dirs); n > 0; n-- {
		if d.root.Remove(strings.Join(dirs[:n], "/")) != nil {
			break // there is something in it
		}
	}
	return nil
}

// readKnown reads the keys that had a file once.
func (d *Dir[T]) readKnown() error {
	f, err := disk.OpenIn(d.root, knownName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	r := bufio.NewReader(f)
	for {
		line, err := r.ReadString('\n')
		if errors.Is(err, io.EOF) {
			if line != "" {
				return d.writeKnown() // a line that was not written whole is taken away
			}
			return nil
		}
		if err != nil {
			return err
		}
		names := strings.Split(strings.TrimSuffix(line, "\n"), "/")
		if key, ok := keyOf(names[:len(names)-1], names[len(names)-1]); ok {
			d.known[key] = true
		}
	}
}

func line(key string) string {
	dirs, base := parts(key)
	return strings.Join(append(dirs, base), "/") + "\n"
}

// know notes keys. Of a key that has a file it need not be durable: after a loss of power it is
// noted again.
func (d *Dir[T]) know(keys []string, durable bool) error {
	var lines strings.Builder
	for _, key := range keys {
		if !d.known[key] {
			lines.WriteString(line(key))
		}
	}
	if lines.Len() == 0 {
		return nil
	}
	if st, err := d.root.Lstat(knownName); err == nil && !st.Mode().IsRegular() {
		return &disk.NotRegularError{Path: knownName, Mode: st.Mode()}
	}
	f, err := d.root.OpenFile(knownName, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o666)
	if err != nil {
		return err
	}
	_, err = f.WriteString(lines.String())
	if err == nil && durable {
		err = errors.Join(f.Sync(), disk.SyncRoot(d.root))
	}
	if err = errors.Join(err, f.Close()); err != nil {
		// Part of it may be there: the file is written anew.
		return errors.Join(err, d.writeKnown())
	}
	for _, key := range keys {
		d.known[key] = true
	}
	return nil
}

func (d *Dir[T]) writeKnown() error {
	var all strings.Builder
	for key := range d.known {
		all.WriteString(line(key))
	}
	return replace(d.root, knownName, []byte(all.String()))
}

func (d *Dir[T]) failedKeys(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("directory %s: its keys: %w", d.c.Dir, err)
}

// Want adds keys to the scope, of which no values need to be here.
func (d *Dir[T]) Want(keys ...string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.failedKeys(d.know(keys, true))
}

// Forget takes keys out of the scope. Those of which files are here stay in it.
func (d *Dir[T]) Forget(keys ...string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, key := range keys {
		delete(d.known, key)
	}
	return d.failedKeys(d.writeKnown())
}
