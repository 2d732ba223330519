package node

import (
	"crypto/rand"
	"encoding/binary"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/files"
	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/node/limits"
	"github.com/skerry-sync/skerry/replica"
)

// The limit of storage bounds records as well as content: a writer that sends deletions with long
// keys is stopped by it, what replaces an entry is still taken, and room that is made is used
// again.
func TestStorageLimitBoundsRecords(t *testing.T) {
	testkit.SeenElsewhere(t)
	const limit = 24 << 20
	ctx := t.Context()
	n, err := Open(ctx, Config{Dir: t.TempDir(), Limits: limits.Config{Storage: limit}})
	require.NoError(t, err)
	defer func() { require.NoError(t, n.Close()) }()
	secret, author := replica.NewSecretKey(), replica.NewSecretKey()
	id, now := secret.Replica(), uint64(time.Now().Add(-time.Hour).UnixMicro())
	_, err = n.replicas.Join(
		ctx, replica.Replica{ID: id, Name: "r", Capability: replica.Write, Secret: secret},
	)
	require.NoError(t, err)
	_, err = n.replicas.Grant(ctx, id, author.Author(), replica.Permission{})
	require.NoError(t, err)
	sent := 0
	insert := func(key []byte) replica.Inserted {
		sent++
		e := replica.Entry{
			Replica: id, Author: author.Author(), Timestamp: now + uint64(sent), Key: key,
			Hash: blobs.EmptyHash,
		}
		e.Sign(author)
		got, err := n.replicas.Insert(ctx, id, []replica.Entry{e}, replica.Origin{Peer: "p"})
		require.NoError(t, err)
		return got
	}
	key := func(i int) []byte {
		b := make([]byte, 60_000)
		_, _ = rand.Read(b)
		binary.BigEndian.PutUint64(b, uint64(i))
		return b
	}
	first := key(0)
	require.Len(t, insert(first).Added, 1)
	refused := 0
	for i := 1; i < 1000 && refused < 3; i++ { // 120 MB of records
		refused += insert(key(i)).NoRoom
	}
	require.Equal(t, 3, refused)
	require.LessOrEqual(t, n.recordBytes(), uint64(limit+limit/4))

	require.Len(t, insert(first).Added, 1, "it replaces an entry")
	mine, err := n.replicas.DefaultAuthor(ctx)
	require.NoError(t, err)
	mineKey, err := n.replicas.AuthorKey(ctx, mine)
	require.NoError(t, err)
	_, err = n.replicas.Write(ctx, id, mineKey, []replica.Change{{Key: []byte("mine")}})
	require.ErrorIs(t, err, replica.ErrNoRoom)
	var full *files.LimitError
	_, err = n.blobs.ImportBytes(ctx, []byte("a few bytes, which would be a record"))
	require.ErrorAs(t, err, &full)

	// Statements of the node's own always have room: whoever wrote all that loses the right to.
	_, err = n.replicas.Revoke(ctx, id, author.Author(), 0)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		require.NoError(t, n.kv.Compact(ctx))
		_, err := n.replicas.Write(ctx, id, mineKey, []replica.Change{{Key: []byte("mine")}})
		return err == nil
	}, time.Minute, 100*time.Millisecond)
}
