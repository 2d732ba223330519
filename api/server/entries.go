package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"path/filepath"
	"time"

	"github.com/skerry-sync/skerry/api"
	"github.com/skerry-sync/skerry/internal/disk"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/node/content"
	"github.com/skerry-sync/skerry/node/wanted"
	"github.com/skerry-sync/skerry/replica"
)

// contentWait is how long a read of a value waits for content that is on its way.
const contentWait = 10 * time.Second

// author returns the key of the author that text names, or of the default one.
func (s *Server) author(ctx context.Context, text string) (key replica.SecretKey, err error) {
	if text == "" {
		return s.node.Authors().DefaultKey(ctx)
	}
	id, err := replica.ParseAuthorID(text)
	if err != nil {
		return key, api.UsageErrorf("%v", err)
	}
	return s.node.Authors().Key(ctx, id)
}

// opened is a replica with its entries in plain.
type opened struct {
	replica.Replica
	*replica.Plain
	handle *node.Replica
	states *wanted.States
}

// open finds a replica that the node may read, for an operation.
func (s *Server) open(ctx context.Context, name, op string) (o opened, err error) {
	// Whether a node may write is for Write to say: it may hold a grant.
	if o.Replica, err = s.resolve(ctx, name, op, replica.Read); err != nil {
		return o, err
	}
	o.Plain, err = s.node.Replicas().Plain(ctx, o.ID)
	o.handle, o.states = s.node.ReplicaOf(o.ID).Within(contentWait), s.node.ContentStates()
	return o, err
}

func (s *Server) describe(ctx context.Context, o opened, it *replica.Item) (api.Entry, error) {
	e := &it.Entry
	out := api.Entry{
		Key: it.Key, Author: e.Author, Hash: e.Hash, Size: e.Size, Timestamp: e.Timestamp,
		Deleted: e.IsTombstone(),
	}
	if out.Deleted {
		return out, nil
	}
	if o.Plain.Encrypted() {
		out.StoredSize = e.Size
		size, ok, err := o.states.PlainSize(ctx, o.Plain, e)
		if err != nil {
			return out, err
		}
		if ok {
			out.Size = size
		}
	}
	state, err := o.states.Of(ctx, e)
	out.Content = state.String()
	return out, err
}

// writeValue sets a key to the body of the request, which is stored, or sealed, as it comes.
func (s *Server) writeValue(w http.ResponseWriter, r *http.Request) {
	a := begin(w)
	ctx := r.Context()
	q := r.URL.Query()
	key, err := api.ParseKey(q.Get("key"))
	if err != nil {
		a.finish(nil, err)
		return
	}
	e, err := s.setTo(ctx, api.SetRequest{
		Name: q.Get("name"), Key: key, Author: q.Get("author"),
	}, r.Body, a)
	a.finish(e, err)
}

func (s *Server) replicaSet(ctx context.Context, req api.SetRequest, a *answer) (api.Entry, error) {
	return s.setTo(ctx, req, nil, a)
}

// setTo sets a key to what a request says or, if body is not nil, to that.
func (s *Server) setTo(
	ctx context.Context, req api.SetRequest, body io.Reader, a *answer,
) (api.Entry, error) {
	r, err := s.open(ctx, req.Name, "set")
	if err != nil {
		return api.Entry{}, err
	}
	key, err := s.author(ctx, req.Author)
	if err != nil {
		return api.Entry{}, err
	}
	c := node.Change{Key: req.Key, Value: req.Value, Stream: body}
	if req.File != "" {
		if c.File, err = openFile(req.File); err != nil {
			return api.Entry{}, err
		}
		defer c.File.Close()
	}
	s.warnWriting(ctx, a)
	items, err := r.handle.Apply(ctx, node.WriteOptions{As: key, Progress: adding(a)}, c)
	if err != nil {
		return api.Entry{}, err
	}
	return s.describe(ctx, r, &items[0])
}

// adding tells of content as it is read; a may be nil.
func adding(a *answer) func(uint64) {
	return func(n uint64) { a.progress(api.Progress{Doing: "adding", Bytes: n}) }
}

// openFile opens a file to be read for a client. The client is the same user (see Listen), so it
// may name any path.
func openFile(name string) (*disk.File, error) {
	if !filepath.IsAbs(name) {
		return nil, api.UsageErrorf("path %q is not absolute", name)
	}
	return disk.OpenRegular(name)
}

