//go:build unix

package disk

import (
	"errors"
	"syscall"
)

// Refused reports that nobody listens on a socket.
func Refused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }
