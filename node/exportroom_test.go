package node_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs/chunked/chunkedtest"
	"github.com/skerry-sync/skerry/blobs/directory"
	"github.com/skerry-sync/skerry/internal/kind"
	"github.com/skerry-sync/skerry/kv/pebble"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/node/content"
)

// A file in chunks can be far larger than all that was fetched of it, since it may name one chunk
// any number of times. What does not fit is not written, and what leaves hardly anything free to
// others ends; nothing of it stays. So it is for the content of a hash and for a replica.
func TestExportsLeaveRoom(t *testing.T) {
	ctx := t.Context()
	var free atomic.Uint64
	n, err := node.Open(ctx, node.Config{Dir: t.TempDir(), Store: pebble.Options{
		FS:        vfs.NewMem(),
		FreeBytes: func(string) (uint64, error) { return free.Load(), nil },
		Reserve:   1,
	}})
	require.NoError(t, err)
	defer func() { require.NoError(t, n.Close()) }()
	free.Store(1 << 40)
	h, size, _, _ := chunkedtest.Store(t, n.Blobs())
	c, err := n.Get(ctx, h, content.Sequence, nil, nil)
	require.NoError(t, err)
	require.Equal(t, size, c.Size)
	_, err = n.CreateReplica(ctx, "r", false)
	require.NoError(t, err)
	r, err := n.Replica(ctx, "r")
	require.NoError(t, err)
	// All of its chunks are equal.
	change := node.Change{Key: []byte("file"), Stream: bytes.NewReader(make([]byte, size))}
	_, err = r.Apply(ctx, node.WriteOptions{}, change)
	require.NoError(t, err)

	for what, export := range map[string]func(
		ctx context.Context, name string, progress func(directory.Progress),
	) error{
		"content": func(ctx context.Context, name string, progress func(directory.Progress)) error {
			return n.Export(ctx, &c, name, progress)
		},
		"replica": func(ctx context.Context, name string, progress func(directory.Progress)) error {
			_, err := r.Export(ctx, name, progress)
			return err
		},
	} {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			nothing := func() {
				names, err := os.ReadDir(dir)
				require.NoError(t, err)
				require.Empty(t, names)
			}
			name := filepath.Join(dir, "out")
			free.Store(size / 2)
			err := export(ctx, name, func(p directory.Progress) { require.Zero(t, p.Bytes) })
			require.Equal(t, kind.NoSpace, kind.Of(err), err)
			require.ErrorContains(t, err, "disk full")
			nothing()

			free.Store(1 << 40)
			var most uint64
			err = export(ctx, name, func(p directory.Progress) {
				if free.Store(1 << 20); p.Bytes > most {
					most = p.Bytes
				}
			})
			require.Equal(t, kind.NoSpace, kind.Of(err), err)
			require.ErrorContains(t, err, "disk full")
			require.Less(t, most, size)
			nothing()

			free.Store(1 << 40)
			require.NoError(t, export(ctx, name, nil))
		})
	}
}
