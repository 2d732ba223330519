package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/skerry-sync/skerry/api"
	"github.com/skerry-sync/skerry/blobs/directory"
	"github.com/skerry-sync/skerry/internal/disk"
	"github.com/skerry-sync/skerry/node"
)

// replicaImport reads ImportItems from the body, one JSON value after the other, and sets them in
// batches. What was set before an error stays. An import is written by others than who runs it, so
// the files that it names are read below the directory "files" alone.
func (s *Server) replicaImport(w http.ResponseWriter, r *http.Request) {
	a := begin(w)
	ctx := r.Context()
	q := r.URL.Query() // not FormValue: it takes a body of curl's default type for a form
	n, err := s.importItems(ctx, q.Get("name"), q.Get("author"), q.Get("files"), r.Body, a)
	a.finish(n, err)
}

func (s *Server) importItems(
	ctx context.Context, name, author, files string, body io.Reader, a *answer,
) (sum api.Imported, err error) {
	start := time.Now()
	r, err := s.open(ctx, name, "import")
	if err != nil {
		return sum, err
	}
	key, err := s.author(ctx, author)
	if err != nil {
		return sum, err
	}
	from, err := openImportFiles(files)
	if err != nil {
		return sum, err
	}
	defer func() { err = errors.Join(err, from.close()) }()
	s.warnWriting(ctx, a)
	items := &importReader{from: from}
	sum.Imported, err = r.handle.Import(ctx, node.WriteOptions{As: key, Progress: adding(a)},
		items.changes(body), func(made int) {
			items.made = made
			a.progress(api.Progress{Doing: "importing", Files: made})
		})
	if refused, ok := errors.AsType[*node.ChangeError](err); ok {
		err = items.wrong(refused.Err)
	}
	sum.Seconds = time.Since(start).Seconds()
	return sum, err
}

// importReader reads the changes that an import asks for.
type importReader struct {
	from importFiles
	line int // of the last change
	made int // changes that have been made
}

// wrong says in which line something is wrong.
func (r *importReader) wrong(err error) error {
	return fmt.Errorf("import: line %d: %w (%d imported before it)", r.line, err, r.made)
}

// changes yields a change for each ImportItem of body.
func (r *importReader) changes(body io.Reader) iter.Seq2[node.Change, error] {
	return func(yield func(node.Change, error) bool) {
		lines := &lineCounter{r: body}
		dec := json.NewDecoder(lines)
		for r.line = 1; ; r.line++ {
			var raw json.RawMessage
			err := dec.Decode(&raw)
			if errors.Is(err, io.EOF) {
				return
			}
			var it api.ImportItem
			if err == nil {
				r.line = lines.at(dec.InputOffset())
				err = decodeStrict(raw, &it)
			}
			switch {
			case err != nil:
			case it.Key == nil:
				err = errors.New("it has no \"key\"")
			case it.Value != nil && it.File != "":
				err = errors.New("it has both \"value\" and \"file\": give one of them")
			}
			if err != nil {
				err = jsonProblem(err, `a JSON object like {"key":"…","value":"…"}`)
				yield(node.Change{}, api.UsageErrorf("%v", r.wrong(err)))
				return
			}
			if !r.change(&it, yield) {
				return
			}
		}
	}
}

// change yields the change of an item. A file that it names is open meanwhile.
func (r *importReader) change(it *api.ImportItem, yield func(node.Change, error) bool) bool {
	c := node.Change{Key: it.Key}
	switch {
	case it.File != "":
		f, err := r.from.open(it.File)
		if err != nil {
			return yield(c, r.wrong(err))
		}
		defer f.Close()
		c.File = f
	case it.Value == nil:
		return yield(c, r.wrong(api.UsageErrorf("key %q has neither a value nor a file", it.Key)))
	default:
		c.Value = []byte(*it.Value)
	}
	return yield(c, nil)
}

// importFiles opens the files that an import names.
type importFiles struct{ root *os.Root } // nil if it may name none

func openImportFiles(dir string) (x importFiles, err error) {
	if dir == "" {
		return x, nil
	}
	if !filepath.IsAbs(dir) {
		return x, api.UsageErrorf("path %q is not absolute", dir)
	}
	x.root, err = os.OpenRoot(dir)
	return x, err
}

func (x importFiles) open(name string) (*disk.File, error) {
	if x.root == nil {
		return nil, api.UsageErrorf(
			"it names the file %q, but there is no directory to read files from", name,
		)
	}
	f, err := disk.OpenBelow(x.root, name)
	_, notRegular := errors.AsType[*disk.NotRegularError](err)
	switch {
	case err == nil:
		return f, nil
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission), notRegular:
		return nil, fmt.Errorf("file %q in %s: %w", name, x.root.Name(), err)
	}
	return nil, api.UsageErrorf(
		"file %q is not in %s (%v): name the directory that holds it with --files-from", name,
		x.root.Name(), err,
	)
}

func (x importFiles) close() error {
	if x.root == nil {
		return nil
	}
	return x.root.Close()
}

// lineCounter knows in which line a byte is that was read through it.
type lineCounter struct {
	r     io.Reader
	n     int64   // bytes read
	ends  []int64 // offsets of the line ends that were not counted yet
	lines int     // line ends before those
}

func (c *lineCounter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	for i, b := range p[:n] {
		if b == '\n' {
			c.ends = append(c.ends, c.n+int64(i))
		}
	}
	c.n += int64(n)
	return n, err
}

// at returns the number of the line, from 1, that the byte before off is in. off must not decrease.
func (c *lineCounter) at(off int64) int {
	i := 0
	for i < len(c.ends) && c.ends[i] < off {
		i++
	}
	c.lines += i
	c.ends = c.ends[i:]
	return c.lines + 1
}

// replicaExport writes what can be the name of a file, and lists the other keys.
func (s *Server) replicaExport(
	ctx context.Context, req api.ExportReplicaRequest, a *answer,
) (out api.Exported, err error) {
	r, err := s.open(ctx, req.Name, "export")
	if err != nil {
		return out, err
	}
	if err := free(req.Dir, true); err != nil {
		return out, err
	}
	done, err := r.handle.Export(ctx, req.Dir, func(p directory.Progress) {
		a.progress(directoryProgress("writing", p))
	})
	out.Exported, out.Unreadable = done.Files, done.Unreadable
	for _, left := range done.Left {
		out.Skipped = append(out.Skipped, api.Key(left.Key).String())
		out.Why = append(out.Why, left.Why)
	}
	return out, err
}
