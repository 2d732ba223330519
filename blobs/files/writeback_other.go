//go:build !linux

package files

import "os"

// startWriteback does nothing where the system offers no such hint.
func startWriteback(*os.File, int64, int64) {}
