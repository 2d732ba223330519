//go:build unix

package disk

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

func publishFile(p *place) error {
	err := renameNew(p)
	if noSuchCall(err) {
		return publishByLink(p)
	}
	return err
}

// publishDir relies on what POSIX says of rename: a directory replaces nothing but an empty
// directory.
func publishDir(p *place) error {
	fd := int(p.dir.Fd())
	err := unix.Renameat(fd, p.tmp, fd, p.base)
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) || errors.Is(err, unix.ENOTDIR) {
		return fs.ErrExist
	}
	return err
}

// publishByLink names a file where there is no rename that replaces nothing. Where there are no
// hard links either, the name is first taken by an empty file, so that two programs do not both get
// it.
func publishByLink(p *place) error {
	err := p.root.Link(p.tmp, p.base)
	if err == nil {
		return p.root.Remove(p.tmp)
	}
	if errors.Is(err, fs.ErrExist) {
		return fs.ErrExist
	}
	f, err := p.root.OpenFile(p.base, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return p.root.Rename(p.tmp, p.base)
}

// moveNew moves a name from one open directory to another, and replaces nothing.
func moveNew(from, to *os.File, name string) error {
	err := renameNewAt(int(from.Fd()), name, int(to.Fd()), name)
	if !noSuchCall(err) {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstatat(int(to.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err == nil {
		return fs.ErrExist
	}
	return unix.Renameat(int(from.Fd()), name, int(to.Fd()), name)
}
