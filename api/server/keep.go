package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/skerry-sync/skerry/api"
	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/chunked"
	"github.com/skerry-sync/skerry/blobs/directory"
)

func (s *Server) blobStat(
	ctx context.Context, req api.HashRequest, _ *answer,
) (out api.BlobStat, err error) {
	x, err := s.name(ctx, req.Hash)
	if err != nil {
		return out, err
	}
	out = api.BlobStat{
		BlobInfo: api.BlobInfo{Hash: x.hash, Pins: []string{}}, Kind: kindBlob, Ranges: []api.Span{},
		Providers: []api.Provider{},
	}
	if s.node.Online() {
		for _, p := range s.node.Providers(ctx, x.hash) {
			out.Providers = append(out.Providers, api.Provider{
				ID: p.ID.String(), Present: p.Present, Complete: p.Present >= p.Size,
			})
		}
	}
	info, present, err := s.node.Blobs().StatRanges(ctx, x.hash)
	if errors.Is(err, blobs.ErrNotFound) && len(out.Providers) > 0 {
		return out, nil // others have it
	}
	if err != nil {
		return out, err
	}
	pins, err := s.pinsOf(ctx)
	if err != nil {
		return out, err
	}
	out.BlobInfo, out.Reference, out.Content = blobInfo(info, pins[x.hash]), info.Reference, info.Size
	if out.Changed = changedSince(&info); out.Changed != "" {
		out.Complete, out.Present, present = false, 0, nil
	}
	for _, r := range present {
		if r.End = min(r.End, info.Size); r.Start < r.End {
			out.Ranges = append(out.Ranges, api.Span{Offset: r.Start, Length: r.End - r.Start})
		}
	}
	held, release := s.node.Blobs().Hold()
	defer release()
	return out, s.statSequence(ctx, held, &out)
}

// changedSince says why the file of a referenced blob is no longer what was added, or nothing if it
// looks the same. What is read of it is verified in any case.
func changedSince(info *blobs.Info) string {
	if info.Reference == "" {
		return ""
	}
	st, err := os.Stat(info.Reference)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "it is gone"
	case err != nil:
		return err.Error()
	case uint64(st.Size()) != info.Size:
		return fmt.Sprintf("it has %d bytes now", st.Size())
	case !st.ModTime().Equal(info.Modified):
		return fmt.Sprintf(
			"it was changed on %s: skerry blob verify reads it", st.ModTime().Format(time.DateTime),
		)
	}
	return ""
}

// statSequence adds what a store knows of the children.
func (s *Server) statSequence(ctx context.Context, from *blobs.Store, out *api.BlobStat) error {
	if !out.Complete || out.Size == 0 || out.Size%blobs.HashSize != 0 {
		return nil
	}
	if dir, err := directory.Load(ctx, from, out.Hash); err == nil {
		out.Kind, out.Content = kindDirectory, dir.Size()
	} else if chunks, err := chunked.Open(ctx, from, out.Hash); err == nil {
		out.Kind, out.Content = "chunked", chunks.Size()
	} else {
		pin, err := s.pinned(ctx, out.Hash)
		if err != nil || !pin.Sequence {
			return err // most likely just a blob
		}
		out.Kind = "sequence"
	}
	return from.EachChild(ctx, out.Hash, func(h blobs.Hash) error {
		has, err := from.Has(ctx, h)
		if out.Children++; !has {
			out.Missing++
		}
		return err
	})
}

// pinned returns a pin that keeps h, preferably with its children.
func (s *Server) pinned(ctx context.Context, h blobs.Hash) (found blobs.Pin, err error) {
	for p, err := range s.node.Blobs().Pins(ctx) {
		if err != nil {
			return found, err
		}
		if p.Hash == h && !found.Sequence {
			found = p
		}
	}
	return found, nil
}

