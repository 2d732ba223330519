package disk

import (
	"errors"
	"io/fs"
	"os"
	"strconv"
)

// What is being written has a temporary name: that which it is to get, ".skerry-", and the first
// free number. The process that writes it holds a lock on it. One that is not locked and belongs to
// this user was left behind by a process that was killed, and is removed by whoever needs the name
// next.
//
// A lock is taken after the name, so another process may find it unlocked in between and remove it.
// The one that created it sees that, and takes another name.

// maxNumbers is how many numbers are tried before a random one is taken, which is never removed.
const maxNumbers = 16

// take creates what is to be written under the first temporary name that is free, and locks it.
func (p *place) take(create func() (*os.File, error)) (*os.File, error) {
	for number := 1; ; number++ {
		last := number > maxNumbers
		suffix := strconv.Itoa(number)
		if last {
			suffix = randomName()
		}
		p.tmp = shorter(p.base) + ".skerry-" + suffix
		f, err := create()
		if errors.Is(err, fs.ErrExist) && !last && p.reclaim() {
			f, err = create()
		}
		if err == nil {
			if f, err = p.hold(f); f == nil && err == nil {
				continue // another process took it for one that was left behind
			}
			return f, err
		}
		if !errors.Is(err, fs.ErrExist) || last {
			return nil, p.named(err)
		}
	}
}

// named has err name the path that was asked for, not that of a temporary name below it.
func (p *place) named(err error) error {
	if of, ok := err.(*fs.PathError); ok { // as os.Root returns it
		return &fs.PathError{Op: of.Op, Path: p.path, Err: of.Err}
	}
	return err
}

// hold locks what this process has just created, and notes it as its own; nil if it is gone
// already.
func (p *place) hold(f *os.File) (*os.File, error) {
	locked := tryLock(f)
	st, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	p.own = st
	if errors.Is(locked, errLocked) || !p.mine(p.tmp) {
		return nil, f.Close()
	}
	return f, nil
}

// reclaim removes what a process that was killed has left under the temporary name, and reports
// whether it did.
func (p *place) reclaim() bool {
	st, err := p.root.Lstat(p.tmp)
	if err != nil || !(st.IsDir() || st.Mode().IsRegular()) || !ownedByUs(st) {
		return false
	}
	f, err := p.root.OpenFile(p.tmp, os.O_RDONLY|nonBlock, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	now, err := f.Stat()
	if err != nil || !os.SameFile(st, now) || tryLock(f) != nil {
		return false
	}
	p.own = now
	return p.clean() == nil
}
