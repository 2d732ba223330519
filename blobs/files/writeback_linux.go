package files

import (
	"os"

	"golang.org/x/sys/unix"
)

// startWriteback asks the system to begin to write a part of a file to the disk, without waiting
// for it, so that a later sync finds little left to do. It is a hint only.
func startWriteback(f *os.File, off, n int64) {
	_ = unix.SyncFileRange(int(f.Fd()), off, n, unix.SYNC_FILE_RANGE_WRITE)
}
