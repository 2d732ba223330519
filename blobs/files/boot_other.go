//go:build !linux

package files

// BootID names the run of the operating system, or is empty if that cannot be told.
func BootID() string { return "" }
