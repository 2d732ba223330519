package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/skerry-sync/skerry/internal/kind"
)

// A NotRegularError reports a path that is to be read and is no regular file. A device or a pipe
// may block for ever or never end.
type NotRegularError struct {
	Path string
	Mode fs.FileMode
}

func (e *NotRegularError) Error() string {
	what := "a special file"
	switch {
	case e.Mode.IsDir():
		what = "a directory"
	case e.Mode&fs.ModeNamedPipe != 0:
		what = "a pipe"
	case e.Mode&fs.ModeSocket != 0:
		what = "a socket"
	case e.Mode&fs.ModeDevice != 0:
		what = "a device"
	case e.Mode&fs.ModeSymlink != 0:
		what = "a symbolic link"
	}
	return fmt.Sprintf("%s is %s, not a regular file", e.Path, what)
}

// Kind implements kind.Of.
func (e *NotRegularError) Kind() kind.Kind { return kind.Usage }

// ErrGrew reports a file that yields more bytes than it had when it was opened.
var ErrGrew = errors.New("the file grew while it was read: try again, or copy it first")

// A File is a regular file that is open to be read. Size is what it had when it was opened.
type File struct {
	*os.File
	Info fs.FileInfo
	Size uint64 // bytes
}

// OpenRegular opens a regular file, or one that a symbolic link leads to, to be read. It never
// waits for another process, as opening a named pipe does. It returns a *NotRegularError for
// everything else.
func OpenRegular(name string) (*File, error) {
	st, err := os.Stat(name) // opening a device can already have an effect
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, &NotRegularError{name, st.Mode()}
	}
	testHook("open", name)
	f, err := os.OpenFile(name, os.O_RDONLY|nonBlock, 0)
	return regular(f, err, name)
}

// OpenIn opens a regular file of root to be read, as OpenRegular does. name must itself be the file
// and no symbolic link. Links on the way to it do not lead out of root.
func OpenIn(root *os.Root, name string) (*File, error) {
	st, err := root.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, &NotRegularError{name, st.Mode()}
	}
	testHook("open", name)
	f, err := root.OpenFile(name, os.O_RDONLY|nonBlock, 0)
	r, err := regular(f, err, name)
	if err != nil {
		return nil, err
	}
	if !os.SameFile(st, r.Info) {
		return nil, errors.Join(
			fmt.Errorf("%s was replaced while it was opened: try again", name), r.Close(),
		)
	}
	return r, nil
}

// OpenBelow opens a regular file of root to be read, as OpenRegular does. Links may lead to it, and
// names may contain "..", as long as the file is in root.
func OpenBelow(root *os.Root, name string) (*File, error) {
	st, err := root.Stat(name)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, &NotRegularError{name, st.Mode()}
	}
	testHook("open", name)
	f, err := root.OpenFile(name, os.O_RDONLY|nonBlock, 0)
	return regular(f, err, name)
}

// OpenDirIn opens a directory of root. name must itself be the directory and no symbolic link. It
// returns an *fs.PathError if name is something else.
func OpenDirIn(root *os.Root, name string) (*os.Root, error) {
	st, err := root.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !st.IsDir() {
		return nil, &fs.PathError{Op: "open", Path: name, Err: errors.New("not a directory")}
	}
	testHook("open", name)
	dir, err := root.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	now, err := dir.Stat(".")
	if err == nil && !os.SameFile(st, now) {
		err = fmt.Errorf("%s was replaced while it was opened: try again", name)
	}
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return dir, nil
}

// regular looks at what has been opened: the name may have come to mean something else since.
func regular(f *os.File, err error, name string) (*File, error) {
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = &NotRegularError{name, st.Mode()}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &File{f, st, uint64(max(st.Size(), 0))}, nil
}

// Reader reads the file from its present place, at most Size bytes. If there are more, it returns
// ErrGrew, so that a file that grows without end is not read without end.
func (f *File) Reader() io.Reader { return &bounded{f.File, f.Size} }

type bounded struct {
	r    io.Reader
	left uint64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left == 0 {
		var one [1]byte
		n, err := b.r.Read(one[:min(len(p), 1)])
		if n > 0 {
			err = ErrGrew
		}
		return 0, err
	}
	n, err := b.r.Read(p[:min(uint64(len(p)), b.left)])
	b.left -= uint64(n)
	return n, err
}

// ReadFile returns the content of a regular file of at most limit bytes.
func ReadFile(name string, limit uint64) ([]byte, error) {
	f, err := OpenRegular(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if f.Size > limit {
		return nil, fmt.Errorf("%s has %d bytes; at most %d are allowed", name, f.Size, limit)
	}
	b, err := io.ReadAll(f.Reader())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return b, nil
}

// testHook is called between a check of a name and its use. Tests set it to change what the name
// means in between.
var testHook = func(step, name string) {}

// SetTestHook sets what is called between a check of a name and its use ("open"), before what was
// written gets its name ("publish"), and before it is cleared away ("clean"). It returns a function
// that ends that. Only tests call it, and never side by side.
func SetTestHook(hook func(step, name string)) (end func()) {
	old := testHook
	testHook = hook
	return func() { testHook = old }
}
