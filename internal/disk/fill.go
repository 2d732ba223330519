package disk

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// fillDir writes into a directory that exists and is empty. Everything is written into a directory
// in it and then moved up, so that this works for the root of a file system, too, and nobody whose
// current directory it is loses that.
func fillDir(name string, write func(root *os.Root) error) error {
	p, err := openWithin(name)
	if err != nil {
		return err
	}
	err = p.newDir(func(root *os.Root) error {
		if err := p.alone(); err != nil { // before the work, and after it
			return err
		}
		return write(root)
	}, func(from *os.Root) error {
		testHook("publish", p.path)
		if err := p.alone(); err != nil {
			return err
		}
		return p.moveUp(from)
	})
	return errors.Join(err, p.close())
}

// openWithin is the place of what is to lie in a directory, instead of beside it.
func openWithin(name string) (*place, error) {
	p := &place{path: filepath.Join(name, ".")}
	if err := p.open(name); err != nil {
		return nil, err
	}
	p.path = filepath.Join(name, ".skerry") // its directory is what is filled
	return p, nil
}

// alone returns fs.ErrExist if anything else lies in the directory than what this process created.
func (p *place) alone() error {
	names, err := namesIn(p.root)
	if err != nil {
		return err
	}
	for _, n := range names {
		if n != p.tmp {
			return &fs.PathError{Op: "create", Path: filepath.Dir(p.path), Err: fs.ErrExist}
		}
	}
	return nil
}

// moveUp moves all that lies in the temporary directory into the one that is filled, or nothing.
func (p *place) moveUp(dir *os.Root) (err error) {
	names, err := namesIn(dir)
	if err != nil {
		return err
	}
	from, err := dir.Open(".")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	for i, n := range names {
		if err := moveNew(from, p.dir, n); err != nil {
			for _, back := range names[:i] {
				err = errors.Join(err, moveNew(p.dir, from, back))
			}
			return &fs.PathError{Op: "create", Path: filepath.Join(filepath.Dir(p.path), n), Err: err}
		}
	}
	return p.root.Remove(p.tmp)
}
