//go:build unix && !linux && !darwin

package disk

import "errors"

var errNoRename = errors.New("no rename without replacing")

// renameNew says that there is no such call.
func renameNew(*place) error { return errNoRename }

func renameNewAt(int, string, int, string) error { return errNoRename }

func noSuchCall(err error) bool { return errors.Is(err, errNoRename) }
