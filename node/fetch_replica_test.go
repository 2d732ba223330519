package node_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/chunked"
	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/node/content"
	"github.com/skerry-sync/skerry/node/limits"
	"github.com/skerry-sync/skerry/node/wanted"
	"github.com/skerry-sync/skerry/replica"
)

// The download policy says what content comes; after a change, the node catches up.
func TestDownloadPolicy(t *testing.T) {
	ctx := t.Context()
	a, _ := start(t, t.TempDir())
	b, _ := start(t, t.TempDir())
	r, err := a.ReplicaStore().Create(ctx, "r")
	require.NoError(t, err)
	set(t, a, r.ID, "photos/1", "a photo")
	set(t, a, r.ID, "notes/1", "a note")
	set(t, a, r.ID, "notes/2", "a note that is rather long, longer than the others")
	tk, err := a.Ticket(ctx, r, replica.Read)
	require.NoError(t, err)
	_, err = b.JoinWith(ctx, tk, "r", node.JoinOptions{Policy: &wanted.Policy{Nothing: true}})
	require.NoError(t, err)
	state := func(key string) wanted.State {
		e, err := b.ReplicaStore().LatestOf(ctx, r.ID, []byte(key))
		if err != nil {
			return wanted.Missing
		}
		st, err := b.ContentState(ctx, e.Hash, e.Size)
		require.NoError(t, err)
		return st
	}
	pending := func() int {
		n, err := b.PendingContent(ctx, r.ID)
		require.NoError(t, err)
		return n
	}
	eventually(t, "entries come all the same", func() bool {
		_, err := b.ReplicaStore().LatestOf(ctx, r.ID, []byte("notes/2"))
		return err == nil
	})
	require.Zero(t, pending())
	require.NoError(t, b.SetPolicy(ctx, r.ID, wanted.Policy{Prefixes: [][]byte{[]byte("photos/")}}))
	eventually(t, "the photo", func() bool { return state("photos/1") == wanted.Complete })
	require.Equal(t, wanted.Missing, state("notes/1"))
	set(t, a, r.ID, "photos/2", "another photo")
	eventually(t, "a later photo", func() bool { return state("photos/2") == wanted.Complete })
	require.NoError(t, b.SetPolicy(ctx, r.ID, wanted.Policy{MaxSize: 10}))
	eventually(t, "the short note", func() bool { return state("notes/1") == wanted.Complete })
	require.Equal(t, wanted.Missing, state("notes/2"))
	require.NoError(t, b.SetPolicy(ctx, r.ID, wanted.Policy{}))
	eventually(t, "everything", func() bool {
		return state("notes/2") == wanted.Complete &&
			pending() == 0
	})
	require.Error(t, b.SetPolicy(ctx, replica.ID{1}, wanted.Policy{}))
}

// Large content of an entry travels in chunks: an edit brings only what changed.
func TestChunkedContentInReplica(t *testing.T) {
	ctx := t.Context()
	a, _ := start(t, t.TempDir())
	b, _ := start(t, t.TempDir())
	r, err := a.ReplicaStore().Create(ctx, "r")
	require.NoError(t, err)
	tk, err := a.Ticket(ctx, r, replica.Read)
	require.NoError(t, err)
	_, err = b.Join(ctx, tk, "r")
	require.NoError(t, err)
	data := testkit.Random(6, 24<<20)
	put := func(content []byte) (blobs.Hash, uint64) {
		items, err := a.ReplicaOf(r.ID).Apply(ctx, node.WriteOptions{},
			node.Change{Key: []byte("large"), Stream: bytes.NewReader(content)})
		require.NoError(t, err)
		h, size := items[0].Entry.Hash, items[0].Entry.Size
		require.EqualValues(t, len(content), size)
		return h, size
	}
	h, size := put(data)
	waiting, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	arrived := func(h blobs.Hash, size uint64, want []byte) {
		eventually(t, "the entry", func() bool {
			e, err := b.ReplicaStore().LatestOf(ctx, r.ID, []byte("large"))
			return err == nil && e.Hash == h
		})
		require.NoError(t, b.WaitContent(waiting, h, size))
		content, err := b.OpenContent(ctx, h, size)
		require.NoError(t, err)
		got, err := io.ReadAll(content)
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, got))
	}
	arrived(h, size, data)
	before, err := b.Blobs().Totals(ctx)
	require.NoError(t, err)
	edited := append(append(bytes.Clone(data[:10<<20]), "a few bytes more"...), data[10<<20:]...)
	h, size = put(edited)
	arrived(h, size, edited)
	after, err := b.Blobs().Totals(ctx)
	require.NoError(t, err)
	require.Less(
		t, after.Bytes-before.Bytes, uint64(3*chunked.MaxChunk), "only the chunks around the edit",
	)

	// Garbage collection keeps the chunks of what an entry points at, and drops those of the version
	// before.
	got, err := b.Collect(ctx, false, nil)
	require.NoError(t, err)
	require.Positive(t, got.Removed)
	arrived(h, size, edited)
}

