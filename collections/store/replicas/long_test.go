package replicas_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/chunked"
	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/store/replicas"
	"github.com/skerry-sync/skerry/internal/cost"
	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/replica"
)

// forge writes under a key of the replica what no server writes.
func (m *member) forge(t testing.TB, as replica.SecretKey, key string, b []byte) {
	require.NoError(t, replicas.WriteEntry(t.Context(), m.n, m.id, as, key, b))
}

// other returns an author of the replica whose node is not this one.
func (m *member) other(t testing.TB) replica.SecretKey {
	id, err := m.n.Authors().New(t.Context())
	require.NoError(t, err)
	key, err := m.n.Authors().Key(t.Context(), id)
	require.NoError(t, err)
	return key
}

// An author can write an entry of any length, and whoever asks for it has the node read it: what is
// too long is not read, and what others have written there counts.
func TestTooLong(t *testing.T) {
	testkit.OneGoroutine(t)
	m := founded(t, t.TempDir())
	defer func() { require.NoError(t, m.Close()) }()
	evil := m.other(t)
	document := []byte(`{"v":1,"data":{"a":1},"ts":1,"hash":"x"}`)
	put := func(key string) {
		require.NoError(t, m.Put(t.Context(), key, &store.Object{
			Body: document, Type: "application/json"}, store.Whatever))
	}
	put("both")
	put("log")
	require.NoError(t, m.Settle(t.Context()))
	long := make([]byte, 64<<20+1)
	list := fmt.Sprintf("%srevocations/%064d/%016d", store.Internal, 0, 1)
	m.forge(t, evil, "doc/both", long)
	m.forge(t, evil, "doc/alone", long)
	m.forge(t, evil, "file/file", long)
	m.forge(t, evil, "file/typed", []byte("short"))
	m.forge(t, evil, "type/typed", long)
	m.forge(t, evil, "log/log\x00"+fmt.Sprintf("%016d", 5), long)
	m.forge(t, evil, "doc/"+list, long[:3<<20])

	spent := cost.Bytes(func() {
		o, err := m.Get(t.Context(), "both")
		require.NoError(t, err)
		require.Equal(t, document, o.Body)
		for _, key := range []string{"alone", "file", "typed", list} {
			_, err = m.Get(t.Context(), key)
			require.ErrorIs(t, err, store.ErrNotFound, key)
		}
		all, _, err := m.Elements(t.Context(), "log", -1, 1<<50, -1, nil)
		require.NoError(t, err)
		require.Empty(t, all)
		news, err := m.Since(t.Context(), "log", "", -1, 10, nil)
		require.NoError(t, err)
		require.Empty(t, news.Elements)
	})
	require.Less(t, spent, uint64(16<<20))
	put("alone") // nobody keeps a document from being made
}

// inChunks stores a list of the sizes of chunks, and the sequence with it, whose hash and size it
// returns.
func (m *member) inChunks(
	t testing.TB, chunks []blobs.Hash, sizes ...uint64,
) (h blobs.Hash, size uint64) {
	list, err := m.n.Blobs().ImportBytes(t.Context(), chunked.List(sizes))
	require.NoError(t, err)
	for _, n := range sizes {
		size += n
	}
	seq := append(blobs.Sequence{list.Hash}, chunks...)
	info, err := m.n.Blobs().ImportBytes(t.Context(), seq.Bytes())
	require.NoError(t, err)
	return info.Hash, size
}

