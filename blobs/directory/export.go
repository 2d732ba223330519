package directory

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/chunked"
	"github.com/skerry-sync/skerry/internal/disk"
)

// Directory is a directory as the store knows it: its names, and where their contents are.
type Directory struct {
	Manifest Manifest
	Sequence blobs.Sequence // child 0 is the manifest; then come the contents of the files
}

// content returns the children that hold the content of a file, whose first child is number first.
func (d *Directory) content(e Entry, first int) chunked.Chunks {
	c := chunked.Chunks{Hashes: d.Sequence[first : first+e.children()], Sizes: e.Chunks}
	if e.Chunks == nil {
		c.Sizes = []uint64{e.Size}
	}
	return c
}

// Size returns the bytes of content.
func (d *Directory) Size() (n uint64) {
	for _, e := range d.Manifest {
		n += e.Size
	}
	return n
}

// ExpectedSizes returns the sizes of the children as the manifest claims them; that of the manifest
// itself is its own.
func (d *Directory) ExpectedSizes() []uint64 {
	sizes := []uint64{uint64(len(d.Manifest.Bytes()))}
	for _, e := range d.Manifest.Files() {
		if e.Chunks == nil {
			sizes = append(sizes, e.Size)
			continue
		}
		sizes = append(sizes, e.Chunks...)
	}
	return sizes
}

// Load reads the sequence h and its manifest from the store. It returns blobs.ErrNotFound or
// blobs.ErrIncomplete if they are not there, blobs.ErrNotSequence or ErrNotDirectory if h is
// something else, and a *NameError if its names must not be created. What is damaged in this store
// is a *blobs.DamageError, and nobody else's fault.
func Load(ctx context.Context, s *blobs.Store, h blobs.Hash) (*Directory, error) {
	d, first, err := load(ctx, s, h)
	if err == nil || first == nil {
		return d, err
	}
	looked := blobs.Everything
	if errors.Is(err, ErrNotDirectory) { // most blobs are none: their beginnings are enough to say so
		looked = blobs.Ranges{{Start: 0, End: blobs.HashSize}}
	}
	for _, part := range []blobs.Hash{h, *first} {
		var damaged *blobs.DamageError
		if err := s.Check(ctx, part, looked); errors.As(err, &damaged) {
			return nil, damaged
		}
	}
	return nil, err
}

// load is Load without a second look. first is the manifest as far as it is known.
func load(
	ctx context.Context, s *blobs.Store, h blobs.Hash,
) (d *Directory, first *blobs.Hash, err error) {
	b, err := s.ReadAll(ctx, h, blobs.MaxChildren*blobs.HashSize)
	if errors.Is(err, blobs.ErrTooLarge) {
		return nil, nil, fmt.Errorf("%w: %w", blobs.ErrNotSequence, err)
	}
	if err != nil {
		return nil, nil, err
	}
	seq, err := blobs.ParseSequence(b)
	if err != nil {
		return nil, nil, err
	}
	if len(seq) == 0 {
		return nil, nil, ErrNotDirectory
	}
	b, err = s.ReadAll(ctx, seq[0], MaxManifestSize)
	if err != nil {
		return nil, &seq[0], err
	}
	m, err := ParseManifest(b)
	if err != nil {
		return nil, &seq[0], err
	}
	children := 1
	for _, e := range m {
		children += e.children()
	}
	if children != len(seq) {
		return nil, &seq[0], fmt.Errorf(
			"directory %s: manifest lists %d files and chunks, the sequence has %d", h.Short(), children-1,
			len(seq)-1,
		)
	}
	return &Directory{m, seq}, &seq[0], nil
}

// Source writes the content of a blob, which has size bytes, to a file. progress is told the bytes
// written.
type Source func(ctx context.Context, f *os.File, h blobs.Hash, size uint64, progress func(written uint64)) error

// FromStore copies blobs of a store.
func FromStore(s *blobs.Store) Source {
	return func(
		ctx context.Context, f *os.File, h blobs.Hash, size uint64, progress func(written uint64),
	) error {
		r, err := s.Reader(ctx, h)
		if err != nil {
			return err
		}
		if uint64(r.Size()) != size {
			return fmt.Errorf("the directory says %d bytes, its content has %d", size, r.Size())
		}
		return r.CopyTo(f, progress)
	}
}

// Export creates the directory name, which must not exist or be empty, with everything in it; it
// appears whole or not at all, and replaces nothing. If something has that name, the error is
// fs.ErrExist.
func (d *Directory) Export(
	ctx context.Context, s *blobs.Store, name string, report func(Progress),
) error {
	return d.ExportFrom(ctx, FromStore(s), name, report)
}

