package server

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/skerry-sync/skerry/api"
	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/chunked"
	"github.com/skerry-sync/skerry/blobs/directory"
	"github.com/skerry-sync/skerry/internal/disk"
	"github.com/skerry-sync/skerry/node/content"
)

const (
	kindBlob      = "blob"
	kindDirectory = "directory"
)

func (s *Server) status(ctx context.Context, _ struct{}, _ *answer) (st api.Status, err error) {
	st = api.Status{
		NodeID: s.node.ID().String(), Addrs: []string{}, Peers: []api.PeerStatus{}, Version: s.version,
	}
	for _, a := range s.node.Addrs() {
		st.Addrs = append(st.Addrs, a.String())
	}
	for _, p := range s.node.Peers() {
		st.Peers = append(st.Peers, api.PeerStatus{
			ID: p.ID.String(), Addr: p.Addr.String(), Transport: p.Transport, Direct: p.Direct,
		})
	}
	for _, text := range []string{s.twinWarning(), s.clockWarning()} {
		if text != "" {
			st.Warnings = append(st.Warnings, text)
		}
	}
	if st.Replicas, err = s.replicaStatuses(ctx, s.countsOf); err != nil {
		return st, err
	}
	t, err := s.node.Blobs().Totals(ctx)
	st.Blobs = api.BlobStatus{Count: t.Count, Bytes: t.Bytes, Partial: t.Partial}
	return st, err
}

func (s *Server) blobAdd(ctx context.Context, req api.AddRequest, a *answer) (struct{}, error) {
	switch {
	case len(req.Paths) == 0:
		return struct{}{}, api.UsageErrorf("no paths to add")
	case req.Pin != "" && (len(req.Paths) > 1 || req.NoPin):
		return struct{}{}, api.UsageErrorf(
			"--pin takes exactly one path and cannot be combined with --no-pin",
		)
	case req.Chunked && (req.NoCopy || req.Whole):
		return struct{}{}, api.UsageErrorf("--chunked cannot be combined with --no-copy or --whole")
	}
	// What is added is held until the answer has been given, if no pin keeps it.
	held, release := s.node.Blobs().Hold()
	defer release()
	var all []api.Added
	for _, p := range req.Paths {
		one, err := s.addPath(ctx, held, p, req, a)
		if err != nil {
			return struct{}{}, err
		}
		all = append(all, one)
	}
	// Only what survives a loss of power is acknowledged.
	if err := s.node.Blobs().Sync(ctx); err != nil {
		return struct{}{}, err
	}
	for _, one := range all {
		if err := a.item(one); err != nil {
			return struct{}{}, err
		}
	}
	return struct{}{}, nil
}

// pathTexts gives paths as JSON can carry them: one that is not UTF-8 is "hex:" and its bytes, as a
// key is.
func pathTexts(paths []string) []string {
	for i, path := range paths {
		if !utf8.ValidString(path) || strings.HasPrefix(path, api.HexPrefix) {
			paths[i] = api.HexPrefix + hex.EncodeToString([]byte(path))
		}
	}
	return paths
}

// addPath adds what lies under a path to a store, and pins it.
func (s *Server) addPath(
	ctx context.Context, to *blobs.Store, path string, req api.AddRequest, a *answer,
) (api.Added, error) {
	if !filepath.IsAbs(path) {
		return api.Added{}, api.UsageErrorf("path %q is not absolute", path)
	}
	out := api.Added{Path: path, Kind: kindBlob}
	if st, err := os.Stat(path); err != nil {
		return out, err
	} else if st.IsDir() {
		info, err := directory.Import(
			ctx, to, path, directory.ImportOptions{SkipUnsafeLinks: req.SkipUnsafeLinks,
				Reference: req.NoCopy, Whole: req.Whole,
				Progress: func(p directory.Progress) { a.progress(directoryProgress("adding", p)) }},
		)
		if err != nil {
			return out, err
		}
		out.Hash, out.Size, out.Kind = info.Hash, info.Size, kindDirectory
		out.Files, out.Skipped = info.Files, pathTexts(info.Skipped)
		out.Chunked = info.Chunked > 0
		return out, pinAdded(ctx, to, &out, req)
	}
	f, err := openFile(path)
	if err != nil {
		return out, err
	}
	defer f.Close()
	progress := func(read uint64) {
		a.progress(api.Progress{
			Doing: "adding", Bytes: read, TotalBytes: f.Size,
		})
	}
	if req.Chunked && f.Size > 0 {
		c, err := chunked.Import(ctx, to, f.Reader(), progress)
		if err != nil {
			return out, err
		}
		out.Hash, out.Size, out.Chunked = c.Hash, c.Size, true
	} else {
		info, err := to.ImportOpen(ctx, f, blobs.ImportOptions{Progress: progress, Reference: req.NoCopy})
		if err != nil {
			return out, err
		}
		out.Hash, out.Size = info.Hash, info.Size
	}
	return out, pinAdded(ctx, to, &out, req)
}