func (s *Server) replicaGet(ctx context.Context, req api.KeyRequest, a *answer) (struct{}, error) {
	r, err := s.open(ctx, req.Name, "get")
	if err != nil {
		return struct{}{}, err
	}
	found := false
	for e, err := range r.Entries(ctx, replica.Query{Key: notNil(req.Key)}) {
		if err != nil {
			return struct{}{}, err
		}
		found = true
		d, err := s.describe(ctx, r, &e)
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

func notNil(k api.Key) []byte {
	if k == nil {
		return []byte{}
	}
	return k
}

// readValue answers with the bytes of the latest value of a key; if they are on their way, it waits
// a while.
func (s *Server) readValue(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	held, release := s.node.Hold()
	defer release()
	rep, err := s.open(ctx, r.FormValue("name"), "get")
	var key api.Key
	if err == nil {
		key, err = api.ParseKey(r.FormValue("key"))
	}
	var in content.Reader
	if err == nil {
		_, in, err = held.ReplicaOf(rep.ID).Within(contentWait).Open(ctx, notNil(key))
		if errors.Is(err, replica.ErrNotFound) {
			err = fmt.Errorf("key %q in %s: %w", key, rep.Name, err)
		}
	}
	var span span
	if err == nil {
		span, err = spanOf(r)
	}
	if err != nil {
		fail(w, err)
		return
	}
	sendContent(w, in, span)
}

func (s *Server) replicaDelete(
	ctx context.Context, req api.KeyRequest, a *answer,
) (api.Removed, error) {
	r, err := s.open(ctx, req.Name, "delete")
	if err != nil {
		return api.Removed{}, err
	}
	author, err := s.author(ctx, req.Author)
	if err != nil {
		return api.Removed{}, err
	}
	s.warnWriting(ctx, a)
	as := node.WriteOptions{As: author}
	if req.Prefix {
		n, err := r.handle.DeletePrefix(ctx, as, req.Key)
		return api.Removed{Removed: n}, err
	}
	if _, err := r.LatestOf(ctx, notNil(req.Key)); err != nil {
		return api.Removed{}, fmt.Errorf("key %q in %s: %w", req.Key, r.Name, err)
	}
	_, err = r.handle.Apply(ctx, as, node.Change{Key: req.Key, Delete: true})
	return api.Removed{Removed: 1}, err
}

func (s *Server) entries(ctx context.Context, req api.ListRequest, a *answer) (api.Listed, error) {
	r, err := s.open(ctx, req.Name, "list")
	if err != nil {
		return api.Listed{}, err
	}
	q := replica.Query{
		Prefix: req.Prefix, Since: req.Since, Until: req.Until, Limit: req.Limit, Reverse: req.Reverse,
		ByTime: req.ByTime, Tombstones: req.All,
	}
	if req.Author != "" {
		id, err := replica.ParseAuthorID(req.Author)
		if err != nil {
			return api.Listed{}, api.UsageErrorf("%v", err)
		}
		q.Author = &id
	}
	var all iter.Seq2[replica.Item, error]
	switch {
	case req.All:
		all = r.Entries(ctx, q)
	case req.ByTime:
		return api.Listed{}, api.UsageErrorf(
			"the latest entries are in the order of keys: use --by-time together with --all",
		)
	default:
		all = r.Latest(ctx, q)
	}
	for e, err := range all {
		if err != nil {
			return api.Listed{}, err
		}
		d, err := s.describe(ctx, r, &e)
		if err != nil {
			return api.Listed{}, err
		}
		if err := a.item(d); err != nil {
			return api.Listed{}, err
		}
	}
	return api.Listed{Unreadable: r.Unreadable()}, nil
}

// replicaWatch sends an item for each entry that is stored, until the client goes away.
func (s *Server) replicaWatch(
	ctx context.Context, req api.NameRequest, a *answer,
) (struct{}, error) {
	r, err := s.open(ctx, req.Name, "watch")
	if err != nil {
		return struct{}{}, err
	}
	w, err := r.handle.Watch(ctx)
	if err != nil {
		return struct{}{}, err
	}
	defer w.Close()
	a.flush() // the client knows now that nothing will be missed
	for {
		seen, missed, err := w.Next(ctx)
		if err != nil {
			return struct{}{}, err
		}
		if missed > 0 {
			if err := a.item(api.Entry{Missed: missed}); err != nil {
				return struct{}{}, err
			}
		}
		r.Plain, r.states = w.View(), s.node.ContentStates()
		for i := range seen {
			d, err := s.describe(ctx, r, &seen[i].Item)
			if err != nil {
				return struct{}{}, err
			}
			d.From, d.Dropped = seen[i].From.Peer, seen[i].Dropped
			if err := a.item(d); err != nil {
				return struct{}{}, err
			}
		}
		a.flush()
	}
}