func (s *Server) blobPin(ctx context.Context, req api.PinRequest, _ *answer) (api.Pin, error) {
	held, release := s.node.Blobs().Hold()
	defer release()
	h, err := held.Resolve(ctx, req.Hash)
	if err != nil {
		return api.Pin{}, err
	}
	pin := blobs.Pin{Name: req.Name, Hash: h}
	if pin.Name == "" {
		pin.Name = h.String()
	}
	if !req.Single {
		stat := api.BlobStat{BlobInfo: api.BlobInfo{Hash: h}}
		info, err := held.Stat(ctx, h)
		if err != nil {
			return api.Pin{}, err
		}
		stat.Complete, stat.Size = info.Complete, info.Size
		if err := s.statSequence(ctx, held, &stat); err != nil {
			return api.Pin{}, err
		}
		pin.Sequence = stat.Children > 0
	}
	if err := held.Pin(ctx, pin); err != nil {
		return api.Pin{}, err
	}
	return api.Pin(pin), held.Sync(ctx)
}

func (s *Server) blobUnpin(ctx context.Context, req api.UnpinRequest, a *answer) (struct{}, error) {
	var found []blobs.Pin
	h, notHash := s.node.Blobs().Resolve(ctx, req.Name)
	for p, err := range s.node.Blobs().Pins(ctx) {
		if err != nil {
			return struct{}{}, err
		}
		if p.Name == req.Name || notHash == nil && p.Hash == h {
			found = append(found, p)
		}
	}
	if len(found) == 0 {
		return struct{}{}, fmt.Errorf(
			"%w: %q is neither the name of a pin nor the hash of a pinned blob", blobs.ErrPinNotFound,
			req.Name,
		)
	}
	for _, p := range found {
		if err := s.node.Blobs().Unpin(ctx, p.Name); err != nil {
			return struct{}{}, err
		}
		if err := a.item(api.Pin(p)); err != nil {
			return struct{}{}, err
		}
	}
	return struct{}{}, s.node.Blobs().Sync(ctx)
}

func (s *Server) blobPins(ctx context.Context, _ struct{}, a *answer) (struct{}, error) {
	for p, err := range s.node.Blobs().Pins(ctx) {
		if err != nil {
			return struct{}{}, err
		}
		if err := a.item(api.Pin(p)); err != nil {
			return struct{}{}, err
		}
	}
	return struct{}{}, nil
}

func (s *Server) blobCollect(
	ctx context.Context, req api.CollectRequest, a *answer,
) (api.Collected, error) {
	start := time.Now()
	got, err := s.node.Collect(ctx, req.DryRun, func(p blobs.CollectProgress) {
		a.progress(api.Progress{Doing: p.Doing, Bytes: p.Bytes, Files: p.Blobs})
	})
	return api.Collected{
		DryRun: req.DryRun, Kept: got.Kept, KeptBytes: got.KeptBytes, Removed: got.Removed,
		RemovedBytes: got.RemovedBytes, FreedBytes: got.Freed, Postponed: got.Postponed,
		Seconds: time.Since(start).Seconds(),
	}, err
}

func rangesOf(spans []api.Span) (out blobs.Ranges, err error) {
	var all []blobs.Range
	for _, x := range spans {
		end := x.Offset + x.Length
		if x.Length == 0 || x.Offset > blobs.MaxSize || end > blobs.MaxSize || end < x.Offset {
			return nil, api.UsageErrorf("%d bytes at %d are no range of a blob", x.Length, x.Offset)
		}
		all = append(all, blobs.Range{Start: x.Offset, End: end})
	}
	return blobs.NewRanges(all...), nil
}

func (s *Server) blobFetch(
	ctx context.Context, req api.FetchRequest, a *answer,
) (out api.FetchedPart, err error) {
	start := time.Now()
	x, err := s.name(ctx, req.What)
	if err != nil {
		return out, err
	}
	ranges, err := rangesOf(req.Ranges)
	if err != nil {
		return out, err
	}
	children, err := rangesOf(req.Children)
	if err != nil {
		return out, err
	}
	got, err := s.node.FetchPart(ctx, x.hash, ranges, children, x.providers, fetchProgress(a))
	out = api.FetchedPart{
		Hash: x.hash, FetchedBytes: got.Bytes, Providers: []string{},
		Seconds: time.Since(start).Seconds(),
	}
	for _, p := range got.Providers {
		out.Providers = append(out.Providers, p.String())
	}
	return out, err
}
