package disk

import (
	"errors"
	"syscall"
)

// IsFull reports whether the operating system refused to write for want of room.
func IsFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// IsTooLarge reports whether the operating system refused to make a file so long.
func IsTooLarge(err error) bool {
	return errors.Is(err, syscall.EFBIG) || errors.Is(err, syscall.EINVAL)
}
