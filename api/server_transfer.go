package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/directory"
	"github.com/skerry-sync/skerry/internal/disk"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/replica"
)

// importBatch is how many lines of an import are written in one go.
const importBatch = 1024

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

func (s *Server) importItems(ctx context.Context, name, author, files string, body io.Reader, a *answer) (sum Imported, err error) {
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
	s.warnClock(ctx, a)
	batch, err := r.handle.Batch(ctx, node.WriteOptions{As: key, Progress: adding(a)})
	if err != nil {
		return sum, err
	}
	defer batch.Close()
	flush := func(write func() ([]replica.Item, error)) error {
		n := batch.Len()
		if _, err := write(); err != nil {
			return err
		}
		sum.Imported += n
		sum.Seconds = time.Since(start).Seconds()
		a.progress(Progress{Doing: "importing", Files: sum.Imported})
		return nil
	}
	lines := &lineCounter{r: body}
	dec := json.NewDecoder(lines)
	for line := 1; ; line++ {
		var raw json.RawMessage
		err := dec.Decode(&raw)
		if errors.Is(err, io.EOF) {
			break
		}
		var it ImportItem
		if err == nil {
			line = lines.at(dec.InputOffset())
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
			return sum, UsageErrorf("import: line %d: %v (%d imported before it)", line,
				jsonProblem(err, `a JSON object like {"key":"…","value":"…"}`), sum.Imported)
		}
		if err := addItem(batch, &it, from); err != nil {
			return sum, fmt.Errorf("import: line %d: %w (%d imported before it)", line, err, sum.Imported)
		}
		if batch.Len() == importBatch {
			if err := flush(batch.Write); err != nil {
				return sum, err
			}
		}
	}
	return sum, flush(batch.Commit)
}

// addItem adds the value of an item, or the file that it names.
func addItem(batch *node.Batch, it *ImportItem, from importFiles) (err error) {
	c := node.Change{Key: it.Key}
	switch {
	case it.File != "":
		if c.File, err = from.open(it.File); err != nil {
			return err
		}
		defer c.File.Close()
	case it.Value == nil:
		return UsageErrorf("key %q has neither a value nor a file", it.Key)
	default:
		c.Value = []byte(*it.Value)
	}
	return batch.Add(c)
}

// importFiles opens the files that an import names.
type importFiles struct{ root *os.Root } // nil if it may name none

func openImportFiles(dir string) (x importFiles, err error) {
	if dir == "" {
		return x, nil
	}
	if !filepath.IsAbs(dir) {
		return x, UsageErrorf("path %q is not absolute", dir)
	}
	x.root, err = os.OpenRoot(dir)
	return x, err
}

func (x importFiles) open(name string) (*disk.File, error) {
	if x.root == nil {
		return nil, UsageErrorf("it names the file %q, but there is no directory to read files from", name)
	}
	f, err := disk.OpenBelow(x.root, name)
	switch {
	case err == nil:
		return f, nil
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || is[*disk.NotRegularError](err):
		return nil, fmt.Errorf("file %q in %s: %w", name, x.root.Name(), err)
	}
	return nil, UsageErrorf("file %q is not in %s (%v): name the directory that holds it with --files-from", name, x.root.Name(), err)
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

// cannotBeFile says why a key cannot be the path of a file below a directory, or nothing.
func cannotBeFile(key string) string {
	if err := directory.CheckPath(key); err != nil {
		return err.Error()
	}
	for name := range strings.SplitSeq(key, "/") {
		if len(name) > maxFileName {
			return fmt.Sprintf("a name in it has %d bytes, and a file's has at most %d", len(name), maxFileName)
		}
	}
	return ""
}

// maxFileName is what the file systems that there are take as a name, in bytes.
const maxFileName = 255

// replicaExport writes what can be the name of a file, and lists the other keys.
func (s *Server) replicaExport(ctx context.Context, req ExportReplicaRequest, a *answer) (out Exported, err error) {
	r, err := s.open(ctx, req.Name, "export")
	if err != nil {
		return out, err
	}
	if err := free(req.Dir, true); err != nil {
		return out, err
	}
	type file struct {
		directory.Entry
		content []blobs.Hash
	}
	var files []file
	leaveOut := func(key []byte, why string) {
		out.Skipped = append(out.Skipped, Key(key).String())
		out.Why = append(out.Why, why)
	}
	for e, err := range r.Latest(ctx, replica.Query{}) {
		if err != nil {
			return out, err
		}
		f := file{Entry: directory.Entry{Path: string(e.Key), Kind: directory.File}}
		if why := cannotBeFile(f.Path); why != "" {
			leaveOut(e.Key, why)
			continue
		}
		if err := s.waitContent(ctx, &e); err != nil {
			return out, err
		}
		content, err := s.node.PlainContent(ctx, r.Plain, &e.Entry)
		if err != nil {
			return out, fmt.Errorf("export %q: %w", Key(e.Key), err)
		}
		f.Size, f.content = content.Size(), content.Hashes
		if len(content.Hashes) > 1 || content.Hashes[0] != e.Entry.Hash {
			f.Chunks = content.Sizes
		}
		files = append(files, f)
	}
	below := map[string]bool{} // directories that files need
	for _, f := range files {
		for dir := path.Dir(f.Path); dir != "." && !below[dir]; dir = path.Dir(dir) {
			below[dir] = true
		}
	}
	files = slices.DeleteFunc(files, func(f file) bool {
		if below[f.Path] {
			leaveOut([]byte(f.Path), "other keys lie below it")
		}
		return below[f.Path]
	})
	slices.SortFunc(files, func(x, y file) int { return bytes.Compare([]byte(x.Path), []byte(y.Path)) })
	d := directory.Directory{Sequence: blobs.Sequence{{}}}
	for _, f := range files {
		d.Manifest = append(d.Manifest, f.Entry)
		d.Sequence = append(d.Sequence, f.content...)
	}
	if err := d.Manifest.Check(); err != nil {
		return out, fmt.Errorf("export %s: %w", r.Name, err)
	}
	out.Exported, out.Unreadable = len(files), r.Unreadable()
	from := directory.FromStore(s.node.Blobs)
	if r.Plain.Encrypted() {
		from = s.node.CopyPlain(r.Plain)
	}
	return out, d.ExportFrom(ctx, from, req.Dir, func(p directory.Progress) { a.progress(directoryProgress("writing", p)) })
}
