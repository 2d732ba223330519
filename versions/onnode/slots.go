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
	// sealed is how an encrypted replica was last seen. It serves to open content, for which it may be
	// used by several goroutines, until there is a content that it does not open.
	sealed atomic.Pointer[replica.Plain]
}

var _ versions.Slots = (*slots)(nil)

// ID implements versions.Slots.
func (s *slots) ID() replica.ID { return s.r.ID() }

// Entries implements versions.Slots.
func (s *slots) Entries(
	ctx context.Context, q replica.Query,
) iter.Seq2[replica.Item, error] {
	return s.r.Entries(ctx, q)
}

// Displaced implements versions.Slots.
func (s *slots) Displaced(ctx context.Context, key []byte) iter.Seq2[replica.Item, error] {
	return s.displaced.All(ctx, key)
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
	view := s.sealed.Load()
	if view != nil {
		in, err := s.n.OpenPlain(ctx, view, e)
		if err == nil || !errors.Is(err, seal.ErrSealed) {
			return opened(in, err)
		}
	}
	view, err := s.n.Replicas().Plain(ctx, s.ID())
	if err != nil {
		return nil, err
	}
	if view.Encrypted() { // and stays so
		s.sealed.Store(view)
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
	switch {
	case err == nil || err == io.EOF:
		return err
	case errors.Is(err, blobs.ErrNotFound), errors.Is(err, blobs.ErrIncomplete),
		errors.As(err, &damage):
		return fmt.Errorf("%w: %w", plan.ErrMissing, err)
	case errors.As(err, &size), errors.Is(err, seal.ErrSealed):
		return fmt.Errorf("%w: %w", record.ErrMalformed, err)
	}
	return err
}

// Write implements versions.Slots.
func (s *slots) Write(
	ctx context.Context, as replica.SecretKey, all []versions.Value,
) ([]replica.Item, error) {
	b, err := s.r.Batch(ctx, node.WriteOptions{As: as})
	if err != nil {
		return nil, err
	}
	defer b.Close()
	var small bytes.Buffer
	for _, v := range all {
		small.Reset()
		_, err := small.ReadFrom(io.LimitReader(v.Stream, blobs.SegmentSize+1))
		c := node.Change{Key: v.Key, Value: small.Bytes()}
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
	return b.Commit()
}
