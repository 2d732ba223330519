//go:build !linux

package disk

import "os"

// SyncData is Sync, where there is nothing that costs less and suffices.
func SyncData(f *os.File) error { return f.Sync() }
