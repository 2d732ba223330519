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
	now  func() time.Time

	mu     sync.Mutex
	looked time.Time     // when the room was last seen to be taken
	failed error         // of the last attempt
	when   time.Time     // of it
	pause  time.Duration // after it
}

const (
	// lookAgain is for how long Keep believes that the room is taken still.
	lookAgain = time.Second
	// firstAgain is how long Keep waits after an attempt that failed, and twice as long after each
	// further one, up to lastAgain. An attempt can cost much, and take from others what is left
	// meanwhile: where a quota is used up, the file system may say that there is room.
	firstAgain = time.Minute
	lastAgain  = 24 * time.Hour
)

// NewBallast returns the ballast of size bytes at path.
func NewBallast(path string, size uint64) *Ballast {
	return &Ballast{path: path, size: int64(size), now: time.Now}
}

// Kept reports whether the ballast takes its room now. Others may have dropped it.
func (b *Ballast) Kept() bool {
	info, err := os.Lstat(b.path)
	return err == nil && info.Mode().IsRegular() && info.Size() == b.size
}

// Keep takes the room, unless it is taken. It looks whether it is once a second. While another call
// takes or drops it, Keep does nothing. After an error nothing is taken, and calls get the same
// error for a while (see firstAgain), or until Drop was called.
func (b *Ballast) Keep() error {
	if !b.mu.TryLock() {
		return nil
	}
	defer b.mu.Unlock()
	now := b.now()
	if !b.looked.IsZero() && now.Sub(b.looked) < lookAgain {
		return nil
	}
	if b.failed != nil && now.Sub(b.when) < b.pause {
		return b.failed
	}
	if !b.Kept() {
		if err := b.write(); err != nil {
			err = errors.Join(fmt.Errorf("take room for later: %w", err), b.remove())
			b.failed, b.when = err, now
			b.pause = min(max(2*b.pause, firstAgain), lastAgain)
			return err
		}
	}
	b.looked, b.failed, b.pause = now, nil, 0
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
	b.looked, b.failed, b.pause = time.Time{}, nil, 0
	was := b.Kept()
	return was, b.remove()
}

func (b *Ballast) remove() error {
	if err := os.Remove(b.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("give room back: %w", err)
	}
	return nil
}
