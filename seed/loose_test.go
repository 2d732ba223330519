package seed

import (
	"crypto/rand"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/node/limits"
	"github.com/skerry-sync/skerry/replica"
)

// Content that is replaced over and over stays on the disk no longer than a quota of it: the seed
// collects garbage by itself.
func TestReplacedContentIsCollected(t *testing.T) {
	const size, limit = 1 << 20, 4 << 20
	x := newShop(t, Limits{Bytes: limit, Replicas: 2, Grace: time.Hour}, limits.Config{})
	x.Start(t.Context())
	t.Cleanup(x.Close)
	var all []blobs.Hash
	stored := func() (n int) {
		for _, h := range all {
			has, err := x.n.Blobs().Has(t.Context(), h)
			require.NoError(t, err)
			if has {
				n++
			}
		}
		return n
	}
	for range 20 {
		b := make([]byte, size)
		_, _ = rand.Read(b)
		info, err := x.n.Blobs().ImportBytes(t.Context(), b)
		require.NoError(t, err)
		all = append(all, info.Hash)
		require.Equal(
			t, 1, x.write(t, x.secret, replica.Change{Key: []byte("k"), Hash: info.Hash, Size: info.Size}),
		)
	}
	eventually(t, "most of it is gone", func() bool { return stored() <= 1+limit/size+1 })
	has, err := x.n.Blobs().Has(t.Context(), all[len(all)-1])
	require.NoError(t, err)
	require.True(t, has, "what an entry names stays")
}

// A claim of a size that has turned out to be wrong is not charged any more.
func TestRefutedClaimsAreNotCharged(t *testing.T) {
	x := newShop(t, Limits{Bytes: 4 << 20, Replicas: 2, Grace: time.Hour}, limits.Config{})
	id := x.secret.Replica()
	h := blobs.HashOf([]byte("content"))
	require.Equal(t, 1, x.write(t, x.secret, replica.Change{Key: []byte("k"), Hash: h, Size: 3 << 20}))
	_, u := x.state(t, x.who, id)
	require.Greater(t, u.Bytes, uint64(3<<20))
	refute := func(size uint64) {
		e := &replica.Entry{Replica: id, Author: x.author.Author(), Key: []byte("k"), Hash: h, Size: size}
		require.NoError(t, x.n.Store().Update(t.Context(), func(tx kv.Txn) error {
			return x.reg.Refute(tx, e)
		}))
	}
	refute(2 << 20)
	_, same := x.state(t, x.who, id)
	require.Equal(t, u, same, "another claim")
	for range 2 {
		refute(3 << 20)
		_, u = x.state(t, x.who, id)
		require.Less(t, u.Bytes, uint64(8<<10), "its records are left")
		require.Positive(t, u.Bytes)
	}
	require.Equal(t, 1, x.write(t, x.secret, replica.Change{Key: []byte("k"), Hash: h, Size: 7}))
	_, u = x.state(t, x.who, id)
	require.Less(t, u.Bytes, uint64(8<<10))
}
