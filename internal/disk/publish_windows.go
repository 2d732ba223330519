package disk

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/windows"
)

// publishFile renames without MOVEFILE_REPLACE_EXISTING, which os.Rename sets.
func publishFile(p *place) error {
	from, err := windows.UTF16PtrFromString(filepath.Join(filepath.Dir(p.path), p.tmp))
	if err != nil {
		return err
	}
	to, err := windows.UTF16PtrFromString(p.path)
	if err != nil {
		return err
	}
	err = windows.MoveFileEx(from, to, windows.MOVEFILE_WRITE_THROUGH)
	if errors.Is(err, windows.ERROR_ALREADY_EXISTS) || errors.Is(err, windows.ERROR_FILE_EXISTS) {
		return fs.ErrExist
	}
	return err
}

// publishDir removes an empty directory first. RemoveDirectory removes nothing else.
func publishDir(p *place) error {
	if st, err := os.Lstat(p.path); err == nil {
		if !st.IsDir() {
			return fs.ErrExist
		}
		name, err := windows.UTF16PtrFromString(p.path)
		if err != nil {
			return err
		}
		if err := windows.RemoveDirectory(name); err != nil {
			return fs.ErrExist
		}
	}
	return publishFile(p)
}

// moveNew moves a name from one open directory to another, and replaces nothing.
func moveNew(from, to *os.File, name string) error {
	old, err := windows.UTF16PtrFromString(filepath.Join(from.Name(), name))
	if err != nil {
		return err
	}
	fresh, err := windows.UTF16PtrFromString(filepath.Join(to.Name(), name))
	if err != nil {
		return err
	}
	return windows.MoveFileEx(old, fresh, windows.MOVEFILE_WRITE_THROUGH)
}