// pinAdded keeps what was added under the name that was asked for or, without one, under its path.
func pinAdded(
	ctx context.Context, in *blobs.Store, one *api.Added, req api.AddRequest,
) (err error) {
	pin := blobs.Pin{Name: req.Pin, Hash: one.Hash, Sequence: one.Kind == kindDirectory || one.Chunked}
	switch {
	case req.NoPin:
		return nil
	case req.Pin != "":
		one.Pin = req.Pin
		return in.Pin(ctx, pin)
	}
	if pin.Name = one.Path; len(pin.Name) > blobs.MaxPinName-16 ||
		strings.ContainsFunc(pin.Name, unicode.IsControl) || !utf8.ValidString(pin.Name) {
		pin.Name = one.Hash.String()
	}
	one.Pin, err = in.PinNew(ctx, pin)
	return err
}

func directoryProgress(doing string, p directory.Progress) api.Progress {
	return api.Progress{
		Doing: doing, Bytes: p.Bytes, TotalBytes: p.TotalBytes, Files: p.Files, TotalFiles: p.TotalFiles,
	}
}

// importBlob stores the body of a request.
func (s *Server) importBlob(w http.ResponseWriter, r *http.Request) {
	a := begin(w)
	ctx := r.Context()
	held, release := s.node.Blobs().Hold()
	defer release()
	info, err := held.Import(ctx, r.Body, blobs.ImportOptions{})
	one := api.Added{Path: "-", Hash: info.Hash, Size: info.Size, Kind: kindBlob}
	if err == nil {
		one.Pin = info.Hash.String()
		err = held.Pin(ctx, blobs.Pin{Name: one.Pin, Hash: info.Hash})
	}
	if err == nil {
		err = s.node.Blobs().Sync(ctx)
	}
	a.finish(one, err)
}

// pinsOf returns the names of all pins, by what they keep.
func (s *Server) pinsOf(ctx context.Context) (map[blobs.Hash][]string, error) {
	out := map[blobs.Hash][]string{}
	for p, err := range s.node.Blobs().Pins(ctx) {
		if err != nil {
			return nil, err
		}
		out[p.Hash] = append(out[p.Hash], p.Name)
	}
	return out, nil
}

func blobInfo(info blobs.Info, pins []string) api.BlobInfo {
	if pins == nil {
		pins = []string{}
	}
	return api.BlobInfo{
		Hash: info.Hash, Size: info.Size, Complete: info.Complete, Present: info.Present, Pins: pins,
	}
}

func (s *Server) blobList(ctx context.Context, _ struct{}, a *answer) (struct{}, error) {
	pins, err := s.pinsOf(ctx)
	if err != nil {
		return struct{}{}, err
	}
	for info, err := range s.node.Blobs().List(ctx) {
		if err != nil {
			return struct{}{}, err
		}
		if err := a.item(blobInfo(info, pins[info.Hash])); err != nil {
			return struct{}{}, err
		}
	}
	return struct{}{}, nil
}

// blobRemove removes a blob, and the pins that keep it: whoever names it means it.
func (s *Server) blobRemove(
	ctx context.Context, req api.HashRequest, _ *answer,
) (api.BlobInfo, error) {
	h, err := s.node.Blobs().Resolve(ctx, req.Hash)
	if err != nil {
		return api.BlobInfo{}, err
	}
	info, err := s.node.Blobs().Stat(ctx, h)
	if err != nil {
		return api.BlobInfo{}, err
	}
	pins, err := s.pinsOf(ctx)
	if err != nil {
		return api.BlobInfo{}, err
	}
	for _, name := range pins[h] {
		if err := s.node.Blobs().Unpin(ctx, name); err != nil && !errors.Is(err, blobs.ErrPinNotFound) {
			return api.BlobInfo{}, err
		}
	}
	if err := s.node.Blobs().Delete(ctx, h); err != nil {
		return api.BlobInfo{}, err
	}
	return blobInfo(info, pins[h]), s.node.Blobs().Sync(ctx)
}

