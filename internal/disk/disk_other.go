//go:build !unix

package disk

import (
	"math"
	"os"
)

// Free cannot ask portably here; a full disk is then noticed only by the write that fails.
func Free(string) (uint64, error) { return math.MaxUint64, nil }

// SyncDir does nothing where directories cannot be synced; the file system keeps names by itself.
func SyncDir(string) error { return nil }

// SyncRoot does nothing, as SyncDir.
func SyncRoot(*os.Root) error { return nil }
