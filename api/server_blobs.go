package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/directory"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/ticket"
)

const (
	kindBlob      = "blob"
	kindDirectory = "directory"
)

func (s *Server) status(ctx context.Context, _ struct{}, _ *answer) (st Status, err error) {
	st = Status{NodeID: s.node.ID().String(), Addrs: []string{}, Peers: []PeerStatus{}, Version: s.version}
	for _, a := range s.node.Addrs() {
		st.Addrs = append(st.Addrs, a.String())
	}
	for _, p := range s.node.Peers() {
		st.Peers = append(st.Peers, PeerStatus{p.ID.String(), p.Addr.String(), p.Transport, p.Direct})
	}
	if st.Replicas, err = s.replicaStatuses(ctx); err != nil {
		return st, err
	}
	t, err := s.node.Blobs.Totals(ctx)
	st.Blobs = BlobStatus{t.Count, t.Bytes, t.Partial}
	return st, err
}

func (s *Server) blobAdd(ctx context.Context, req AddRequest, a *answer) (struct{}, error) {
	if len(req.Paths) == 0 {
		return struct{}{}, UsageErrorf("no paths to add")
	}
	var all []Added
	for _, p := range req.Paths {
		one, err := s.addPath(ctx, p, req.SkipUnsafeLinks, a)
		if err != nil {
			return struct{}{}, err
		}
		all = append(all, one)
	}
	// Only what survives a loss of power is acknowledged.
	if err := s.node.Blobs.Sync(ctx); err != nil {
		return struct{}{}, err
	}
	for _, one := range all {
		if err := a.item(one); err != nil {
			return struct{}{}, err
		}
	}
	return struct{}{}, nil
}

func (s *Server) addPath(ctx context.Context, path string, skipUnsafe bool, a *answer) (Added, error) {
	if !filepath.IsAbs(path) {
		return Added{}, UsageErrorf("path %q is not absolute", path)
	}
	st, err := os.Stat(path)
	if err != nil {
		return Added{}, err
	}
	switch {
	case st.IsDir():
		info, err := directory.Import(ctx, s.node.Blobs, path, directory.ImportOptions{SkipUnsafeLinks: skipUnsafe,
			Progress: func(p directory.Progress) { a.progress(directoryProgress("adding", p)) }})
		return Added{Path: path, Hash: info.Hash, Size: info.Size, Kind: kindDirectory, Files: info.Files, Skipped: info.Skipped}, err
	case st.Mode().IsRegular():
		info, err := s.node.Blobs.ImportFile(ctx, path, blobs.ImportOptions{Progress: func(read uint64) {
			a.progress(Progress{Doing: "adding", Bytes: read, TotalBytes: uint64(st.Size())})
		}})
		return Added{Path: path, Hash: info.Hash, Size: info.Size, Kind: kindBlob}, err
	}
	return Added{}, UsageErrorf("%s is neither a file nor a directory", path)
}

func directoryProgress(doing string, p directory.Progress) Progress {
	return Progress{Doing: doing, Bytes: p.Bytes, TotalBytes: p.TotalBytes, Files: p.Files, TotalFiles: p.TotalFiles}
}

// importBlob stores the body of a request.
func (s *Server) importBlob(w http.ResponseWriter, r *http.Request) {
	a := begin(w)
	info, err := s.node.Blobs.Import(r.Context(), r.Body, blobs.ImportOptions{})
	if err == nil {
		err = s.node.Blobs.Sync(r.Context())
	}
	a.finish(Added{Path: "-", Hash: info.Hash, Size: info.Size, Kind: kindBlob}, err)
}

// readBlob answers with a blob's bytes from offset on, at most length of them.
func (s *Server) readBlob(w http.ResponseWriter, r *http.Request) {
	h, err := s.node.Blobs.Resolve(r.Context(), r.FormValue("hash"))
	if err != nil {
		fail(w, err)
		return
	}
	s.sendBlob(w, r, h)
}

