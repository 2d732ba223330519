package pebble

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// privateFS makes files that only their owner can read: the records hold keys. The directory is
// made so before anything is in it, so that nobody can open a file between its making and the
// change of its mode.
type privateFS struct{ vfs.FS }

const (
	privateFile = 0o600
	privateDir  = 0o700
)

func (p privateFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := p.FS.Create(name, category)
	return private(name, f, err)
}

func (p privateFS) ReuseForWrite(
	old, name string, category vfs.DiskWriteCategory,
) (vfs.File, error) {
	f, err := p.FS.ReuseForWrite(old, name, category)
	return private(name, f, err)
}

func (p privateFS) OpenReadWrite(
	name string, category vfs.DiskWriteCategory, opts ...vfs.OpenOption,
) (vfs.File, error) {
	f, err := p.FS.OpenReadWrite(name, category, opts...)
	return private(name, f, err)
}

func (p privateFS) Lock(name string) (io.Closer, error) {
	f, err := p.FS.Lock(name)
	return private(name, f, err)
}

func (p privateFS) MkdirAll(dir string, _ os.FileMode) error {
	return p.FS.MkdirAll(dir, privateDir)
}

func private[F io.Closer](name string, f F, err error) (F, error) {
	if err != nil {
		return f, err
	}
	if err := os.Chmod(name, privateFile); err != nil {
		_ = f.Close() // the mode is what matters
		return f, err
	}
	return f, nil
}

// makePrivate takes from others what an earlier version, or whoever copied the directory, has left
// to them.
func makePrivate(dir string) error {
	return filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if mode := info.Mode(); (mode.IsRegular() || mode.IsDir()) && mode.Perm()&0o077 != 0 {
			return os.Chmod(name, mode.Perm()&privateDir)
		}
		return nil
	})
}