// Damaged content is found, dropped and fetched again.
func TestRepair(t *testing.T) {
	ctx := t.Context()
	a, _ := start(t, t.TempDir())
	dir := t.TempDir()
	b, _ := start(t, dir)
	data := testkit.Random(7, 3<<20)
	info, err := a.Blobs().ImportBytes(ctx, data)
	require.NoError(t, err)
	_, err = b.Get(ctx, info.Hash, content.Raw, infoOf(t, a), nil)
	require.NoError(t, err)
	own, err := filepath.Glob(filepath.Join(dir, "content", "own", "*", "*"))
	require.NoError(t, err)
	require.Len(t, own, 1)
	f, err := os.OpenFile(own[0], os.O_RDWR, 0)
	require.NoError(t, err)
	_, err = f.WriteAt(make([]byte, 100), 1<<20)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	damage, err := b.Blobs().Verify(ctx, info.Hash, nil)
	require.NoError(t, err)
	require.Len(t, damage, 1)
	require.NoError(t, b.Repair(ctx, info.Hash, damage))
	damage, err = b.Blobs().Verify(ctx, info.Hash, nil)
	require.NoError(t, err)
	require.Empty(t, damage)
	requireContent(t, b, info.Hash, data)
	providers := b.Providers(ctx, info.Hash)
	require.Equal(
		t, []content.ProviderInfo{{ID: a.ID(), Size: info.Size, Present: info.Size}}, providers,
	)
}

// Two downloads of one blob at once both end well, and so does one during which the blob is
// deleted, or collected.
func TestConcurrentDownloadsAndDeletion(t *testing.T) {
	ctx := t.Context()
	a := startWith(t, limits.Config{Upload: 100 << 20})
	data := testkit.Random(10, 24<<20)
	info, err := a.Blobs().ImportBytes(ctx, data)
	require.NoError(t, err)
	b, _ := start(t, t.TempDir())
	var both sync.WaitGroup
	for range 2 {
		both.Go(func() {
			_, err := b.Get(ctx, info.Hash, content.Raw, infoOf(t, a), nil)
			if err != nil {
				t.Error(err)
			}
		})
	}
	both.Wait()
	requireContent(t, b, info.Hash, data)

	// Collection keeps what is being fetched, though nothing else keeps it.
	require.NoError(t, b.Blobs().Delete(ctx, info.Hash))
	var once sync.Once
	_, err = b.Get(ctx, info.Hash, content.Raw, infoOf(t, a), func(p content.GetProgress) {
		if p.Fetched > 4<<20 {
			once.Do(func() {
				both.Go(func() {
					if _, err := b.Collect(ctx, false, nil); err != nil {
						t.Error(err)
					}
				})
			})
		}
	})
	both.Wait()
	require.NoError(t, err)
	requireContent(t, b, info.Hash, data)

	// Deletion by somebody else ends the download with an error that says so, and the next one starts
	// anew.
	require.NoError(t, b.Blobs().Delete(ctx, info.Hash))
	once = sync.Once{}
	_, err = b.Get(ctx, info.Hash, content.Raw, infoOf(t, a), func(p content.GetProgress) {
		if p.Fetched > 4<<20 {
			once.Do(func() { both.Go(func() { _ = b.Blobs().Delete(ctx, info.Hash) }) })
		}
	})
	both.Wait()
	require.ErrorIs(t, err, blobs.ErrDeleted)
	_, err = b.Get(ctx, info.Hash, content.Raw, infoOf(t, a), nil)
	require.NoError(t, err)
	requireContent(t, b, info.Hash, data)
}