func (s *Server) blobVerify(
	ctx context.Context, req api.VerifyRequest, a *answer,
) (sum api.Verified, err error) {
	hashes, total, err := s.named(ctx, req.Hashes, &sum)
	if err != nil {
		return sum, err
	}
	if len(req.Hashes) == 0 {
		for info, err := range s.node.Blobs().List(ctx) {
			if err != nil {
				return sum, err
			}
			hashes = append(hashes, info.Hash)
			total += info.Present
		}
	}
	for _, h := range hashes {
		before := sum.Bytes
		damage, err := s.node.Blobs().Verify(ctx, h, func(n uint64) {
			sum.Bytes = before + n
			a.progress(api.Progress{Doing: "checking", Bytes: sum.Bytes, TotalBytes: total})
		})
		if errors.Is(err, blobs.ErrNotFound) && len(req.Hashes) == 0 {
			continue // deleted since it was listed
		}
		if ctx.Err() != nil {
			return sum, ctx.Err()
		}
		sum.Blobs++
		if err != nil { // the others are checked all the same; nothing is deleted of this one
			sum.Unread++
			if err := a.item(api.Damage{Hash: h, Cause: err.Error(), Unread: true}); err != nil {
				return sum, err
			}
			continue
		}
		if len(damage) > 0 {
			sum.Damaged++
		}
		var repairErr error
		if req.Repair && len(damage) > 0 {
			if repairErr = s.node.Repair(ctx, h, damage); repairErr == nil {
				sum.Repaired++
			}
		}
		for _, d := range merged(damage) {
			item := api.Damage{
				Hash: d.Hash, Offset: d.Range.Start, Length: d.Range.End - d.Range.Start, Cause: d.Cause,
				Repaired: req.Repair && repairErr == nil,
			}
			if repairErr != nil {
				item.RepairError = repairErr.Error()
			}
			if err := a.item(item); err != nil {
				return sum, err
			}
		}
	}
	return sum, nil
}

// named returns the blobs that are to be verified by name, with what directories and sequences
// among them list, once each, and how many bytes are here. It counts what is not here.
func (s *Server) named(ctx context.Context, texts []string, sum *api.Verified) (
	all []blobs.Hash, total uint64, err error,
) {
	held, release := s.node.Blobs().Hold()
	defer release()
	known := map[blobs.Hash]bool{}
	add := func(h blobs.Hash) error {
		if known[h] {
			return nil
		}
		known[h] = true
		info, err := s.node.Blobs().Stat(ctx, h)
		if err == nil {
			all, total = append(all, h), total+info.Present
		}
		return err
	}
	for _, text := range texts {
		h, err := s.node.Blobs().Resolve(ctx, text)
		if err == nil {
			err = add(h)
		}
		if err != nil {
			return nil, 0, err
		}
		info, err := s.node.Blobs().Stat(ctx, h)
		if err != nil {
			return nil, 0, err
		}
		list := api.BlobStat{BlobInfo: blobInfo(info, nil)}
		if err := s.statSequence(ctx, held, &list); err != nil || list.Children == 0 {
			continue // a damaged list is found when it is verified itself
		}
		err = held.EachChild(ctx, h, func(child blobs.Hash) error {
			err := add(child)
			if errors.Is(err, blobs.ErrNotFound) {
				sum.Missing++
				return nil
			}
			return err
		})
		if err != nil {
			return nil, 0, err
		}
	}
	return all, total, nil
}

// merged joins damage that follows on each other for one cause: of a file that is missing, that is
// all of it.
func merged(all []blobs.Damage) (out []blobs.Damage) {
	for _, d := range all {
		if n := len(out); n > 0 && out[n-1].Hash == d.Hash && out[n-1].Range.End == d.Range.Start &&
			fmt.Sprint(out[n-1].Cause) == fmt.Sprint(d.Cause) {
			out[n-1].Range.End = d.Range.End
			continue
		}
		out = append(out, d)
	}
	return out
}

// free returns an error unless a file, or with dir a directory, may be created at path. An empty
// directory is one that may be filled.
func free(path string, dir bool) error {
	if !filepath.IsAbs(path) {
		return api.UsageErrorf("path %q is not absolute", path)
	}
	err := disk.Vacant(path, dir)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	if st, statErr := os.Lstat(path); dir && statErr == nil && st.IsDir() {
		return &api.Error{
			Kind: api.Failed, Message: fmt.Sprintf("%s exists and is not empty: name another path", path),
		}
	}
	return &api.Error{Kind: api.Failed, Message: fmt.Sprintf("%s exists: name another path", path)}
}

func (s *Server) blobExport(
	ctx context.Context, req api.ExportRequest, a *answer,
) (api.Got, error) {
	h, err := s.node.Blobs().Resolve(ctx, req.Hash)
	if err != nil {
		return api.Got{}, err
	}
	if has, err := s.node.Blobs().Has(ctx, h); err != nil || !has {
		return api.Got{}, errors.Join(
			fmt.Errorf("%w: fetch %s first (skerry get)", blobs.ErrIncomplete, h), err,
		)
	}
	return s.fetchTo(ctx, h, content.Unknown, nil, req.Path, a)
}
