//go:build !unix

package files

// syncDir does nothing where directories cannot be synced; the file system keeps names by itself.
func syncDir(string) error { return nil }