func (s *Server) sendBlob(w http.ResponseWriter, r *http.Request, h blobs.Hash) {
	rd, err := s.node.Blobs.Reader(r.Context(), h)
	if err != nil {
		fail(w, err)
		return
	}
	offset, length := int64(0), rd.Size()
	for _, q := range []struct {
		name string
		to   *int64
	}{{"offset", &offset}, {"length", &length}} {
		if text := r.FormValue(q.name); text != "" {
			if *q.to, err = strconv.ParseInt(text, 10, 64); err != nil || *q.to < 0 {
				fail(w, UsageErrorf("%s %q is not a number of bytes", q.name, text))
				return
			}
		}
	}
	offset = min(offset, rd.Size())
	length = min(length, rd.Size()-offset)
	var probe [1]byte
	if length > 0 { // a missing first byte can still be told as an error
		if _, err := rd.ReadAt(probe[:], offset); err != nil {
			fail(w, err)
			return
		}
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.FormatInt(length, 10))
	if _, err := io.CopyBuffer(struct{ io.Writer }{w}, io.NewSectionReader(rd, offset, length), make([]byte, blobs.SegmentSize)); err != nil {
		panic(http.ErrAbortHandler) // too late for an error: cut the answer short, so that nobody takes it for whole
	}
}

func (s *Server) blobList(ctx context.Context, _ struct{}, a *answer) (struct{}, error) {
	for info, err := range s.node.Blobs.List(ctx) {
		if err != nil {
			return struct{}{}, err
		}
		if err := a.item(BlobInfo{info.Hash, info.Size, info.Complete, info.Present, []string{}}); err != nil {
			return struct{}{}, err
		}
	}
	return struct{}{}, nil
}

func (s *Server) blobRemove(ctx context.Context, req HashRequest, _ *answer) (BlobInfo, error) {
	h, err := s.node.Blobs.Resolve(ctx, req.Hash)
	if err != nil {
		return BlobInfo{}, err
	}
	info, err := s.node.Blobs.Stat(ctx, h)
	if err != nil {
		return BlobInfo{}, err
	}
	if err := s.node.Blobs.Delete(ctx, h); err != nil {
		return BlobInfo{}, err
	}
	return BlobInfo{info.Hash, info.Size, info.Complete, info.Present, []string{}}, s.node.Blobs.Sync(ctx)
}

func (s *Server) blobVerify(ctx context.Context, req VerifyRequest, a *answer) (sum Verified, err error) {
	var hashes []blobs.Hash
	var total uint64
	for _, text := range req.Hashes {
		h, err := s.node.Blobs.Resolve(ctx, text)
		if err != nil {
			return sum, err
		}
		info, err := s.node.Blobs.Stat(ctx, h)
		if err != nil {
			return sum, err
		}
		hashes = append(hashes, h)
		total += info.Present
	}
	if len(req.Hashes) == 0 {
		for info, err := range s.node.Blobs.List(ctx) {
			if err != nil {
				return sum, err
			}
			hashes = append(hashes, info.Hash)
			total += info.Present
		}
	}
	for _, h := range hashes {
		before := sum.Bytes
		damage, err := s.node.Blobs.Verify(ctx, h, func(n uint64) {
			sum.Bytes = before + n
			a.progress(Progress{Doing: "checking", Bytes: sum.Bytes, TotalBytes: total})
		})
		if errors.Is(err, blobs.ErrNotFound) && len(req.Hashes) == 0 {
			continue // deleted since it was listed
		}
		if err != nil {
			return sum, err
		}
		sum.Blobs++
		if len(damage) > 0 {
			sum.Damaged++
		}
		for _, d := range damage {
			if err := a.item(Damage{d.Hash, d.Range.Start, d.Range.End - d.Range.Start, d.Cause}); err != nil {
				return sum, err
			}
		}
	}
	return sum, nil
}

