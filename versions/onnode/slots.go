package onnode

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync/atomic"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/node/content"
	"github.com/skerry-sync/skerry/node/wanted"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/replica/seal"
	"github.com/skerry-sync/skerry/versions"
	"github.com/skerry-sync/skerry/versions/plan"
	"github.com/skerry-sync/skerry/versions/record"
)

// slots are the slots of a replica of a node.
type slots struct {
	n         *node.Node
	r         *node.Replica
	displaced *node.Displaced
	// view is how the replica was last seen: not before the entries were read that are opened now. It
	// serves to open content, for which several goroutines may use it.
	view atomic.Pointer[replica.Plain]
}

var _ versions.Slots = (*slots)(nil)

// ID implements versions.Slots.
func (s *slots) ID() replica.ID { return s.r.ID() }

// look returns the replica as it is now.
func (s *slots) look(ctx context.Context) (*replica.Plain, error) {
	now, err := s.n.Replicas().Plain(ctx, s.ID())
	if err != nil {
		return nil, err
	}
	// An encrypted replica stays so: whoever has seen it earlier must not come in between.
	if last := s.view.Load(); last == nil || now.Encrypted() || !last.Encrypted() {
		s.view.CompareAndSwap(last, now)
	}
	return now, nil
}

// Entries implements versions.Slots.
func (s *slots) Entries(
	ctx context.Context, q replica.Query,
) iter.Seq2[replica.Item, error] {
	return func(yield func(replica.Item, error) bool) {
		if last := s.view.Load(); last != nil && !last.Encrypted() {
			encrypted := false
			for it, err := range last.EntriesNow(ctx, q) {
				if encrypted = errors.Is(err, replica.ErrEncrypted); encrypted {
					break
				}
				if !yield(it, err) {
					return
				}
			}
			if !encrypted {
				return
			}
		}
		view, err := s.look(ctx)
		if err != nil {
			yield(replica.Item{}, err)
			return
		}
		for it, err := range view.EveryEpoch(ctx, q) {
			if !yield(it, err) {
				return
			}
		}
	}
}

// Entry implements versions.Slots.
func (s *slots) Entry(
	ctx context.Context, key []byte, by replica.AuthorID,
) (e replica.Entry, err error) {
	all, err := s.EntriesBy(ctx, by, [][]byte{key})
	if err != nil {
		return e, err
	}
	if all[0] == nil {
		return e, replica.ErrNotFound
	}
	return *all[0], nil
}

// EntriesOf implements versions.Slots.
func (s *slots) EntriesOf(ctx context.Context, keys [][]byte) (all [][]replica.Item, err error) {
	err = s.lately(ctx, func(view *replica.Plain) error {
		all, err = view.EntriesOf(ctx, keys)
		return err
	})
	return all, err
}

// EntriesBy implements versions.Slots.
func (s *slots) EntriesBy(
	ctx context.Context, by replica.AuthorID, keys [][]byte,
) (all []*replica.Entry, err error) {
	err = s.lately(ctx, func(view *replica.Plain) error {
		all, err = view.EntriesBy(ctx, by, keys)
		return err
	})
	return all, err
}

// lately looks with the last view of the replica, if it was not encrypted then, and anew if it was,
// or is by now: there may be another read key.
func (s *slots) lately(ctx context.Context, look func(*replica.Plain) error) error {
	if last := s.view.Load(); last != nil && !last.Encrypted() {
		if err := look(last); !errors.Is(err, replica.ErrEncrypted) {
			return err
		}
	}
	view, err := s.look(ctx)
	if err != nil {
		return err
	}
	return look(view)
}

// Tiny implements versions.Slots.
func (s *slots) Tiny(ctx context.Context, all []*replica.Entry) (_ [][]byte, err error) {
	view := s.view.Load()
	if view == nil {
		if view, err = s.look(ctx); err != nil {
			return nil, err
		}
	}
	return s.n.TinyPlain(ctx, view, all)
}

// Unreadable implements versions.Slots.
func (s *slots) Unreadable(ctx context.Context) error {
	view, err := s.look(ctx)
	if err != nil {
		return err
	}
	return view.Lacking()
}

