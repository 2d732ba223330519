package disk

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
)

// Ballast is a file that holds nothing and takes room, so that there is some to be had when a disk
// is full: what removes things has to write first.
type Ballast struct {
	path string
	size int64

	mu     sync.Mutex
	kept   bool
	failed error // of the last attempt; it is not tried again until Drop
}

// NewBallast returns the ballast of size bytes at path, as it is there now.
func NewBallast(path string, size uint64) *Ballast {
	b := &Ballast{path: path, size: int64(size)}
	info, err := os.Lstat(path)
	b.kept = err == nil && info.Mode().IsRegular() && info.Size() == b.size
	return b
}

// Kept reports whether the ballast takes its room now.
func (b *Ballast) Kept() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.kept
}

// Keep takes the room, unless it is taken. After an error nothing is taken, and calls get the same
// error until Drop was called.
func (b *Ballast) Keep() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.kept || b.failed != nil {
		return b.failed
	}
	if err := b.write(); err != nil {
		err = errors.Join(fmt.Errorf("take room for later: %w", err), b.remove())
		b.failed = err
		return err
	}
	b.kept = true
	return nil
}

func (b *Ballast) write() error {
	f, err := os.OpenFile(b.path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	err = allocate(f, b.size)
	if errors.Is(err, errors.ErrUnsupported) {
		err = b.fill(f)
	}
	return errors.Join(err, f.Close())
}

// fill writes what no file system makes smaller.
func (b *Ballast) fill(f *os.File) error {
	part := make([]byte, 1<<20)
	for at := int64(0); at < b.size; at += int64(len(part)) {
		part = part[:min(int64(len(part)), b.size-at)]
		_, _ = rand.Read(part) // never fails
		if _, err := f.WriteAt(part, at); err != nil {
			return err
		}
	}
	return nil
}

// Drop gives the room back, and reports whether there was any.
func (b *Ballast) Drop() (bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	was := b.kept
	return was, b.remove()
}

func (b *Ballast) remove() error {
	b.kept, b.failed = false, nil
	if err := os.Remove(b.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("give room back: %w", err)
	}
	return nil
}
