package disk

import (
	"os"

	"golang.org/x/sys/windows"
)

// Lock locks a file for this opening of it alone, or returns an error at once. Closing it, or the
// death of the process, unlocks it.
func Lock(f *os.File) error {
	return windows.LockFileEx(windows.Handle(f.Fd()),
		windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0,
		new(windows.Overlapped))
}
