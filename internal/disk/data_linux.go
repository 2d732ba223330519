package disk

import (
	"os"

	"golang.org/x/sys/unix"
)

// SyncData makes the content of a file durable, but of what is known about the file only what is
// needed to read it: into blocks that it has already, it costs half of Sync.
func SyncData(f *os.File) error {
	for {
		if err := unix.Fdatasync(int(f.Fd())); err != unix.EINTR {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}
