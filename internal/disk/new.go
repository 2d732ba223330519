package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"unicode/utf8"
)

// NewFile creates the file name with what write puts into it: whole, or not at all. It replaces
// nothing: if something has that name, also only at the end, NewFile returns an error that is
// fs.ErrExist. perm is reduced by the umask.
//
// Until then the file has a name of its own beside it (see temporary.go), which a process that is
// killed leaves behind and the next NewFile of the same name takes over.
func NewFile(name string, perm fs.FileMode, write func(f *os.File) error) error {
	p, err := openPlace(name)
	if err != nil {
		return err
	}
	f, err := p.take(func() (*os.File, error) {
		return p.root.OpenFile(p.tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	})
	if err != nil {
		return errors.Join(err, p.close())
	}
	err = errors.Join(write(f), f.Close())
	if err == nil {
		err = p.publish(publishFile)
	}
	if err != nil {
		err = errors.Join(err, p.clean())
	}
	return errors.Join(err, p.close())
}

// NewDir creates the directory name with what write puts into it: whole, or not at all. A directory
// of that name that is empty is filled, and stays the one that it is, with its mode. Nothing is
// replaced: if something else has that name, also only at the end, NewDir returns an error that is
// fs.ErrExist. write is given the directory itself, so that nothing that happens to names meanwhile
// leads it elsewhere. What a killed process leaves behind is taken over as with NewFile.
func NewDir(name string, write func(root *os.Root) error) error {
	if st, err := os.Lstat(name); err == nil && st.IsDir() {
		return fillDir(name, write)
	}
	p, err := openPlace(name)
	if err != nil {
		return err
	}
	return errors.Join(p.newDir(write, func(*os.Root) error {
		return p.publish(publishDir)
	}), p.close())
}

// newDir creates the temporary directory, has it written, and calls publish with it.
func (p *place) newDir(write func(root *os.Root) error, publish func(dir *os.Root) error) error {
	held, err := p.take(func() (*os.File, error) {
		if err := p.root.Mkdir(p.tmp, 0o777); err != nil {
			return nil, err
		}
		return p.root.Open(p.tmp)
	})
	if err != nil {
		return err
	}
	if !keepsOpen { // an open directory could not be renamed
		err, held = held.Close(), nil
	}
	dir, openErr := p.openTemporary()
	if err = errors.Join(err, openErr); err == nil {
		err = write(dir)
	}
	if err == nil {
		err = publish(dir)
	}
	if dir != nil {
		err = errors.Join(err, dir.Close())
	}
	if err != nil {
		err = errors.Join(err, p.clean())
	}
	if held != nil {
		err = errors.Join(err, held.Close())
	}
	return err
}

// Vacant returns nil if NewFile, or with dir NewDir, can create name now, as far as one can tell
// without doing so: what would fail at the end had better fail before the work. It returns
// fs.ErrExist if something has that name, and what keeps anything from being created there.
func Vacant(name string, dir bool) error {
	exists := &fs.PathError{Op: "create", Path: name, Err: fs.ErrExist}
	open := openPlace
	switch st, err := os.Lstat(name); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case !st.IsDir() || !dir:
		return exists
	default:
		open = openWithin
	}
	p, err := open(name)
	if err != nil {
		return err
	}
	f, err := p.take(func() (*os.File, error) {
		return p.root.OpenFile(p.tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	})
	if err == nil {
		if p.base == "" {
			err = p.alone()
		}
		err = errors.Join(err, f.Close(), p.clean())
	}
	return errors.Join(err, p.close())
}

// place is a name in a directory that something new is to get. All steps go through the open
// directory, so that they stay in it.
type place struct {
	root *os.Root // the directory that holds both names
	dir  *os.File // the same
	path string   // as it was given
	base string
	tmp  string      // the name until then
	own  fs.FileInfo // what this process created under tmp
}

func openPlace(name string) (p *place, err error) {
	name = filepath.Clean(name)
	p = &place{path: name, base: filepath.Base(name)}
	if p.base == "." || p.base == ".." || p.base == string(filepath.Separator) {
		return nil, &fs.PathError{Op: "create", Path: name, Err: fs.ErrExist}
	}
	return p, p.open(filepath.Dir(name))
}

func (p *place) open(dir string) (err error) {
	if p.root, err = os.OpenRoot(dir); err != nil {
		return err
	}
	if p.dir, err = p.root.Open("."); err != nil {
		return errors.Join(err, p.root.Close())
	}
	return nil
}

// openTemporary opens the directory tmp that this process created, and checks that it is still
// that.
func (p *place) openTemporary() (*os.Root, error) {
	dir, err := p.root.OpenRoot(p.tmp)
	if err != nil {
		return nil, err
	}
	now, err := dir.Stat(".")
	if err == nil && !os.SameFile(now, p.own) {
		err = p.replaced(p.tmp)
	}
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return dir, nil
}

func (p *place) replaced(name string) error {
	return fmt.Errorf("%s was replaced by another program", filepath.Join(filepath.Dir(p.path), name))
}

// mine reports whether name is what this process created.
func (p *place) mine(name string) bool {
	st, err := p.root.Lstat(name)
	return err == nil && os.SameFile(st, p.own)
}

// publish gives what was written its name.
func (p *place) publish(rename func(p *place) error) error {
	testHook("publish", p.path)
	if !p.mine(p.tmp) {
		return p.replaced(p.tmp)
	}
	if err := rename(p); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return &fs.PathError{Op: "create", Path: p.path, Err: fs.ErrExist}
		}
		return &os.LinkError{Op: "rename", Old: p.tmp, New: p.path, Err: err}
	}
	if !p.mine(p.base) {
		return p.replaced(p.base)
	}
	return nil
}

// clean removes what this process created under the temporary name, and nothing else.
func (p *place) clean() error {
	testHook("clean", filepath.Join(filepath.Dir(p.path), p.tmp))
	if !p.mine(p.tmp) {
		return nil // moved away, or published
	}
	if p.own.IsDir() {
		dir, err := p.openTemporary()
		if err != nil {
			return err
		}
		if err := errors.Join(empty(dir), dir.Close()); err != nil {
			return err
		}
	}
	return p.root.Remove(p.tmp)
}

func (p *place) close() error { return errors.Join(p.dir.Close(), p.root.Close()) }

// empty removes everything in a directory.
func empty(dir *os.Root) error {
	names, err := namesIn(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := dir.RemoveAll(name); err != nil {
			return err
		}
	}
	return nil
}

func namesIn(dir *os.Root) ([]string, error) {
	f, err := dir.Open(".")
	if err != nil {
		return nil, err
	}
	names, err := f.Readdirnames(-1)
	return names, errors.Join(err, f.Close())
}

// maxBase leaves room for what a temporary name has more: names have at most 255 bytes on the
// systems that there are.
const maxBase = 230

// shorter cuts a name between characters.
func shorter(base string) string {
	if len(base) <= maxBase {
		return base
	}
	end := maxBase
	for end > 0 && !utf8.RuneStart(base[end]) {
		end--
	}
	return base[:end]
}

func randomName() string { return fmt.Sprintf("%08x", rand.Uint32()) }
