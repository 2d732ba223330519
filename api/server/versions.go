package server

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/skerry-sync/skerry/api"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/versions/review"
)

func itemVersion(v review.Version) api.ItemVersion {
	return api.ItemVersion{
		Number: v.Number, ID: v.ID, Author: v.Author, Here: v.Here, Device: v.Device,
		Time: shownTime(v.Time), Size: v.Size, Deleted: v.Deleted, Head: v.Head, Shown: v.Shown,
		Kept: v.Kept, Plain: v.Plain,
	}
}

// shownTime returns a time that JSON can show: whoever writes a version says those of former ones.
func shownTime(t time.Time) time.Time {
	if t.After(lastTime) || t.Before(time.UnixMicro(0)) {
		return lastTime
	}
	return t.UTC()
}

func itemConflict(c review.Conflict) api.ItemConflict {
	out := api.ItemConflict{
		ReplicaID: c.Replica.ID, Replica: c.Replica.Name, Key: c.Key, Kind: c.Kind, Name: c.Name,
		Reason: c.Reason.Error(),
	}
	for _, v := range c.Heads {
		out.Heads = append(out.Heads, itemVersion(v))
	}
	return out
}

func (s *Server) conflictsList(
	ctx context.Context, req api.ConflictsRequest, a *answer,
) (struct{}, error) {
	all := s.review.All(ctx)
	if req.Name != "" {
		r, err := s.resolve(ctx, req.Name, "conflicts", replica.Read)
		if err != nil {
			return struct{}{}, err
		}
		all = s.review.Conflicts(ctx, r)
	}
	for c, err := range all {
		if err == nil {
			err = a.item(itemConflict(c))
		}
		if err != nil {
			return struct{}{}, err
		}
	}
	return struct{}{}, nil
}

func (s *Server) conflictsShow(
	ctx context.Context, req api.ItemRequest, _ *answer,
) (out api.ShownConflict, err error) {
	r, err := s.resolve(ctx, req.Name, "conflicts", replica.Read)
	if err != nil {
		return out, err
	}
	x, err := s.review.Show(ctx, r, req.Key)
	if err != nil {
		return out, err
	}
	out.ItemConflict = itemConflict(x.Conflict)
	if x.Base != nil {
		v := itemVersion(*x.Base)
		out.Base = &v
	}
	for _, t := range x.Texts {
		text := api.VersionText{Text: t.Text, Diff: t.Diff}
		if t.Why != nil {
			text.Why = t.Why.Error()
		}
		out.Texts = append(out.Texts, text)
	}
	return out, nil
}

func (s *Server) conflictsResolve(
	ctx context.Context, req api.ResolveRequest, a *answer,
) (out api.Resolved, err error) {
	r, err := s.resolve(ctx, req.Name, "resolve", replica.Read)
	if err != nil {
		return out, err
	}
	var d review.Decision
	ways := 0
	if req.Number != 0 || req.ID != "" {
		d.Take = &review.Choice{Number: req.Number, ID: req.ID}
		ways++
	}
	if req.File != "" {
		f, err := openFile(req.File)
		if err != nil {
			return out, err
		}
		defer f.Close()
		size, err := f.Seek(0, io.SeekEnd)
		if err != nil {
			return out, err
		}
		d.Content = io.NewSectionReader(f, 0, size)
		ways++
	}
	if d.Delete = req.Delete; d.Delete {
		ways++
	}
	if ways != 1 {
		return out, api.UsageErrorf("take one of the versions, or a file, or delete the item")
	}
	s.warnWriting(ctx, a)
	done, err := s.review.Resolve(ctx, r, req.Key, d)
	if err != nil {
		return out, err
	}
	out = api.Resolved{
		ReplicaID: r.ID, Replica: r.Name, Key: req.Key, Size: done.Size, Deleted: done.Deleted,
		Heads: done.Over,
	}
	if done.Took != nil {
		v := itemVersion(*done.Took)
		out.Took = &v
	}
	return out, nil
}

func (s *Server) replicaHistory(
	ctx context.Context, req api.ItemRequest, a *answer,
) (out api.History, err error) {
	r, err := s.resolve(ctx, req.Name, "history", replica.Read)
	if err != nil {
		return out, err
	}
	all, waiting, err := s.review.History(ctx, r, req.Key)
	for _, v := range all {
		if err == nil {
			err = a.item(itemVersion(v))
		}
	}
	return api.History{Waiting: waiting}, err
}

func (s *Server) replicaRestore(
	ctx context.Context, req api.VersionRequest, a *answer,
) (out api.Restored, err error) {
	r, err := s.resolve(ctx, req.Name, "restore", replica.Read)
	if err != nil {
		return out, err
	}
	s.warnWriting(ctx, a)
	v, err := s.review.Restore(ctx, r, req.Key, review.Choice{Number: req.Number, ID: req.ID})
	return api.Restored{ReplicaID: r.ID, Replica: r.Name, Key: req.Key, Version: itemVersion(v)}, err
}

// readVersion answers with the bytes of a version of an item.
func (s *Server) readVersion(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	rep, err := s.resolve(ctx, r.FormValue("name"), "history", replica.Read)
	var key api.Key
	if err == nil {
		key, err = api.ParseKey(r.FormValue("key"))
	}
	choice := review.Choice{ID: r.FormValue("id")}
	if text := r.FormValue("number"); err == nil && text != "" {
		if choice.Number, err = strconv.Atoi(text); err != nil {
			err = api.UsageErrorf("number %q is not a number", text)
		}
	}
	var in *io.SectionReader
	if err == nil {
		in, err = s.review.Open(ctx, rep, key, choice)
	}
	if err != nil {
		fail(w, err)
		return
	}
	sendContent(w, in, span{0, -1})
}
