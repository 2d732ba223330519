package disk

import (
	"errors"

	"golang.org/x/sys/unix"
)

// renameNew renames within a directory and replaces nothing.
func renameNew(p *place) error {
	fd := int(p.dir.Fd())
	return renameNewAt(fd, p.tmp, fd, p.base)
}

func renameNewAt(from int, old string, to int, name string) error {
	return unix.Renameat2(from, old, to, name, unix.RENAME_NOREPLACE)
}

// noSuchCall reports that the kernel, or the file system, has no such rename.
func noSuchCall(err error) bool {
	return errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTSUP)
}
