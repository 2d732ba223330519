package directory

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/skerry-sync/skerry/blobs"
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
	// Progress, if set, is called now and then, by one goroutine at a time.
	Progress func(Progress)
}

// Info describes an imported directory.
type Info struct {
	Hash    blobs.Hash // of the sequence
	Size    uint64     // bytes of content
	Files   int
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
	hashes := make([]blobs.Hash, len(m))
	counter := newCounter(m, o.Progress)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(2 * runtime.GOMAXPROCS(0))
	for i := range m {
		if !m[i].IsFile() {
			continue
		}
		g.Go(func() error {
			var before uint64
			got, err := s.ImportFile(gctx, filepath.Join(dir, filepath.FromSlash(m[i].Path)), blobs.ImportOptions{
				Progress: func(read uint64) { counter.add(0, read-before); before = read },
			})
			if err != nil {
				return err
			}
			// The size is of what was read: the file may have changed since it was listed.
			hashes[i], m[i].Size = got.Hash, got.Size
			counter.add(1, 0)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return info, fmt.Errorf("import directory %s: %w", dir, err)
	}
	seq := blobs.Sequence{{}}
	for i, e := range m {
		if e.IsFile() {
			seq = append(seq, hashes[i])
			info.Size += e.Size
			info.Files++
		}
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
