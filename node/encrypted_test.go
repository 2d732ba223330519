package node_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/node"
	"github.com/skerry-sync/skerry/node/wanted"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/replica/seal"
	"github.com/skerry-sync/skerry/ticket"
)

// setSealed sets a key of an encrypted replica.
func setSealed(t testing.TB, n *node.Node, id replica.ID, key, value string) {
	t.Helper()
	_, err := n.ReplicaOf(id).Set(t.Context(), []byte(key), []byte(value))
	require.NoError(t, err)
}

// A download policy by prefixes, and a session for a prefix, follow an encrypted replica through
// its epochs.
func TestPrefixesOfAnEncryptedReplica(t *testing.T) {
	ctx := t.Context()
	a, _ := start(t, t.TempDir())
	b, _ := start(t, t.TempDir())
	c, _ := start(t, t.TempDir())
	r, err := a.CreateReplica(ctx, "r", true)
	require.NoError(t, err)
	setSealed(t, a, r.ID, "photos/1", "a photo")
	setSealed(t, a, r.ID, "notes/1", "a note")
	tk, err := a.Ticket(ctx, r, replica.Write)
	require.NoError(t, err)
	below := func(prefix string) node.JoinOptions {
		return node.JoinOptions{Policy: &wanted.Policy{Prefixes: [][]byte{[]byte(prefix)}}}
	}
	_, err = b.JoinWith(ctx, tk, "r", below("pho"))
	require.ErrorIs(t, err, seal.ErrName)
	_, err = b.JoinWith(ctx, tk, "r", below("photos/"))
	require.NoError(t, err)
	state := func(key string) wanted.State {
		p, err := b.ReplicaStore().Plain(ctx, r.ID)
		require.NoError(t, err)
		it, err := p.LatestOf(ctx, []byte(key))
		if err != nil {
			return wanted.Missing
		}
		st, err := b.ContentState(ctx, it.Entry.Hash, it.Entry.Size)
		require.NoError(t, err)
		return st
	}
	eventually(t, "the photo", func() bool { return state("photos/1") == wanted.Complete })
	_, err = a.Rotate(ctx, r.ID)
	require.NoError(t, err)
	setSealed(t, a, r.ID, "notes/2", "a later note")
	setSealed(t, a, r.ID, "photos/2", "a later photo")
	eventually(t, "the later photo", func() bool { return state("photos/2") == wanted.Complete })
	require.Equal(t, wanted.Missing, state("notes/1"))
	require.Equal(t, wanted.Missing, state("notes/2"))
	require.Len(t, b.Policy(r.ID).Sealed, 2, "one for each epoch")

	// Only the photos of both epochs come to c.
	held, err := c.ReplicaStore().Join(ctx, r, tk.ReadKey)
	require.NoError(t, err)
	present, err := a.ReplicaStore().ReadKey(ctx, r.ID)
	require.NoError(t, err)
	_, err = c.ReplicaStore().Join(ctx, held, present)
	require.NoError(t, err)
	require.NoError(t, c.Remember(ctx, []replica.ID{r.ID}, infoOf(t, a)))
	p, err := c.ReplicaStore().Plain(ctx, r.ID)
	require.NoError(t, err)
	prefixes, err := p.SealPrefix([]byte("photos/"))
	require.NoError(t, err)
	require.Len(t, prefixes, 2)
	for _, prefix := range prefixes {
		_, err := c.SyncNow(ctx, r.ID, a.ID(), prefix)
		require.NoError(t, err)
	}
	var got []string
	for it, err := range p.Latest(ctx, replica.Query{}) {
		require.NoError(t, err)
		got = append(got, string(it.Key))
	}
	require.Contains(t, got, "photos/1")
	require.Contains(t, got, "photos/2")
}

