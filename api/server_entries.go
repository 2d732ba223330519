package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"path/filepath"
	"slices"
	"time"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/directory"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/replica"
)

// contentWait is how long a read of a value waits for content that is on its way.
const contentWait = 10 * time.Second

// author returns the key of the author that text names, or of the default one.
func (s *Server) author(ctx context.Context, text string) (key replica.SecretKey, err error) {
	var id replica.AuthorID
	if text == "" {
		id, err = s.node.Replicas.DefaultAuthor(ctx)
	} else if id, err = replica.ParseAuthorID(text); err != nil {
		err = UsageErrorf("%v", err)
	}
	if err != nil {
		return key, err
	}
	return s.node.Replicas.AuthorKey(ctx, id)
}

func (s *Server) describe(ctx context.Context, e *replica.Entry, content bool) (Entry, error) {
	out := Entry{Key: e.Key, Author: e.Author, Hash: e.Hash, Size: e.Size, Timestamp: e.Timestamp, Deleted: e.IsTombstone()}
	if !content || out.Deleted {
		return out, nil
	}
	state, err := s.node.ContentState(ctx, e.Hash, e.Size)
	out.Content = state.String()
	return out, err
}

func (s *Server) replicaSet(ctx context.Context, req SetRequest, a *answer) (Entry, error) {
	r, err := s.resolve(ctx, req.Name, "set", replica.Read) // whether it may write is for Write to say: it may hold a grant
	if err != nil {
		return Entry{}, err
	}
	key, err := s.author(ctx, req.Author)
	if err != nil {
		return Entry{}, err
	}
	c, err := s.store(ctx, ImportItem{Key: req.Key, Value: ptr(string(req.Value)), File: req.File}, a)
	if err != nil {
		return Entry{}, err
	}
	entries, err := s.node.Replicas.Write(ctx, r.ID, key, []replica.Change{c})
	if err == nil {
		err = s.node.Blobs.Sync(ctx)
	}
	if err != nil {
		return Entry{}, err
	}
	return s.describe(ctx, &entries[0], true)
}

func ptr[T any](v T) *T { return &v }

// store imports the content of an item.
func (s *Server) store(ctx context.Context, it ImportItem, a *answer) (c replica.Change, err error) {
	if len(it.Key) > replica.MaxKey {
		return c, fmt.Errorf("%w: it has %d", replica.ErrKeyTooLong, len(it.Key))
	}
	c.Key = it.Key
	switch {
	case it.File != "":
		if !filepath.IsAbs(it.File) {
			return c, UsageErrorf("path %q is not absolute", it.File)
		}
		c.Hash, c.Size, err = s.node.ImportContent(ctx, it.File, func(n uint64) { a.progress(Progress{Doing: "adding", Bytes: n}) })
	case it.Value != nil:
		var info blobs.Info
		info, err = s.node.Blobs.ImportBytes(ctx, []byte(*it.Value))
		c.Hash, c.Size = info.Hash, info.Size
	default:
		return c, UsageErrorf("key %q has neither a value nor a file", it.Key)
	}
	if err == nil && c.Size == 0 {
		err = fmt.Errorf("key %q: %w", it.Key, replica.ErrEmptyValue)
	}
	return c, err
}

func (s *Server) replicaGet(ctx context.Context, req KeyRequest, a *answer) (struct{}, error) {
	r, err := s.resolve(ctx, req.Name, "get", replica.Read)
	if err != nil {
		return struct{}{}, err
	}
	found := false
	for e, err := range s.node.Replicas.Entries(ctx, r.ID, replica.Query{Key: notNil(req.Key)}) {
		if err != nil {
			return struct{}{}, err
		}
		found = true
		d, err := s.describe(ctx, &e, true)
		if err != nil {
			return struct{}{}, err
		}
		if err := a.item(d); err != nil {
			return struct{}{}, err
		}
	}
	if !found {
		return struct{}{}, fmt.Errorf("key %q in %s: %w", req.Key, r.Name, replica.ErrNotFound)
	}
	return struct{}{}, nil
}

func notNil(k Key) []byte {
	if k == nil {
		return []byte{}
	}
	return k
}

// readValue answers with the bytes of the latest value of a key; if they are on their way, it waits a while.
func (s *Server) readValue(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	rep, err := s.resolve(ctx, r.FormValue("name"), "get", replica.Read)
	var key Key
	if err == nil {
		key, err = ParseKey(r.FormValue("key"))
	}
	var e replica.Entry
	if err == nil {
		e, err = s.node.Replicas.LatestOf(ctx, rep.ID, notNil(key))
		if errors.Is(err, replica.ErrNotFound) {
			err = fmt.Errorf("key %q in %s: %w", key, rep.Name, err)
		}
	}
	if err == nil {
		err = s.waitContent(ctx, e)
	}
	var content node.ContentReader
	if err == nil {
		content, err = s.node.OpenContent(ctx, e.Hash, e.Size)
	}
	var span span
	if err == nil {
		span, err = spanOf(r)
	}
	if err != nil {
		fail(w, err)
		return
	}
	sendContent(w, content, span)
}

func (s *Server) waitContent(ctx context.Context, e replica.Entry) error {
	wait := contentWait
	if !s.node.Online() {
		wait = 0
	}
	limited, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	if state, err := s.node.ContentState(ctx, e.Hash, e.Size); state == node.ContentComplete || err != nil {
		return err
	}
	err := s.node.WaitContent(limited, e.Hash, e.Size)
	if err != nil && ctx.Err() == nil {
		return &Error{Unreachable, fmt.Sprintf("the content of %q (%s, %d bytes) is not here, and no peer has given it within %s", Key(e.Key), e.Hash, e.Size, wait)}
	}
	return err
}

