package server

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/api"
	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/chunked"
	"github.com/skerry-sync/skerry/blobs/directory"
	"github.com/skerry-sync/skerry/node/content"
	"github.com/skerry-sync/skerry/ticket"
)

// readBlob answers with the bytes of what a ticket or hash names, from offset on, at most length of
// them. Of a file in chunks that is its content, unless raw is asked for. What is not here is
// fetched as it is read, and not more.
func (s *Server) readBlob(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	span, err := spanOf(r)
	var x named
	if err == nil {
		x, err = s.name(ctx, r.FormValue("hash"))
	}
	if err != nil {
		fail(w, err)
		return
	}
	session := s.node.NewSession(ctx, x.providers)
	defer func() { _, _ = session.Close() }() // what was wrong has been told by the reads
	content, err := openNamed(session, x.hash, span, x.form == content.Raw || r.FormValue("raw") != "")
	if err != nil {
		fail(w, err)
		return
	}
	sendContent(w, content, span)
}

// openNamed opens a blob, or what the chunks hold of which it is the sequence.
func openNamed(session *content.Session, h blobs.Hash, at span, raw bool) (content.Reader, error) {
	first := uint64(0)
	if at.length >= 0 {
		first = uint64(at.length)
	}
	b, err := session.OpenAt(h, uint64(at.offset), max(first, 1))
	if err != nil || raw {
		return b, err
	}
	chunks, err := session.Chunks(h)
	if errors.Is(err, chunked.ErrNotChunked) {
		return b, nil
	}
	if err != nil {
		return nil, err
	}
	return session.OpenIndex(chunks)
}

// span is the part of some content that is asked for; a negative length is all.
type span struct{ offset, length int64 }

func spanOf(r *http.Request) (span, error) {
	x := span{0, -1}
	for _, q := range []struct {
		name string
		to   *int64
	}{{"offset", &x.offset}, {"length", &x.length}} {
		if text := r.FormValue(q.name); text != "" {
			n, err := strconv.ParseInt(text, 10, 64)
			if err != nil || n < 0 {
				return x, api.UsageErrorf("%s %q is not a number of bytes", q.name, text)
			}
			*q.to = n
		}
	}
	return x, nil
}

// sendContent answers with bytes.
func sendContent(w http.ResponseWriter, content content.Reader, x span) {
	offset := min(x.offset, content.Size())
	length := content.Size() - offset
	if x.length >= 0 {
		length = min(length, x.length)
	}
	var probe [1]byte
	if length > 0 { // a missing first byte can still be told as an error
		if _, err := content.ReadAt(probe[:], offset); err != nil {
			fail(w, err)
			return
		}
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.FormatInt(length, 10))
	if _, err := io.CopyBuffer(
		struct{ io.Writer }{w}, io.NewSectionReader(content, offset, length),
		make([]byte, blobs.SegmentSize),
	); err != nil {
		// too late for an error: cut the answer short, so that nobody takes it for whole
		panic(http.ErrAbortHandler)
	}
}

func (s *Server) share(ctx context.Context, req api.AddRequest, a *answer) (api.Shared, error) {
	if len(req.Paths) != 1 {
		return api.Shared{}, api.UsageErrorf("share takes one path")
	}
	held, release := s.node.Blobs().Hold()
	defer release()
	one, err := s.addPath(ctx, held, req.Paths[0], req, a)
	if err != nil {
		return api.Shared{}, err
	}
	if err := s.node.Blobs().Sync(ctx); err != nil {
		return api.Shared{}, err
	}
	t := ticket.Blob{
		Hash: one.Hash, Sequence: one.Kind == kindDirectory || one.Chunked, Addrs: s.node.Addrs(),
	}
	text, err := t.Text()
	return api.Shared{
		Ticket: text, Hash: one.Hash, Size: one.Size, Kind: one.Kind, Skipped: one.Skipped,
	}, err
}

// named is what a ticket or hash names.
type named struct {
	hash      blobs.Hash
	form      content.Form
	providers []peer.AddrInfo
}

// name reads a ticket or a hash.
func (s *Server) name(ctx context.Context, what string) (x named, err error) {
	what = strings.TrimSpace(what)
	if ticket.Looks(what) {
		t, err := ticket.ParseBlob(what)
		if err != nil {
			return x, err
		}
		x = named{t.Hash, content.Raw, t.Peers()}
		if t.Sequence {
			x.form = content.Sequence
		}
		return x, nil
	}
	x.hash, err = s.node.Blobs().Resolve(ctx, what)
	if errors.Is(err, blobs.ErrNotHash) {
		_, asTicket := ticket.ParseBlob(what)
		if asTicket != nil && !errors.Is(asTicket, ticket.ErrNotTicket) {
			return x, asTicket
		}
		err = api.UsageErrorf(
			"%q is neither a ticket nor a hash (64 hex digits, or the first 8 or more of a blob here)",
			api.Brief(what),
		)
	}
	return x, err
}

func (s *Server) get(ctx context.Context, req api.GetRequest, a *answer) (api.Got, error) {
	x, err := s.name(ctx, req.What)
	if err != nil {
		return api.Got{}, err
	}
	return s.fetchTo(ctx, x.hash, x.form, x.providers, req.Path, a)
}

// fetchTo brings content into the store and writes it to path, unless that is empty. Whether the
// path is free is asked before anything is fetched.
func (s *Server) fetchTo(
	ctx context.Context, h blobs.Hash, form content.Form, providers []peer.AddrInfo, path string,
	a *answer,
) (api.Got, error) {
	start := time.Now()
	if path != "" {
		if err := free(path, form != content.Raw); err != nil {
			return api.Got{}, err
		}
	}
	held, release := s.node.Hold()
	defer release()
	c, err := held.Get(ctx, h, form, providers, fetchProgress(a))
	if err != nil {
		return api.Got{}, err
	}
	got := api.Got{
		Hash: h, Path: path, Size: c.Size, FetchedBytes: c.Fetched.Bytes, Providers: []string{},
		Kind: kindBlob,
	}
	if c.Directory != nil {
		got.Kind = kindDirectory
	}
	for _, p := range c.Fetched.Providers {
		got.Providers = append(got.Providers, p.String())
	}
	if path != "" {
		err = held.Export(ctx, &c, path, func(p directory.Progress) {
			a.progress(directoryProgress("writing", p))
		})
	}
	got.Seconds = time.Since(start).Seconds()
	return got, err
}

func fetchProgress(a *answer) func(content.GetProgress) {
	return func(p content.GetProgress) {
		a.progress(api.Progress{Doing: "fetching", Bytes: p.Fetched, TotalBytes: p.Total})
	}
}