// ExportFrom is Export with contents from elsewhere.
func (d *Directory) ExportFrom(
	ctx context.Context, from Source, name string, report func(Progress),
) error {
	err := disk.NewDir(name, func(root *os.Root) error {
		return d.write(ctx, from, root, newCounter(d.Manifest, report))
	})
	if err != nil {
		return fmt.Errorf("export directory to %s: %w", name, err)
	}
	return nil
}

// write creates all entries below root. Files are grouped by the directory that holds them, and
// several directories are filled at a time. Links come last, so that nothing is ever written
// through one.
func (d *Directory) write(ctx context.Context, from Source, root *os.Root, c *counter) (err error) {
	type file struct {
		Entry
		content chunked.Chunks
	}
	at := walker{root: root}
	defer func() { err = errors.Join(err, at.up(0)) }()
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0) + 1)
	flush := func(dir string, files []file) error {
		if len(files) == 0 {
			return nil
		}
		in, err := at.enter(dir)
		if err != nil {
			return err
		}
		sub, err := in.OpenRoot(".") // the walker goes on meanwhile
		if err != nil {
			return err
		}
		g.Go(func() error {
			for _, f := range files {
				if err = writeFile(gctx, from, sub, path.Base(f.Path), f.Entry, f.content, c); err != nil {
					err = fmt.Errorf("%s: %w", f.Path, err)
					break
				}
			}
			return errors.Join(err, sub.Close())
		})
		return gctx.Err()
	}
	const most = 256 // files in one piece of work
	var dir string
	var files []file
	child := 1
	for _, e := range d.Manifest {
		if !e.IsFile() {
			continue
		}
		if at := path.Dir(e.Path); at != dir || len(files) == most {
			if err = flush(dir, files); err != nil {
				break
			}
			dir, files = at, nil
		}
		files = append(files, file{e, d.content(e, child)})
		child += e.children()
	}
	if err == nil {
		err = flush(dir, files)
	}
	if err := g.Wait(); err != nil { // the cause, if the walk stopped because of it
		return err
	}
	if err != nil {
		return err
	}
	for _, e := range d.Manifest {
		if err := at.other(e); err != nil {
			return fmt.Errorf("%s: %w", e.Path, err)
		}
	}
	return nil
}

// walker creates and opens directories below root, each once if they come in the order of a
// manifest. Those from root to the present one stay open.
type walker struct {
	root  *os.Root
	names []string
	open  []*os.Root // of names
	steps int        // directories opened so far
}

// up closes all but the first n directories.
func (w *walker) up(n int) (err error) {
	for len(w.open) > n {
		last := len(w.open) - 1
		err = errors.Join(err, w.open[last].Close())
		w.names, w.open = w.names[:last], w.open[:last]
	}
	return err
}

// enter returns the directory dir, "." or a slash-separated path. It is open until the next call.
func (w *walker) enter(dir string) (*os.Root, error) {
	var names []string
	if dir != "." {
		names = strings.Split(dir, "/")
	}
	same := 0
	for same < min(len(names), len(w.names)) && names[same] == w.names[same] {
		same++
	}
	if err := w.up(same); err != nil {
		return nil, err
	}
	at := w.root
	if same > 0 {
		at = w.open[same-1]
	}
	for _, name := range names[same:] {
		if err := at.Mkdir(name, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		below, err := at.OpenRoot(name)
		if err != nil {
			return nil, err
		}
		w.names, w.open, at = append(w.names, name), append(w.open, below), below
		w.steps++
	}
	return at, nil
}

// other creates what is no file.
func (w *walker) other(e Entry) error {
	switch e.Kind {
	case Empty:
		_, err := w.enter(e.Path)
		return err
	case Link:
		in, err := w.enter(path.Dir(e.Path))
		if err != nil {
			return err
		}
		return in.Symlink(filepath.FromSlash(e.Target), path.Base(e.Path))
	}
	return nil
}

func writeFile(
	ctx context.Context, from Source, dir *os.Root, name string, e Entry, content chunked.Chunks,
	c *counter,
) error {
	mode := fs.FileMode(0o666)
	if e.Kind == Executable {
		mode = 0o777
	}
	f, err := dir.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	for i, h := range content.Hashes {
		var before uint64
		err = from(ctx, f, h, content.Sizes[i], func(written uint64) {
			c.add(0, written-before)
			before = written
		})
		if err != nil {
			break
		}
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	c.add(1, 0)
	return nil
}
