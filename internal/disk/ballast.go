package disk

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"
)

// Ballast is a file that holds nothing and takes room, so that there is some to be had when a disk
// is full: what removes things has to write first.
type Ballast struct {
	path string
	size int64

	mu     sync.Mutex
	failed error     // of the last attempt
	when   time.Time // of it
}

// againAfter is how long Keep waits after an attempt that failed: it can cost much.
const againAfter = time.Minute

// NewBallast returns the ballast of size bytes at path.
func NewBallast(path string, size uint64) *Ballast {
	return &Ballast{path: path, size: int64(size)}
}

// Kept reports whether the ballast takes its room now. Others may have dropped it.
func (b *Ballast) Kept() bool {
	info, err := os.Lstat(b.path)
	return err == nil && info.Mode().IsRegular() && info.Size() == b.size
}

// Keep takes the room, unless it is taken. After an error nothing is taken, and calls get the same
// error for a minute, or until Drop was called.
func (b *Ballast) Keep() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.Kept() {
		return nil
	}
	if b.failed != nil && time.Since(b.when) < againAfter {
		return b.failed
	}
	if err := b.write(); err != nil {
		err = errors.Join(fmt.Errorf("take room for later: %w", err), b.remove())
		b.failed, b.when = err, time.Now()
		return err
	}
	b.failed = nil
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
	b.failed = nil
	was := b.Kept()
	return was, b.remove()
}

func (b *Ballast) remove() error {
	if err := os.Remove(b.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("give room back: %w", err)
	}
	return nil
}
