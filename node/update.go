package node

import (
	"context"
	"io"

	"github.com/skerry-sync/skerry/internal/disk"
)

// Setter takes what is to be set together.
type Setter = interface {
	Set(key, value []byte) error
	// SetFrom sets a key to what content yields; it is read when SetFrom returns. A *disk.File is
	// read as a file, and may be larger than what is held in memory.
	SetFrom(key []byte, content io.Reader) error
}

// Update commits all that fn sets, as the default author, or nothing if fn fails. progress, unless
// it is nil, is told how many bytes of a value have been read. With it, a handle is a
// project.Replica.
func (r *Replica) Update(
	ctx context.Context, progress func(read uint64), fn func(Setter) error,
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

// setter sets by a batch.
type setter struct{ b *Batch }

func (s setter) Set(key, value []byte) error { return s.b.Add(Change{Key: key, Value: value}) }

func (s setter) SetFrom(key []byte, content io.Reader) error {
	if f, ok := content.(*disk.File); ok {
		return s.b.Add(Change{Key: key, File: f})
	}
	return s.b.Add(Change{Key: key, Stream: content})
}
