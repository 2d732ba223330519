package disk

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// allocate takes room for the first n bytes of a file, or returns errors.ErrUnsupported.
func allocate(f *os.File, n int64) error {
	for {
		switch err := unix.Fallocate(int(f.Fd()), 0, 0, n); {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EOPNOTSUPP):
			return errors.ErrUnsupported
		default:
			return err
		}
	}
}
