//go:build unix

package disk

import "syscall"

// nonBlock makes the opening of a named pipe return at once. For a regular file it has no effect.
const nonBlock = syscall.O_NONBLOCK
