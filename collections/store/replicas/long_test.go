package replicas_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/store/replicas"
	"github.com/skerry-sync/skerry/internal/cost"
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
