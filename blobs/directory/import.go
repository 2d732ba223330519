package directory

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/chunked"
)

// Progress counts work on a directory.
type Progress struct {
	Files, TotalFiles int
	Bytes, TotalBytes uint64
}

// ImportOptions tune Import; the zero value is fine.
type ImportOptions struct {
	// SkipUnsafeLinks leaves out symbolic links that lead, or may lead, out of the directory, instead of failing.
	SkipUnsafeLinks bool
	// Reference leaves the files where they are, and stores only the trees above their contents (see blobs.ImportOptions). None is chunked
	// then.
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

// Import stores the directory dir, with several files at a time. It is durable after the store's next Sync. A *NameError names a link
// that leads out of dir.
func Import(ctx context.Context, s *blobs.Store, dir string, o ImportOptions) (Info, error) {
	var info Info
	m, skipped, err := scan(ctx, dir, o)
	if err != nil {
		return info, fmt.Errorf("import directory %s: %w", dir, err)
	}
	info.Skipped = skipped
	im := importer{s: s, dir: dir, o: o, counter: newCounter(m, o.Progress), contents: make([][]blobs.Hash, len(m))}
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
		return info, fmt.Errorf("import directory %s: %d files and chunks, at most %d fit", dir, len(seq)-1, blobs.MaxChildren-1)
	}
	manifest, err := s.ImportBytes(ctx, m.Bytes())
	if err != nil {
		return info, err
	}
	seq[0] = manifest.Hash
	root, err := s.ImportBytes(ctx, seq.Bytes())
	info.Hash = root.Hash
	return info, err
}

// importer stores the contents of files, several at a time.
type importer struct {
	s        *blobs.Store
	dir      string
	o        ImportOptions
	counter  *counter
	contents [][]blobs.Hash // of the entries of the manifest: one hash, or those of the chunks
}

// importWorkers is how many files are read at a time: enough for some to wait for the disk.
func importWorkers() int { return 2 * runtime.GOMAXPROCS(0) }

// run imports the files of m, and sets their sizes and chunks to what was read: a file may have changed since it was listed.
func (im *importer) run(ctx context.Context, m Manifest) error {
	g, ctx := errgroup.WithContext(ctx)
	var next atomic.Int64
	for range importWorkers() {
		g.Go(func() error {
			small := im.s.NewImporter(ctx)
			buf := make([]byte, blobs.SegmentSize)
			for {
				i := int(next.Add(1)) - 1
				if i >= len(m) {
					return small.Flush()
				}
				if !m[i].IsFile() {
					continue
				}
				var err error
				if im.contents[i], err = im.file(ctx, &m[i], small, buf); err != nil {
					return err
				}
				im.counter.add(1, 0)
			}
		})
	}
	return g.Wait()
}

func (im *importer) file(ctx context.Context, e *Entry, small *blobs.Importer, buf []byte) ([]blobs.Hash, error) {
	name := filepath.Join(im.dir, filepath.FromSlash(e.Path))
	var before uint64
	progress := func(read uint64) { im.counter.add(0, read-before); before = read }
	switch {
	case im.o.Reference:
	case e.Size <= uint64(len(buf)):
		return im.smallFile(name, e, small, buf)
	case e.Size >= chunked.Threshold && e.Size <= chunked.MaxSize && !im.o.Whole:
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		chunks, err := chunked.Split(ctx, im.s, f, progress)
		if err != nil || len(chunks.Sizes) == 0 {
			return nil, errors.Join(err, changed(name, len(chunks.Sizes) == 0))
		}
		e.Size, e.Chunks = chunks.Size(), chunks.Sizes
		return chunks.Hashes, nil
	}
	got, err := im.s.ImportFile(ctx, name, blobs.ImportOptions{Progress: progress, Reference: im.o.Reference})
	e.Size = got.Size
	return []blobs.Hash{got.Hash}, err
}

// changed is the error of a file that is not what it was when it was listed.
func changed(name string, is bool) error {
	if !is {
		return nil
	}
	return fmt.Errorf("%s changed while it was read: try again", name)
}

// smallFile reads a file that should fit in buf, and goes the long way if it has grown meanwhile.
func (im *importer) smallFile(name string, e *Entry, small *blobs.Importer, buf []byte) ([]blobs.Hash, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	n := 0
	for n < len(buf) {
		var m int
		m, err = f.Read(buf[n:])
		if n += m; err != nil {
			break
		}
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if err == nil && n == len(buf) {
		var one [1]byte
		if m, _ := f.Read(one[:]); m > 0 {
			return nil, changed(name, true)
		}
	}
	e.Size = uint64(n)
	h, err := small.Add(buf[:n])
	im.counter.add(0, uint64(n))
	return []blobs.Hash{h}, err
}

// scan lists dir without reading files.
func scan(ctx context.Context, dir string, o ImportOptions) (m Manifest, skipped []string, err error) {
	if st, err := os.Stat(dir); err != nil {
		return nil, nil, err
	} else if !st.IsDir() {
		return nil, nil, fmt.Errorf("%s is not a directory", dir)
	}
	err = filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil || rel == "." {
			return err
		}
		e := Entry{Path: filepath.ToSlash(rel)}
		switch d.Type() & fs.ModeType {
		case fs.ModeDir:
			below, err := os.ReadDir(name)
			if err != nil || len(below) > 0 {
				return err
			}
			e.Kind = Empty
		case fs.ModeSymlink:
			e.Kind = Link
			target, err := os.Readlink(name)
			if err != nil {
				return err
			}
			e.Target = filepath.ToSlash(target)
			if err := checkLink(e); err != nil {
				if !o.SkipUnsafeLinks {
					return fmt.Errorf("%w (leave such links out with --skip-unsafe-links)", err)
				}
				skipped = append(skipped, e.Path)
				return nil
			}
		case 0:
			st, err := d.Info()
			if err != nil {
				return err
			}
			e.Kind, e.Size = File, uint64(st.Size())
			if st.Mode()&0o111 != 0 {
				e.Kind = Executable
			}
		default:
			skipped = append(skipped, e.Path)
			return nil
		}
		m = append(m, e)
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	if len(m) > MaxEntries {
		return nil, nil, fmt.Errorf("%d paths: a directory may have %d", len(m), MaxEntries)
	}
	slices.SortFunc(m, func(a, b Entry) int { return cmp.Compare(a.Path, b.Path) })
	return m, skipped, m.Check()
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