func (s *Server) replicaDelete(ctx context.Context, req KeyRequest, _ *answer) (Removed, error) {
	r, err := s.resolve(ctx, req.Name, "delete", replica.Read)
	if err != nil {
		return Removed{}, err
	}
	author, err := s.author(ctx, req.Author)
	if err != nil {
		return Removed{}, err
	}
	q := replica.Query{Key: notNil(req.Key)}
	if req.Prefix {
		q = replica.Query{Prefix: req.Key}
	}
	var changes []replica.Change
	for e, err := range s.node.Replicas.Latest(ctx, r.ID, q) {
		if err != nil {
			return Removed{}, err
		}
		changes = append(changes, replica.Change{Key: e.Key})
	}
	if len(changes) == 0 && !req.Prefix {
		return Removed{}, fmt.Errorf("key %q in %s: %w", req.Key, r.Name, replica.ErrNotFound)
	}
	if _, err := s.node.Replicas.Write(ctx, r.ID, author, changes); err != nil {
		return Removed{}, err
	}
	return Removed{len(changes)}, s.node.Blobs.Sync(ctx)
}

func (s *Server) entries(ctx context.Context, req ListRequest, a *answer) (struct{}, error) {
	r, err := s.resolve(ctx, req.Name, "list", replica.Read)
	if err != nil {
		return struct{}{}, err
	}
	q := replica.Query{Prefix: req.Prefix, Since: req.Since, Until: req.Until, Limit: req.Limit, Reverse: req.Reverse, ByTime: req.ByTime, Tombstones: req.All}
	if req.Author != "" {
		id, err := replica.ParseAuthorID(req.Author)
		if err != nil {
			return struct{}{}, UsageErrorf("%v", err)
		}
		q.Author = &id
	}
	var all iter.Seq2[replica.Entry, error]
	switch {
	case req.All:
		all = s.node.Replicas.Entries(ctx, r.ID, q)
	case req.ByTime:
		return struct{}{}, UsageErrorf("the latest entries are in the order of keys: use --by-time together with --all")
	default:
		all = s.node.Replicas.Latest(ctx, r.ID, q)
	}
	for e, err := range all {
		if err != nil {
			return struct{}{}, err
		}
		d, err := s.describe(ctx, &e, true)
		if err != nil {
			return struct{}{}, err
		}
		if err := a.item(d); err != nil {
			return struct{}{}, err
		}
	}
	return struct{}{}, nil
}

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
	r, err := s.resolve(ctx, name, "import", replica.Read)
	if err != nil {
		return sum, err
	}
	key, err := s.author(ctx, author)
	if err != nil {
		return sum, err
	}
	var changes []replica.Change
	flush := func() error {
		if _, err := s.node.Replicas.Write(ctx, r.ID, key, changes); err != nil {
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
		c, err := s.store(ctx, it, a)
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
	r, err := s.resolve(ctx, req.Name, "export", replica.Read)
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
	for e, err := range s.node.Replicas.Latest(ctx, r.ID, replica.Query{}) {
		if err != nil {
			return out, err
		}
		f := file{directory.Entry{Path: string(e.Key), Kind: directory.File, Size: e.Size}, []blobs.Hash{e.Hash}}
		if err := directory.CheckPath(f.Path); err != nil {
			if !req.SkipUnsafe {
				return out, fmt.Errorf("export %s: %w (leave such keys out with --skip-unsafe)", r.Name, err)
			}
			out.Skipped = append(out.Skipped, Key(e.Key).String())
			continue
		}
		if err := s.waitContent(ctx, e); err != nil {
			return out, err
		}
		if info, err := s.node.Blobs.Stat(ctx, e.Hash); err != nil {
			return out, err
		} else if info.Size != e.Size {
			chunks, err := s.node.Chunks(ctx, e.Hash, e.Size)
			if err != nil {
				return out, err
			}
			f.Chunks, f.content = chunks.Sizes, chunks.Hashes
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
	out.Exported = len(files)
	return out, d.Export(ctx, s.node.Blobs, req.Dir, func(p directory.Progress) { a.progress(directoryProgress("writing", p)) })
}

// replicaWatch sends an item for each entry that is stored, until the client goes away.
func (s *Server) replicaWatch(ctx context.Context, req NameRequest, a *answer) (struct{}, error) {
	r, err := s.resolve(ctx, req.Name, "watch", replica.Read)
	if err != nil {
		return struct{}{}, err
	}
	sub := s.node.Replicas.Subscribe(r.ID)
	defer sub.Close()
	a.flush() // the client knows now that nothing will be missed
	for {
		events, missed, err := sub.Next(ctx)
		if err != nil {
			return struct{}{}, err
		}
		if missed > 0 {
			if err := a.item(Entry{Missed: missed}); err != nil {
				return struct{}{}, err
			}
		}
		for _, e := range events {
			d, err := s.describe(ctx, &e.Entry, true)
			if err != nil {
				return struct{}{}, err
			}
			d.From, d.Dropped = e.From.Peer, e.Dropped
			if err := a.item(d); err != nil {
				return struct{}{}, err
			}
		}
		a.flush()
	}
}
