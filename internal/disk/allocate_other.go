//go:build !linux

package disk

import (
	"errors"
	"os"
)

// allocate returns errors.ErrUnsupported: the room has to be filled.
func allocate(*os.File, int64) error { return errors.ErrUnsupported }
