package node_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/node/content"
	"github.com/skerry-sync/skerry/node/link"
)

// The first bytes of each child come in one request, with their sizes proved.
func TestFetchHeadsOfChildren(t *testing.T) {
	ctx := t.Context()
	a, _ := start(t, t.TempDir())
	var seq blobs.Sequence
	var contents [][]byte
	for i := range 40 {
		data := testkit.Random(byte(i), 10+i*40_000)
		info, err := a.Blobs().ImportBytes(ctx, data)
		require.NoError(t, err)
		seq, contents = append(seq, info.Hash), append(contents, data)
	}
	root, err := a.Blobs().ImportBytes(ctx, seq.Bytes())
	require.NoError(t, err)
	heads := blobs.Ranges{{Start: 0, End: 64 << 10}}
	b, _ := start(t, t.TempDir())
	for range 2 { // the second time, all is here
		got, err := b.FetchPart(ctx, root.Hash, nil, heads, infoOf(t, a), nil)
		require.NoError(t, err)
		require.Less(t, got.Bytes, uint64(40*(64+16)<<10+2000))
	}
	for i, h := range seq {
		st, err := b.Blobs().Stat(ctx, h)
		require.NoError(t, err)
		require.EqualValues(t, len(contents[i]), st.Size, "proved")
		r, err := b.Blobs().Reader(ctx, h)
		require.NoError(t, err)
		p := make([]byte, min(64<<10, len(contents[i])))
		_, err = io.ReadFull(r, p)
		require.NoError(t, err)
		require.True(t, bytes.Equal(contents[i][:len(p)], p))
		require.LessOrEqual(t, st.Present, uint64(80<<10))
	}
	// Some known before: only the others are fetched, by name.
	c, _ := start(t, t.TempDir())
	_, err = c.Fetch(ctx, []content.Want{{Hash: root.Hash}, {Hash: seq[39]}}, infoOf(t, a), nil)
	require.NoError(t, err)
	_, err = c.FetchPart(ctx, root.Hash, nil, heads, infoOf(t, a), nil)
	require.NoError(t, err)
	st, err := c.Blobs().Stat(ctx, seq[39])
	require.NoError(t, err)
	require.True(t, st.Complete)
	st, err = c.Blobs().Stat(ctx, seq[38])
	require.NoError(t, err)
	require.False(t, st.Complete)
}

// A read of a little, far inside a large blob that is elsewhere, fetches a little.
func TestRandomReadFetchesLittle(t *testing.T) {
	ctx := t.Context()
	a, _ := start(t, t.TempDir())
	data := testkit.Random(5, 64<<20)
	info, err := a.Blobs().ImportBytes(ctx, data)
	require.NoError(t, err)
	b, _ := start(t, t.TempDir())
	s := b.NewSession(ctx, infoOf(t, a))
	off := int64(41<<20 + 12345)
	r, err := s.OpenAt(info.Hash, uint64(off), 64<<10)
	require.NoError(t, err)
	p := make([]byte, 64<<10)
	_, err = r.ReadAt(p, off)
	require.NoError(t, err)
	require.True(t, bytes.Equal(data[off:off+64<<10], p))
	got, err := s.Close()
	require.NoError(t, err)
	require.LessOrEqual(t, got.Bytes, uint64(100<<10))

	// Reading on, to the end, gives the content, and all of it is here then.
	s = b.NewSession(ctx, infoOf(t, a))
	r, err = s.Open(info.Hash)
	require.NoError(t, err)
	all, err := io.ReadAll(r)
	require.NoError(t, err)
	require.True(t, bytes.Equal(data, all))
	_, err = s.Close()
	require.NoError(t, err)
	has, err := b.Blobs().Has(ctx, info.Hash)
	require.NoError(t, err)
	require.True(t, has)
}

