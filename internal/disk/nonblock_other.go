//go:build !unix

package disk

// nonBlock has no use where named pipes are not files.
const nonBlock = 0
