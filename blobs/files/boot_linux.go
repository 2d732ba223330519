package files

import (
	"bytes"
	"os"
)

// BootID names the run of the operating system, or is empty if that cannot be told. While it is the
// same, what was written is there, synced or not, whatever became of the process that wrote it.
func BootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return string(bytes.TrimSpace(b))
}