// A ticket to sync an encrypted replica tells that it is encrypted, and which epoch is the newest:
// whoever joins need not believe a host that shows none.
func TestJoinersToSyncKnowTheNewestEpoch(t *testing.T) {
	a, _ := start(t, t.TempDir())
	r, err := a.ReplicaStore().CreateEncrypted(t.Context(), "letters")
	require.NoError(t, err)
	_, err = a.ReplicaStore().Rotate(t.Context(), r.ID)
	require.NoError(t, err)
	newest, err := a.ReplicaStore().NewestEpoch(t.Context(), r.ID)
	require.NoError(t, err)
	require.EqualValues(t, 2, newest.Number)
	r, err = a.ReplicaStore().Get(t.Context(), r.ID)
	require.NoError(t, err)
	tk, err := a.Ticket(t.Context(), r, replica.Sync)
	require.NoError(t, err)
	text, err := tk.Text()
	require.NoError(t, err)
	back, err := ticket.ParseDoc(text)
	require.NoError(t, err)
	require.Equal(t, newest, back.Least)
	back.Addrs = nil // the host shows nothing

	b, _ := start(t, t.TempDir())
	_, err = b.Join(t.Context(), back, "r")
	require.Error(t, err, "there is nobody to sync with")
	held, err := b.ReplicaStore().Get(t.Context(), r.ID)
	require.NoError(t, err)
	require.True(t, held.Encrypted)
	require.Equal(t, newest, held.Least)
	again, err := b.Ticket(t.Context(), held, replica.Sync)
	require.NoError(t, err)
	require.Equal(t, newest, again.Least, "and passes it on")
}

// A ticket that somebody else brings gives as much as one that is joined: the read key, and which
// epoch is the newest.
func TestKeptWithTheReadKey(t *testing.T) {
	a, _ := start(t, t.TempDir())
	r, err := a.ReplicaStore().CreateEncrypted(t.Context(), "letters")
	require.NoError(t, err)
	_, err = a.ReplicaStore().Rotate(t.Context(), r.ID)
	require.NoError(t, err)
	key, err := a.ReplicaStore().ReadKey(t.Context(), r.ID)
	require.NoError(t, err)
	r, err = a.ReplicaStore().Get(t.Context(), r.ID)
	require.NoError(t, err)
	for _, c := range []replica.Capability{replica.Read, replica.Write} {
		tk, err := a.Ticket(t.Context(), r, c)
		require.NoError(t, err)
		b, _ := start(t, t.TempDir())
		_, err = b.Keep(t.Context(), tk, "r")
		require.NoError(t, err)
		held, err := b.ReplicaStore().Get(t.Context(), r.ID)
		require.NoError(t, err)
		require.True(t, held.Encrypted)
		require.Equal(t, c, held.Capability)
		require.Equal(t, key.ID(), held.Least)
		require.NoError(t, b.Remember(t.Context(), []replica.ID{r.ID}, infoOf(t, a)))
		_, err = b.SyncNow(t.Context(), r.ID, a.ID(), nil)
		require.NoError(t, err)
		had, err := b.ReplicaStore().ReadKey(t.Context(), r.ID)
		require.NoError(t, err)
		require.Equal(t, key, had)
	}
}

// Values of an encrypted replica that are written together are stored together, and read back,
// whatever their sizes.
func TestSealedBatch(t *testing.T) {
	ctx := t.Context()
	a, _ := start(t, t.TempDir())
	r, err := a.CreateReplica(ctx, "r", true)
	require.NoError(t, err)
	largest := blobs.SegmentSize - int(seal.SealedSize(blobs.SegmentSize)-blobs.SegmentSize)
	sizes := []int{1, 1000, blobs.InlineSize, 5000, largest, largest + 1, blobs.SegmentSize + 1}
	told := uint64(0)
	b, err := a.ReplicaOf(r.ID).Batch(ctx, node.WriteOptions{Progress: func(n uint64) { told = n }})
	require.NoError(t, err)
	defer b.Close()
	for i, size := range sizes {
		value := testkit.Random(uint64(i), size)
		require.NoError(t, b.Add(node.Change{Key: []byte{'a' + byte(i)}, Value: value}))
		require.EqualValues(t, size, told)
	}
	_, err = b.Commit()
	require.NoError(t, err)
	for i, size := range sizes {
		got, err := a.ReplicaOf(r.ID).Get(ctx, []byte{'a' + byte(i)}, 1<<20)
		require.NoError(t, err)
		require.True(t, bytes.Equal(testkit.Random(uint64(i), size), got), size)
	}
}