// A sequence of a million children, of which many are the same.
func TestMillionChildren(t *testing.T) {
	ctx := t.Context()
	count := testkit.Few(1_000_000, 20_000)
	a, _ := start(t, t.TempDir())
	im := a.Blobs().NewImporter(ctx)
	var seq blobs.Sequence
	for i := range 10_000 {
		h, err := im.Add(fmt.Appendf(nil, "child %d", i))
		require.NoError(t, err)
		seq = append(seq, h)
	}
	require.NoError(t, im.Flush())
	for len(seq) < count {
		seq = append(seq, seq[:10_000]...)
	}
	root, err := a.Blobs().ImportBytes(ctx, seq.Bytes())
	require.NoError(t, err)
	b, _ := start(t, t.TempDir())
	c, err := b.Get(ctx, root.Hash, content.Sequence, infoOf(t, a), nil)
	require.NoError(t, err)
	require.Len(t, c.Children, count)
	for _, h := range seq[:10_000] {
		has, err := b.Blobs().Has(ctx, h)
		require.NoError(t, err)
		require.True(t, has)
	}
}

// Lies about the children of a sequence: the liar is dropped, nothing wrong is stored, and the
// honest provider behind it is used.
func TestLyingAboutChildren(t *testing.T) {
	ctx := t.Context()
	honest, _ := start(t, t.TempDir())
	var seq blobs.Sequence
	for i := range 3 {
		info, err := honest.Blobs().ImportBytes(ctx, testkit.Random(byte(i), 1000+i))
		require.NoError(t, err)
		seq = append(seq, info.Hash)
	}
	root, err := honest.Blobs().ImportBytes(ctx, seq.Bytes())
	require.NoError(t, err)
	odd, err := honest.Blobs().ImportBytes(ctx, testkit.Random(9, 50)) // not a whole number of hashes
	require.NoError(t, err)

	// The answer of a blob of one group: here it is, its size, no further ranges, its content.
	blob := func(content []byte) []byte {
		return append(append(binary.AppendUvarint([]byte{0}, uint64(len(content))), 0), content...)
	}
	list := blob(seq.Bytes())
	for name, tc := range map[string]struct {
		hash blobs.Hash
		says []byte
	}{
		"more children than there are": {root.Hash, append(list, 4)},
		"far too many":                 {root.Hash, append(list, 0xff, 0xff, 0xff, 0xff, 0x7f)},
		"a child that is not the hash's": {root.Hash, append(
			append(list, 3), blob(testkit.Random(7, 1000))...,
		)},
		"a child over the limit": {root.Hash, append(append(list, 3), 0, 0x80, 0x80, 0x40, 0)},
		"a child with ranges unasked": {root.Hash, append(
			append(list, 3), 0, 0xe8, 7, 1, 0x80, 0x80, 0x80, 8, 5,
		)},
		"children that break off": {root.Hash, append(
			append(list, 3), blob(testkit.Random(0, 1000))...,
		)},
		"no children at all":           {root.Hash, append(list, 0)},
		"children of what has none":    {odd.Hash, append(blob(testkit.Random(9, 50)), 1)},
		"children of what is not here": {root.Hash, []byte{1, 2}},
		"an unknown status":            {root.Hash, append(append(list, 3), 9)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			liar := stranger(t)
			liar.Handle("/skerry/blobs/2", func(s link.Stream) {
				readBlobRequest(s)
				_, _ = s.Write(tc.says)
				_ = s.CloseWrite()
				_, _ = io.Copy(io.Discard, s)
				_ = s.Close()
			})
			liarInfo := *must(peer.AddrInfoFromP2pAddr(liar.Addrs()[0]))(t)
			b, _ := start(t, t.TempDir())
			_, err := b.Get(t.Context(), tc.hash, content.Sequence, []peer.AddrInfo{liarInfo}, nil)
			require.Error(t, err)
			for info, err := range b.Blobs().List(t.Context()) {
				require.NoError(t, err)
				damage, err := b.Blobs().Verify(t.Context(), info.Hash, nil)
				require.NoError(t, err)
				require.Empty(t, damage, "nothing wrong is stored")
			}
			if tc.hash != root.Hash {
				return // it is no sequence, whoever is asked
			}
			c, err := b.Get(
				t.Context(), tc.hash, content.Sequence, append([]peer.AddrInfo{liarInfo}, infoOf(t, honest)...),
				nil,
			)
			require.NoError(t, err)
			require.Len(t, c.Children, 3)
		})
	}
}
