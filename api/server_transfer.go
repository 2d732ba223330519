package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/directory"
	"github.com/skerry-sync/skerry/replica"
)

// importBatch is how many lines of an import are written in one go.
const importBatch = 1024

// replicaImport reads ImportItems from the body, one JSON value after the other, and sets them in batches. What was set before an error stays.
func (s *Server) replicaImport(w http.ResponseWriter, r *http.Request) {
	a := begin(w)
	ctx, release := s.node.Blobs.Hold(r.Context())
	defer release()
	n, err := s.importItems(ctx, r.FormValue("name"), r.FormValue("author"), r.Body, a)
	a.finish(n, err)
}

func (s *Server) importItems(ctx context.Context, name, author string, body io.Reader, a *answer) (sum Imported, err error) {
	start := time.Now()
	r, err := s.open(ctx, name, "import")
	if err != nil {
		return sum, err
	}
	key, err := s.author(ctx, author)
	if err != nil {
		return sum, err
	}
	var changes []replica.Change
	flush := func() error {
		if _, err := r.Write(ctx, key, changes); err != nil {
			return err
		}
		sum.Imported += len(changes)
		sum.Seconds = time.Since(start).Seconds()
		changes = changes[:0]
		a.progress(Progress{Doing: "importing", Files: sum.Imported})
		return nil
	}
	dec := json.NewDecoder(body)
	dec.DisallowUnknownFields()
	for at := 1; ; at++ {
		var it ImportItem
		if err := dec.Decode(&it); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return sum, UsageErrorf("import: item %d: %v (%d imported before it)", at, err, sum.Imported)
		}
		c, err := s.store(ctx, r, it, a)
		if err != nil {
			return sum, fmt.Errorf("import: item %d: %w (%d imported before it)", at, err, sum.Imported)
		}
		if changes = append(changes, c); len(changes) == importBatch {
			if err := flush(); err != nil {
				return sum, err
			}
		}
	}
	if err := flush(); err != nil {
		return sum, err
	}
	return sum, s.node.Blobs.Sync(ctx)
}

func (s *Server) replicaExport(ctx context.Context, req ExportReplicaRequest, a *answer) (out Exported, err error) {
	r, err := s.open(ctx, req.Name, "export")
	if err != nil {
		return out, err
	}
	if err := free(req.Dir); err != nil {
		return out, err
	}
	type file struct {
		directory.Entry
		content []blobs.Hash
	}
	var files []file
	for e, err := range r.Latest(ctx, replica.Query{}) {
		if err != nil {
			return out, err
		}
		f := file{Entry: directory.Entry{Path: string(e.Key), Kind: directory.File}}
		if err := directory.CheckPath(f.Path); err != nil {
			if !req.SkipUnsafe {
				return out, fmt.Errorf("export %s: %w (leave such keys out with --skip-unsafe)", r.Name, err)
			}
			out.Skipped = append(out.Skipped, Key(e.Key).String())
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
