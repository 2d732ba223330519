//go:build unix

package disk

import "os"

// Lock locks a file for this opening of it alone, or returns an error at once. Closing it, or the
// death of the process, unlocks it.
func Lock(f *os.File) error { return tryLock(f) }
