package replicas_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
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
		all, err := m.Elements(t.Context(), "log", -1, 1<<50, -1, nil)
		require.NoError(t, err)
		require.Empty(t, all)
		news, err := m.Since(t.Context(), "log", "", -1, 10, nil)
		require.NoError(t, err)
		require.Empty(t, news.Elements)
	})
	require.Less(t, spent, uint64(16<<20))
	put("alone") // nobody keeps a document from being made
}

// An author can write an entry with the hash of what others have written, and another size: that is
// left out, and what others have written there counts, also for the server that starts anew.
func TestFalseSize(t *testing.T) {
	dir := t.TempDir()
	m := founded(t, dir)
	evil := m.other(t)
	document := []byte(`{"v":1,"data":{"a":1},"ts":1,"hash":"x"}`)
	put := func(key string) {
		require.NoError(t, m.Put(t.Context(), key, &store.Object{
			Body: document, Type: "application/json"}, store.Whatever))
	}
	put("both")
	put("log")
	m.forge(t, evil, "rules", []byte("some rules"))
	require.NoError(t, m.Settle(t.Context()))
	list := fmt.Sprintf("%srevocations/%064d/%016d", store.Internal, 0, 1)
	var all []replica.Entry
	for _, key := range []string{
		"doc/both", "doc/alone", "file/file", "type/both", "log/log\x00" + fmt.Sprintf("%016d", 5),
		"doc/" + list, "rules",
	} {
		for off := range uint64(2) {
			e := replica.Entry{
				Replica: m.id, Key: []byte(key), Hash: blobs.HashOf(document),
				Size:      uint64(len(document)) + 1 + off,
				Timestamp: uint64(m.n.Now().Add(time.Second).UnixMicro()) + off,
			}
			e.Sign(evil)
			all = append(all, e)
		}
	}
	_, err := m.n.TakeEntries(t.Context(), m.id, all, replica.Origin{})
	require.NoError(t, err)
	look := func() {
		o, err := m.Get(t.Context(), "both")
		require.NoError(t, err)
		require.Equal(t, document, o.Body)
		for _, key := range []string{"file", list} {
			_, err = m.Get(t.Context(), key)
			require.ErrorIs(t, err, store.ErrNotFound, key)
		}
		elements, err := m.Elements(t.Context(), "log", -1, 1<<50, -1, nil)
		require.NoError(t, err)
		require.Empty(t, elements)
		news, err := m.Since(t.Context(), "log", "", -1, 10, nil)
		require.NoError(t, err)
		require.Empty(t, news.Elements)
		kept, missing, err := replicas.ReadEntry(t.Context(), m.n, m.id, "rules")
		require.NoError(t, err)
		require.Zero(t, missing)
		require.Empty(t, kept, "its author has written over it")
	}
	look()
	put("alone") // nobody keeps a document from being made
	put("both")
	look()
	require.NoError(t, m.Close())
}
