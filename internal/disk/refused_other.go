//go:build !unix

package disk

// Refused takes every error for a socket on which nobody listens: systems differ in what they say.
func Refused(error) bool { return true }
