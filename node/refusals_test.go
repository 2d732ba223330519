package node

import (
	"context"
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/replica"
)

func numbered(i int) (h blobs.Hash) {
	binary.BigEndian.PutUint64(h[:], uint64(i))
	return h
}

// Any number of peers can say that they lack any amount of content. Little of it is remembered.
func TestRefusalsAreBounded(t *testing.T) {
	r, now := newRefusals(), time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	r.most, r.mostAll = 100, 1000
	remembered := func() (n int) {
		for _, all := range r.of {
			n += len(all)
		}
		require.Equal(t, n, r.total)
		return n
	}
	for i := range 300 {
		for p := range 40 {
			r.note(peer.ID(fmt.Sprint(p)), numbered(i), now)
			require.LessOrEqual(t, len(r.of[peer.ID(fmt.Sprint(p))]), r.most)
		}
		require.LessOrEqual(t, remembered(), r.mostAll)
	}
	require.Len(t, r.rounds, 40)

	const p = peer.ID("0")
	require.Equal(t, []byte(keyWanted), r.from(p, now))
	r.walked(p, []byte("nf1"), now)
	require.Equal(t, []byte("nf1"), r.from(p, now), "a round goes on where it was")
	now = now.Add(3 * time.Second)
	r.walked(p, nil, now)
	require.Nil(t, r.from(p, now), "it rests, for long after what took long")
	require.Equal(t, 3*roundShare*time.Second, r.untilDue(now, time.Hour))
	r.due(now, func(peer.ID) { t.Fatal("not yet") })
	now = now.Add(3 * roundShare * time.Second)
	var taken []peer.ID
	r.due(now, func(p peer.ID) { taken = append(taken, p) })
	require.Equal(t, []peer.ID{p}, taken)
	r.due(now, func(peer.ID) { t.Fatal("once") })
	require.Equal(t, []byte(keyWanted), r.from(p, now))
	require.NotNil(t, r.rounds[p], "the next round")
	for i := range r.most / 2 {
		r.note(p, numbered(i), now)
	}
	r.walked(p, nil, now.Add(time.Hour))
	now = now.Add(time.Hour)
	require.Equal(t, lastRefusal, r.untilDue(now, time.Hour))
	now = now.Add(lastRefusal)
	require.Equal(t, []byte(keyWanted), r.from(p, now))
	require.Nil(t, r.rounds[p], "so few can be remembered one by one")
	r.note(p, numbered(1), now)
	require.True(t, r.waits(p, numbered(1), now))
	require.False(t, r.waits(p, numbered(2), now))
	r.gave(p, numbered(1))
	require.False(t, r.waits(p, numbered(1), now))

	now = now.Add(lastRefusal + oldRefusal + 2*lastRefusal)
	r.prune(now)
	require.Zero(t, remembered())
	require.Empty(t, r.of)
	require.Empty(t, r.rounds)
}

// Entries that name content which is nowhere do not keep what comes after them from a peer that has
// it, though they are too many to remember.
func TestContentBehindMuchThatIsNowhere(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx := context.Background()
		s := newSimNet(1)
		honest, looking := simNodeOf(t, s), simNodeOf(t, s)
		looking.downloads.failed.most = 8
		r, err := honest.Replicas.Create(ctx, "r")
		require.NoError(t, err)
		author := replica.NewSecretKey()
		var changes []replica.Change
		for i := range downloadBatch + 100 { // before all others in the order of what is wanted
			changes = append(
				changes,
				replica.Change{Key: fmt.Appendf(nil, "nowhere %d", i), Hash: numbered(i + 1), Size: 5},
			)
		}
		_, err = honest.Replicas.Write(ctx, r.ID, author, changes)
		require.NoError(t, err)
		_, err = looking.Replicas.Join(ctx, r)
		require.NoError(t, err)
		require.NoError(t, looking.Remember(ctx, []replica.ID{r.ID}, []peer.AddrInfo{{ID: honest.ID()}}))
		time.Sleep(20 * time.Second)
		looking.downloads.mu.Lock()
		require.NotEmpty(t, looking.downloads.failed.rounds)
		looking.downloads.mu.Unlock()
		for i := range 3 {
			info, err := honest.Blobs.ImportBytes(ctx, fmt.Appendf(nil, "content %d", i))
			require.NoError(t, err)
			_, err = honest.Replicas.Write(
				ctx, r.ID, author,
				[]replica.Change{{Key: fmt.Appendf(nil, "here %d", i), Hash: info.Hash, Size: info.Size}},
			)
			require.NoError(t, err)
			time.Sleep(30 * time.Second)
			has, err := looking.Blobs.Has(ctx, info.Hash)
			require.NoError(t, err)
			require.True(t, has, i)
			looking.downloads.mu.Lock()
			require.LessOrEqual(t, looking.downloads.failed.total, 8)
			looking.downloads.mu.Unlock()
		}
	})
}
