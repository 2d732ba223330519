package disk

import (
	"errors"
	"syscall"
)

// IsFull reports whether the operating system refused to write for want of room.
func IsFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
