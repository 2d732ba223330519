//go:build !unix

package disk

import (
	"errors"
	"io/fs"
	"os"
)

// errLocked reports a file that another process has locked.
var errLocked = errors.New("locked by another process")

// keepsOpen says that no directory can be renamed while it is open.
const keepsOpen = false

// tryLock returns an error: what is left behind cannot be told from what is in use.
func tryLock(*os.File) error { return errors.ErrUnsupported }

func ownedByUs(fs.FileInfo) bool { return false }

// ownerOf says that files have no such owners.
func ownerOf(string) (uid int, ok bool) { return 0, false }
