package sealed

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/chunked"
	"github.com/skerry-sync/skerry/blobs/files"
	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/kv/pebble"
	"github.com/skerry-sync/skerry/node/content"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/replica/seal"
)

// stores are those of a node.
type stores struct {
	blobs    *blobs.Store
	replicas *replica.Store
}

func open(t testing.TB) stores {
	store, err := pebble.Open("", pebble.Options{})
	require.NoError(t, err)
	content, err := files.Open(t.TempDir(), files.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, errors.Join(content.Close(), store.Close())) })
	var n stores
	n.blobs, err = blobs.Open(t.Context(), store, content)
	require.NoError(t, err)
	n.replicas, err = replica.Open(t.Context(), store, replica.Config{})
	require.NoError(t, err)
	t.Cleanup(n.replicas.Close)
	return n
}

// Content of an encrypted replica reads back whole and in parts, from what says nothing of it; the
// same content gives the same blobs, and an edit of a large one few new ones.
func TestSealedContent(t *testing.T) {
	n := open(t)
	ctx := t.Context()
	r, err := n.replicas.CreateEncrypted(ctx, "r")
	require.NoError(t, err)
	p, err := n.replicas.Plain(ctx, r.ID)
	require.NoError(t, err)
	key, err := p.Sealing()
	require.NoError(t, err)
	for _, size := range []int{
		1, seal.SegmentSize, seal.SegmentSize + 1, chunked.Threshold - 1, chunked.Threshold, 9<<20 + 17,
	} {
		data := testkit.Random(1, size)
		h, stored, err := Import(ctx, n.blobs, key, bytes.NewReader(data), nil)
		require.NoError(t, err)
		again, _, err := Import(ctx, n.blobs, key, bytes.NewReader(data), nil)
		require.NoError(t, err)
		require.Equal(t, h, again)
		require.Greater(t, stored, uint64(size))
		_, err = content.Open(ctx, n.blobs, h, stored)
		require.NoError(t, err, "what is sealed is whole")
		e := replica.Entry{Hash: h, Size: stored}
		content, err := Open(ctx, n.blobs, p, &e)
		require.NoError(t, err)
		require.EqualValues(t, size, content.Size())
		told, ok, err := Size(ctx, n.blobs, p, &e)
		require.NoError(t, err)
		require.True(t, ok)
		require.EqualValues(t, size, told)
		got, err := io.ReadAll(content)
		require.NoError(t, err)
		require.True(t, bytes.Equal(data, got), size)
		rapid.Check(t, func(t *rapid.T) {
			off := rapid.IntRange(0, size+10).Draw(t, "off")
			part := make([]byte, rapid.IntRange(0, 300<<10).Draw(t, "length"))
			m, err := content.ReadAt(part, int64(off))
			want := data[min(off, size):min(off+len(part), size)]
			require.True(t, bytes.Equal(want, part[:m]))
			if len(want) < len(part) {
				require.ErrorIs(t, err, io.EOF)
			}
		})
	}
	// An edit in the middle.
	data := testkit.Random(2, 24<<20)
	h, size, err := Import(ctx, n.blobs, key, bytes.NewReader(data), nil)
	require.NoError(t, err)
	chunksOf := func() chunked.Chunks {
		x, err := content.Chunks(ctx, n.blobs, h, size)
		require.NoError(t, err)
		c, err := x.All(ctx)
		require.NoError(t, err)
		return c
	}
	before := chunksOf()
	copy(data[12<<20:], "an edit")
	h, size, err = Import(ctx, n.blobs, key, bytes.NewReader(data), nil)
	require.NoError(t, err)
	after := chunksOf()
	known := map[blobs.Hash]bool{}
	for _, c := range before.Hashes {
		known[c] = true
	}
	fresh := 0
	for _, c := range after.Hashes {
		if !known[c] {
			fresh++
		}
	}
	require.Positive(t, fresh)
	require.LessOrEqual(t, fresh, 3)
	// Where it is cut follows from the key: another key cuts elsewhere.
	other := replica.EpochKey{Epoch: 1, Key: seal.NewReadKey()}
	h, size, err = Import(ctx, n.blobs, other, bytes.NewReader(data), nil)
	require.NoError(t, err)
	require.NotEqual(t, after.Sizes[:10], chunksOf().Sizes[:10])
	_, err = Open(ctx, n.blobs, p, &replica.Entry{Hash: h, Size: size})
	if err == nil {
		var content content.Reader
		content, err = Open(ctx, n.blobs, p, &replica.Entry{Hash: h, Size: size})
		require.NoError(t, err)
		_, err = io.ReadAll(content)
	}
	require.ErrorIs(t, err, seal.ErrSealed)
	// What is not sealed at all, and what is too short to be.
	for _, content := range [][]byte{[]byte("plain"), bytes.Repeat([]byte{0}, 100)} {
		info, err := n.blobs.ImportBytes(ctx, content)
		require.NoError(t, err)
		_, err = Open(ctx, n.blobs, p, &replica.Entry{Hash: info.Hash, Size: info.Size})
		require.ErrorIs(t, err, seal.ErrSealed)
	}
}

// BenchmarkContent imports and reads a value, sealed and not.
func BenchmarkContent(b *testing.B) {
	n := open(b)
	ctx := b.Context()
	r, err := n.replicas.CreateEncrypted(ctx, "r")
	require.NoError(b, err)
	sealed, err := n.replicas.Plain(ctx, r.ID)
	require.NoError(b, err)
	key, err := sealed.Sealing()
	require.NoError(b, err)
	data := testkit.Random(1, 64<<20)
	h, size, err := Import(ctx, n.blobs, key, bytes.NewReader(data), nil)
	require.NoError(b, err)
	b.Run("import/sealed", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			data[0]++
			_, _, err := Import(ctx, n.blobs, key, bytes.NewReader(data), nil)
			require.NoError(b, err)
		}
	})
	b.Run("import/plain", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			data[0]++
			_, err := chunked.Import(ctx, n.blobs, bytes.NewReader(data), nil)
			require.NoError(b, err)
		}
	})
	b.Run("read/sealed", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			content, err := Open(ctx, n.blobs, sealed, &replica.Entry{Hash: h, Size: size})
			require.NoError(b, err)
			_, err = io.CopyBuffer(
				struct{ io.Writer }{io.Discard}, struct{ io.Reader }{content}, make([]byte, 1<<20),
			)
			require.NoError(b, err)
		}
	})
}