// free returns an error unless something may be created at path.
func free(path string) error {
	if !filepath.IsAbs(path) {
		return UsageErrorf("path %q is not absolute", path)
	}
	switch st, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case st.IsDir():
		if below, err := os.ReadDir(path); err != nil || len(below) > 0 {
			return errors.Join(&Error{Failed, fmt.Sprintf("%s exists and is not empty: name another path with -o", path)}, err)
		}
	default:
		return &Error{Failed, fmt.Sprintf("%s exists: name another path with -o", path)}
	}
	if st, err := os.Stat(filepath.Dir(path)); err != nil {
		return err
	} else if !st.IsDir() {
		return &Error{Failed, fmt.Sprintf("%s is not a directory", filepath.Dir(path))}
	}
	return nil
}

func (s *Server) blobExport(ctx context.Context, req ExportRequest, a *answer) (Got, error) {
	h, err := s.node.Blobs.Resolve(ctx, req.Hash)
	if err != nil {
		return Got{}, err
	}
	if has, err := s.node.Blobs.Has(ctx, h); err != nil || !has {
		return Got{}, errors.Join(fmt.Errorf("%w: fetch %s first (skerry get)", blobs.ErrIncomplete, h), err)
	}
	return s.fetchTo(ctx, h, node.Unknown, nil, req.Path, a)
}

func (s *Server) share(ctx context.Context, req AddRequest, a *answer) (Shared, error) {
	if len(req.Paths) != 1 {
		return Shared{}, UsageErrorf("share takes one path")
	}
	one, err := s.addPath(ctx, req.Paths[0], req.SkipUnsafeLinks, a)
	if err != nil {
		return Shared{}, err
	}
	if err := s.node.Blobs.Sync(ctx); err != nil {
		return Shared{}, err
	}
	t := ticket.Blob{Hash: one.Hash, Sequence: one.Kind == kindDirectory, Addrs: s.node.Addrs()}
	text, err := t.Text()
	return Shared{text, one.Hash, one.Size, one.Kind}, err
}

func (s *Server) get(ctx context.Context, req GetRequest, a *answer) (Got, error) {
	what := strings.TrimSpace(req.What)
	if ticket.Looks(what) {
		t, err := ticket.ParseBlob(what)
		if err != nil {
			return Got{}, err
		}
		form := node.Raw
		if t.Sequence {
			form = node.Sequence
		}
		return s.fetchTo(ctx, t.Hash, form, t.Peers(), req.Path, a)
	}
	h, err := s.node.Blobs.Resolve(ctx, what)
	if err != nil {
		if errors.Is(err, blobs.ErrNotHash) {
			_, asTicket := ticket.ParseBlob(what)
			if asTicket != nil && !errors.Is(asTicket, ticket.ErrNotTicket) {
				return Got{}, asTicket
			}
			err = UsageErrorf("%q is neither a ticket nor a hash", what)
		}
		return Got{}, err
	}
	return s.fetchTo(ctx, h, node.Unknown, nil, req.Path, a)
}

// fetchTo brings content into the store and writes it to path, unless that is empty. Whether the path is free is asked before anything
// is fetched.
func (s *Server) fetchTo(ctx context.Context, h blobs.Hash, form node.Form, providers []peer.AddrInfo, path string, a *answer) (Got, error) {
	start := time.Now()
	if path != "" {
		if err := free(path); err != nil {
			return Got{}, err
		}
	}
	c, err := s.node.Get(ctx, h, form, providers, func(p node.GetProgress) {
		a.progress(Progress{Doing: "fetching", Bytes: p.Fetched, TotalBytes: p.Total})
	})
	if err != nil {
		return Got{}, err
	}
	got := Got{Hash: h, Path: path, Size: c.Size, FetchedBytes: c.Fetched.Bytes, Providers: []string{}, Kind: kindBlob}
	if c.Directory != nil {
		got.Kind = kindDirectory
	}
	for _, p := range c.Fetched.Providers {
		got.Providers = append(got.Providers, p.String())
	}
	if path != "" {
		err = s.node.Export(ctx, &c, path, func(p directory.Progress) { a.progress(directoryProgress("writing", p)) })
	}
	got.Seconds = time.Since(start).Seconds()
	return got, err
}
