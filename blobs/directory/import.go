package directory

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/chunked"
	"github.com/skerry-sync/skerry/internal/disk"
)

// Progress counts work on a directory.
type Progress struct {
	Files, TotalFiles int
	Bytes, TotalBytes uint64
}

// ImportOptions tune Import; the zero value is fine.
type ImportOptions struct {
	// SkipUnsafeLinks leaves out symbolic links that lead, or may lead, out of the directory, instead
	// of failing.
	SkipUnsafeLinks bool
	// Reference leaves the files where they are, and stores only the trees above their contents (see
	// blobs.ImportOptions). None is chunked then.
	Reference bool
	// Whole keeps every file as one blob, however large.
	Whole bool
	// Progress, if set, is called now and then, by one goroutine at a time.
	Progress func(Progress)
}

// Info describes an imported directory.
type Info struct {
	Hash    blobs.Hash // of the sequence
	Size    uint64     // bytes of content
	Files   int
	Chunked int      // files that are kept in chunks
	Skipped []string // paths left out: devices, sockets, pipes, and unsafe links if asked for
}

// Import stores the directory dir, with several files at a time. It is durable after the store's
// next Sync. A *NameError names a link that leads out of dir. All names are looked up below the
// open directory, so that a link that appears meanwhile takes nothing from outside.
func Import(
	ctx context.Context, s *blobs.Store, dir string, o ImportOptions,
) (info Info, err error) {
	root, err := openDir(dir)
	if err != nil {
		return info, fmt.Errorf("import directory %s: %w", dir, err)
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	m, skipped, err := scan(ctx, root, o)
	if err != nil {
		return info, fmt.Errorf("import directory %s: %w", dir, err)
	}
	info.Skipped = skipped
	im := importer{s: s, root: root, o: o, counter: newCounter(m, o.Progress)}
	im.contents = make([][]blobs.Hash, len(m))
	if err := im.run(ctx, m); err != nil {
		return info, fmt.Errorf("import directory %s: %w", dir, err)
	}
	seq := blobs.Sequence{{}}
	for i, e := range m {
		if e.IsFile() {
			seq = append(seq, im.contents[i]...)
			info.Size += e.Size
			info.Files++
			if e.Chunks != nil {
				info.Chunked++
			}
		}
	}
	if len(seq) > blobs.MaxChildren {
		return info, fmt.Errorf(
			"import directory %s: %d files and chunks, at most %d fit", dir, len(seq)-1, blobs.MaxChildren-1,
		)
	}
	list := m.Bytes()
	if len(list) > MaxManifestSize {
		return info, fmt.Errorf(
			"import directory %s: its names take %d bytes, at most %d fit", dir, len(list), MaxManifestSize,
		)
	}
	manifest, err := s.ImportBytes(ctx, list)
	if err != nil {
		return info, err
	}
	seq[0] = manifest.Hash
	whole, err := s.ImportBytes(ctx, seq.Bytes())
	info.Hash = whole.Hash
	return info, err
}

// openDir opens a directory by a path that a person gave.
func openDir(dir string) (*os.Root, error) {
	if st, err := os.Stat(dir); err != nil {
		return nil, err
	} else if !st.IsDir() {
		return nil, fmt.Errorf("%s is not a directory", dir)
	}
	return os.OpenRoot(dir)
}

// importer stores the contents of files, several at a time.
type importer struct {
	s        *blobs.Store
	root     *os.Root
	o        ImportOptions
	counter  *counter
	contents [][]blobs.Hash // of the entries of the manifest: one hash, or those of the chunks
}

// importWorkers is how many files are read at a time: enough for some to wait for the disk.
func importWorkers() int { return 2 * runtime.GOMAXPROCS(0) }

// run imports the files of m, and sets their sizes and chunks to what was read: a file may have
// changed since it was listed.
func (im *importer) run(ctx context.Context, m Manifest) error {
	g, ctx := errgroup.WithContext(ctx)
	var next atomic.Int64
	for range importWorkers() {
		g.Go(func() (err error) {
			small := im.s.NewImporter(ctx)
			buf := make([]byte, blobs.SegmentSize)
			at := opener{root: im.root}
			defer func() { err = errors.Join(err, at.close()) }()
			for {
				i := int(next.Add(1)) - 1
				if i >= len(m) {
					return small.Flush()
				}
				if !m[i].IsFile() {
					continue
				}
				if im.contents[i], err = im.file(ctx, &m[i], &at, small, buf); err != nil {
					return err
				}
				im.counter.add(1, 0)
			}
		})
	}
	return g.Wait()
}

// opener opens files below root. It keeps the last directory open, since files of one directory
// follow on each other.
type opener struct {
	root *os.Root
	dir  string
	last *os.Root // of dir; nil for root itself
}

func (o *opener) open(name string) (*disk.File, error) {
	dir, base := path.Split(name)
	if dir != o.dir {
		if err := o.close(); err != nil {
			return nil, err
		}
		last, err := o.root.OpenRoot(filepath.FromSlash(path.Clean(dir)))
		if err != nil {
			return nil, err
		}
		o.dir, o.last = dir, last
	}
	if o.last == nil {
		return disk.OpenIn(o.root, base)
	}
	return disk.OpenIn(o.last, base)
}

func (o *opener) close() error {
	last := o.last
	o.dir, o.last = "", nil
	if last == nil {
		return nil
	}
	return last.Close()
}

func (im *importer) file(
	ctx context.Context, e *Entry, at *opener, small *blobs.Importer, buf []byte,
) (hashes []blobs.Hash, err error) {
	f, err := at.open(e.Path)
	if err != nil {
		return nil, within(e.Path, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	var before uint64
	progress := func(read uint64) { im.counter.add(0, read-before); before = read }
	switch {
	case im.o.Reference:
	case f.Size <= uint64(len(buf)):
		return im.smallFile(f, e, small, buf)
	case f.Size >= chunked.Threshold && f.Size <= chunked.MaxSize && !im.o.Whole:
		chunks, err := chunked.Split(ctx, im.s, f.Reader(), progress)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", e.Path, err)
		}
		if len(chunks.Sizes) == 0 {
			return nil, fmt.Errorf("%s changed while it was read: try again", e.Path)
		}
		e.Size, e.Chunks = chunks.Size(), chunks.Sizes
		return chunks.Hashes, nil
	}
	got, err := im.s.ImportOpen(
		ctx, f, blobs.ImportOptions{Progress: progress, Reference: im.o.Reference},
	)
	e.Size = got.Size
	return []blobs.Hash{got.Hash}, err
}

// smallFile reads a file that fits in buf.
func (im *importer) smallFile(
	f *disk.File, e *Entry, small *blobs.Importer, buf []byte,
) ([]blobs.Hash, error) {
	r := f.Reader()
	n, err := io.ReadFull(r, buf[:f.Size])
	if err == nil {
		var more [1]byte
		_, err = r.Read(more[:])
	}
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, fmt.Errorf("%s: %w", e.Path, err)
	}
	e.Size = uint64(n)
	h, err := small.Add(buf[:n])
	im.counter.add(0, uint64(n))
	return []blobs.Hash{h}, err
}

// within has err name a path from the top of the directory that is imported. What os.Root returns
// names it from the directory that it was opened in, so that nobody could find it.
func within(path string, err error) error {
	if of, ok := errors.AsType[*fs.PathError](err); ok {
		return &fs.PathError{Op: of.Op, Path: path, Err: of.Err}
	}
	return err
}

// scan lists what is below root without reading files.
func scan(ctx context.Context, root *os.Root, o ImportOptions) (Manifest, []string, error) {
	x := scanner{ctx: ctx, o: o}
	if err := x.dir(root, "", 0); err != nil {
		return nil, nil, err
	}
	slices.SortFunc(x.m, func(a, b Entry) int { return cmp.Compare(a.Path, b.Path) })
	return x.m, x.skipped, x.m.Check()
}

type scanner struct {
	ctx     context.Context
	o       ImportOptions
	m       Manifest
	skipped []string
}

// dir lists an open directory. prefix is its path from the top, with a slash at the end.
func (x *scanner) dir(root *os.Root, prefix string, depth int) error {
	f, err := root.Open(".")
	if err != nil {
		return err
	}
	names, err := f.Readdirnames(-1)
	if err := errors.Join(err, f.Close(), x.ctx.Err()); err != nil {
		return err
	}
	before := len(x.m)
	for _, name := range names {
		if err := x.name(root, prefix, name, depth+1); err != nil {
			return err
		}
	}
	if len(x.m) == before && prefix != "" { // empty, or all that is in it is left out
		return x.add(Entry{Path: strings.TrimSuffix(prefix, "/"), Kind: Empty})
	}
	return nil
}

func (x *scanner) name(root *os.Root, prefix, name string, depth int) error {
	e := Entry{Path: prefix + name}
	if depth > MaxDepth {
		return &NameError{e.Path, tooDeep}
	}
	st, err := root.Lstat(name)
	if err != nil {
		return within(e.Path, err)
	}
	switch st.Mode().Type() {
	case fs.ModeDir:
		sub, err := disk.OpenDirIn(root, name)
		if err != nil {
			return within(e.Path, err)
		}
		return errors.Join(x.dir(sub, e.Path+"/", depth), sub.Close())
	case fs.ModeSymlink:
		e.Kind = Link
		target, err := root.Readlink(name)
		if err != nil {
			return within(e.Path, err)
		}
		e.Target = filepath.ToSlash(target)
		if err := checkLink(e); err != nil {
			if !x.o.SkipUnsafeLinks {
				return fmt.Errorf("%w (leave such links out with --skip-unsafe-links)", err)
			}
			x.skipped = append(x.skipped, e.Path)
			return nil
		}
	case 0:
		e.Kind, e.Size = File, uint64(st.Size())
		if st.Mode()&0o111 != 0 {
			e.Kind = Executable
		}
	default:
		x.skipped = append(x.skipped, e.Path)
		return nil
	}
	return x.add(e)
}

func (x *scanner) add(e Entry) error {
	if len(x.m) == MaxEntries {
		return fmt.Errorf("more than %d paths: a directory may have no more", MaxEntries)
	}
	x.m = append(x.m, e)
	return nil
}

// counter adds up progress from several goroutines.
type counter struct {
	mu     sync.Mutex
	done   Progress
	report func(Progress)
}

func newCounter(m Manifest, report func(Progress)) *counter {
	c := &counter{report: report}
	for _, e := range m {
		if e.IsFile() {
			c.done.TotalFiles++
			c.done.TotalBytes += e.Size
		}
	}
	return c
}

func (c *counter) add(files int, bytes uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done.Files += files
	c.done.Bytes += bytes
	if c.report != nil {
		c.report(c.done)
	}
}
