package node

import (
	"context"
	"io"

	"github.com/skerry-sync/skerry/internal/disk"
	"github.com/skerry-sync/skerry/project"
)

var _ project.Replica = (*Replica)(nil)

// Update implements project.Replica: it commits all that fn sets, as the default author.
func (r *Replica) Update(
	ctx context.Context, progress func(read uint64), fn func(project.Batch) error,
) error {
	b, err := r.Batch(ctx, WriteOptions{Progress: progress})
	if err != nil {
		return err
	}
	defer b.Close()
	if err := fn(setter{b}); err != nil {
		return err
	}
	_, err = b.Commit()
	return err
}

// setter implements project.Batch.
type setter struct{ b *Batch }

func (s setter) Set(key, value []byte) error { return s.b.Add(Change{Key: key, Value: value}) }

func (s setter) SetFrom(key []byte, content io.Reader) error {
	if f, ok := content.(*disk.File); ok {
		return s.b.Add(Change{Key: key, File: f})
	}
	return s.b.Add(Change{Key: key, Stream: content})
}
