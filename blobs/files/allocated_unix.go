//go:build unix

package files

import (
	"os"
	"syscall"
)

// allocated returns the bytes that a file takes on the disk, which are fewer than its length if it
// has holes.
func allocated(st os.FileInfo) uint64 {
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		return min(uint64(sys.Blocks)*512, uint64(st.Size()))
	}
	return uint64(st.Size())
}