// Displaced implements versions.Slots.
func (s *slots) Displaced(ctx context.Context, key []byte) iter.Seq2[replica.Item, error] {
	return s.displaced.All(ctx, key)
}

// Void implements versions.Slots.
func (s *slots) Void(ctx context.Context) iter.Seq2[replica.Item, error] {
	return s.displaced.Void(ctx)
}

// Forget implements versions.Slots.
func (s *slots) Forget(ctx context.Context, displaced ...replica.Item) error {
	return s.displaced.Forget(ctx, displaced...)
}

// Open implements versions.Slots.
func (s *slots) Open(ctx context.Context, e *replica.Entry) (versions.Content, error) {
	if e.Size > blobs.GroupSize { // less is here as a whole, or not at all
		switch state, err := s.n.ContentOf(ctx, e); {
		case err != nil:
			return nil, meaning(err)
		case state == wanted.Refuted:
			return nil, fmt.Errorf("%w: its size is not that of the content", record.ErrMalformed)
		case state != wanted.Complete:
			return nil, fmt.Errorf("content %s: %w", e.Hash.Short(), plan.ErrMissing)
		}
	}
	if view := s.view.Load(); view != nil {
		in, err := s.n.OpenPlain(ctx, view, e)
		if !errors.Is(err, seal.ErrSealed) {
			return opened(in, err)
		}
	}
	view, err := s.look(ctx) // there may be another read key
	if err != nil {
		return nil, err
	}
	return opened(s.n.OpenPlain(ctx, view, e))
}

// readable is content whose errors mean the same as those of Open.
type readable struct{ content.Reader }

func opened(in content.Reader, err error) (versions.Content, error) {
	if err != nil {
		return nil, meaning(err)
	}
	return readable{in}, nil
}

// ReadAt implements io.ReaderAt.
func (r readable) ReadAt(b []byte, off int64) (n int, err error) {
	n, err = r.Reader.ReadAt(b, off)
	return n, meaning(err)
}

// meaning returns what an error of content means for a version: it is not here, there can be none,
// or something else is wrong, such as a disk.
func meaning(err error) error {
	var size *content.SizeError
	var damage *blobs.DamageError
	var reference *blobs.ReferenceError
	switch {
	case err == nil || err == io.EOF:
		return err
	case errors.Is(err, blobs.ErrNotFound), errors.Is(err, blobs.ErrIncomplete),
		errors.As(err, &damage), errors.As(err, &reference):
		return fmt.Errorf("%w: %w", plan.ErrMissing, err)
	case errors.As(err, &size), errors.Is(err, seal.ErrSealed):
		return fmt.Errorf("%w: %w", record.ErrMalformed, err)
	}
	return err
}

// Put implements versions.Slots.
func (s *slots) Put(
	ctx context.Context, as replica.SecretKey, all []versions.Value,
) ([]replica.Item, error) {
	b, err := s.r.Batch(ctx, node.WriteOptions{As: as})
	if errors.Is(err, replica.ErrNoReadKey) { // whoever was revoked gets no other key either
		return nil, errors.Join(removed(s.n.Replicas().MayWrite(ctx, s.ID(), as.Author(), nil)), err)
	}
	if err != nil {
		return nil, err
	}
	defer b.Close()
	var small bytes.Buffer
	for _, v := range all {
		small.Reset()
		_, err := small.ReadFrom(io.LimitReader(v.Stream, blobs.SegmentSize+1))
		c := node.Change{Key: v.Key, Value: small.Bytes(), Check: v.Check}
		if small.Len() > blobs.SegmentSize {
			c.Value, c.Stream = nil, io.MultiReader(&small, v.Stream)
		}
		if err == nil {
			err = b.Add(c)
		}
		if err != nil {
			return nil, err
		}
	}
	items, err := b.Commit()
	return items, removed(err)
}

// removed says that the device may not write if that is what is wrong.
func removed(err error) error {
	if _, no := errors.AsType[*replica.NotAllowedError](err); no {
		return fmt.Errorf("%w: %w", versions.ErrRemoved, err)
	}
	return err
}
