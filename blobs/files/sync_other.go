//go:build !unix

package files

import "os"

// syncDir does nothing where directories cannot be synced; the file system keeps names by itself.
func syncDir(string) error { return nil }

// allocated returns the length of a file, where nothing better is to be had.
func allocated(st os.FileInfo) uint64 { return uint64(st.Size()) }