// An author can write an entry with the hash of what others have written, and another size, or with
// that of a list of chunks that have other sizes: that is left out, and what others have written
// there counts, also for the server that starts anew.
func TestFalseSize(t *testing.T) {
	dir := t.TempDir()
	m := founded(t, dir)
	document := []byte(`{"v":1,"data":{"a":1},"ts":1,"hash":"x"}`)
	put := func(key string) {
		require.NoError(t, m.Put(t.Context(), key, &store.Object{
			Body: document, Type: "application/json"}, store.Whatever))
	}
	put("both")
	put("log")
	require.NoError(t, m.Settle(t.Context()))
	list := fmt.Sprintf("%srevocations/%064d/%016d", store.Internal, 0, 1)
	type claim struct {
		hash blobs.Hash
		size uint64
	}
	length := uint64(len(document))
	claims := []claim{
		{blobs.HashOf(document), length + 1}, {blobs.HashOf(document), length + 2},
	}
	add := func(h blobs.Hash, size uint64) { claims = append(claims, claim{h, size}) }
	add(m.inChunks(t, []blobs.Hash{blobs.HashOf(document)}, length+1))
	add(m.inChunks(t, []blobs.Hash{blobs.HashOf(document)}, length-1))
	spaces := bytes.Repeat([]byte(" "), chunked.MaxChunk)
	padded := append(slices.Clone(document), spaces...)[:chunked.MaxChunk]
	long, err := m.n.Blobs().ImportBytes(t.Context(), padded)
	require.NoError(t, err)
	sizes := append(slices.Repeat([]uint64{chunked.MaxChunk}, 8), chunked.MaxChunk-1)
	add(m.inChunks(t, slices.Repeat([]blobs.Hash{long.Hash}, len(sizes)), sizes...))
	short, err := m.n.Blobs().ImportBytes(t.Context(), padded[:chunked.MaxChunk-1])
	require.NoError(t, err)
	add(m.inChunks(t, slices.Repeat([]blobs.Hash{short.Hash}, len(sizes)), sizes...))
	var all []replica.Entry
	for _, c := range claims {
		evil := m.other(t)
		m.forge(t, evil, "rules", []byte("some rules"))
		for i, key := range []string{
			"doc/both", "doc/alone", "file/file", "type/both", "log/log\x00" + fmt.Sprintf("%016d", 5),
			"doc/" + list, "rules",
		} {
			e := replica.Entry{
				Replica: m.id, Key: []byte(key), Hash: c.hash, Size: c.size,
				Timestamp: uint64(m.n.Now().Add(time.Second).UnixMicro()) + uint64(i),
			}
			e.Sign(evil)
			all = append(all, e)
		}
	}
	_, err = m.n.TakeEntries(t.Context(), m.id, all, replica.Origin{})
	require.NoError(t, err)
	look := func() {
		o, err := m.Get(t.Context(), "both")
		require.NoError(t, err)
		require.Equal(t, document, o.Body)
		for _, key := range []string{"file", list} {
			_, err = m.Get(t.Context(), key)
			require.ErrorIs(t, err, store.ErrNotFound, key)
		}
		elements, _, err := m.Elements(t.Context(), "log", -1, 1<<50, -1, nil)
		require.NoError(t, err)
		require.Empty(t, elements)
		news, err := m.Since(t.Context(), "log", "", -1, 10, nil)
		require.NoError(t, err)
		require.Empty(t, news.Elements)
		kept, err := replicas.ReadEntry(t.Context(), m.n, m.id, "rules")
		require.NoError(t, err)
		require.Empty(t, kept, "its author has written over it")
	}
	look()
	put("alone") // nobody keeps a document from being made
	put("both")
	look()
	require.NoError(t, m.Close())
}

// A chunk that nobody has keeps no other version from being read. The version that it is part of is
// read when the chunk has come.
func TestChunksThatAreMissing(t *testing.T) {
	m := founded(t, t.TempDir())
	defer func() { require.NoError(t, m.Close()) }()
	own := []byte(`{"v":1,"data":{"a":1},"ts":1,"hash":"x"}`)
	require.NoError(t, m.Put(t.Context(), "both", &store.Object{
		Body: own, Type: "application/json"}, store.Whatever))
	require.NoError(t, m.Settle(t.Context()))
	spaces := bytes.Repeat([]byte(" "), chunked.MaxChunk)
	theirs := append([]byte(`{"v":1,"data":{"a":2},"ts":2,"hash":"y"}`), spaces...)[:chunked.MaxChunk]
	first, err := m.n.Blobs().ImportBytes(t.Context(), theirs)
	require.NoError(t, err)
	chunks := append([]blobs.Hash{first.Hash}, slices.Repeat([]blobs.Hash{blobs.HashOf(spaces)}, 8)...)
	h, size := m.inChunks(t, chunks, slices.Repeat([]uint64{chunked.MaxChunk}, 9)...)
	other := m.other(t)
	m.forge(t, other, "rules", []byte("some rules")) // which takes a grant
	keys := []string{"doc/both", "doc/alone"}
	const elements = 15
	for i := range elements {
		keys = append(keys, "log/log\x00"+fmt.Sprintf("%016d", i))
	}
	var all []replica.Entry
	for _, key := range keys {
		e := replica.Entry{
			Replica: m.id, Key: []byte(key), Hash: h, Size: size,
			Timestamp: uint64(m.n.Now().Add(time.Second).UnixMicro()),
		}
		e.Sign(other)
		all = append(all, e)
	}
	_, err = m.n.TakeEntries(t.Context(), m.id, all, replica.Origin{})
	require.NoError(t, err)
	o, err := m.Get(t.Context(), "both")
	require.NoError(t, err)
	require.Equal(t, own, o.Body)
	_, err = m.Get(t.Context(), "alone")
	require.ErrorIs(t, err, store.ErrNotCome)
	// Whoever asks for news does not wait for any of them.
	ctx, cancel := context.WithTimeout(t.Context(), elements*time.Second)
	defer cancel()
	news, err := m.Since(ctx, "log", "", -1, 2*elements, nil)
	require.NoError(t, err)
	require.Empty(t, news.Elements)

	_, err = m.n.Blobs().ImportBytes(t.Context(), spaces)
	require.NoError(t, err)
	o, err = m.Get(t.Context(), "both")
	require.NoError(t, err)
	require.Contains(t, string(o.Body), `"data":{"a":2}`)
	_, err = m.Get(t.Context(), "alone")
	require.NoError(t, err)
	news, err = m.Since(t.Context(), "log", news.Next, -1, 2*elements, nil)
	require.NoError(t, err)
	require.Len(t, news.Elements, elements)
}
