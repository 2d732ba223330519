package node

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"
	"lukechampine.com/blake3"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/blobs/chunked"
	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/node/content/wire"
	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/replica"
)

func numbered(i int) (h blobs.Hash) {
	binary.BigEndian.PutUint64(h[:], uint64(i))
	return h
}

// Any number of peers can say that they lack any amount of content. Little of it is remembered.
func TestRefusalsAreBounded(t *testing.T) {
	r, now := newRefusals(), time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	r.most, r.mostAll, r.least = 100, 1000, 2
	remembered := func() (n int) {
		for _, all := range r.of {
			n += len(all.by)
		}
		require.Equal(t, n, r.total)
		return n
	}
	for i := range 300 {
		for p := range 40 {
			r.note(peer.ID(fmt.Sprint(p)), numbered(i), now)
			if all := r.of[peer.ID(fmt.Sprint(p))]; all != nil {
				require.LessOrEqual(t, len(all.by), r.most)
			}
		}
		require.LessOrEqual(t, remembered(), r.mostAll+40*r.least)
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

// Others that lack much do not push a peer that lacks little into rounds.
func TestEachPeerHasRefusalsOfItsOwn(t *testing.T) {
	r, now := newRefusals(), time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	r.mostAll = 1000
	for i := range r.mostAll {
		r.note("crowd", numbered(i), now)
	}
	for i := range leastRefusals {
		r.note("p", numbered(i), now)
		require.True(t, r.waits("p", numbered(i), now))
	}
	require.Empty(t, r.rounds)
	r.note("p", numbered(leastRefusals), now)
	require.NotNil(t, r.rounds["p"])
}

// Each refusal is due once, and the timer is set for the next one.
func TestRefusalsAreDue(t *testing.T) {
	r, now := newRefusals(), time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	due := func() (out []peer.ID) {
		r.due(now, func(p peer.ID) { out = append(out, p) })
		return out
	}
	require.Equal(t, time.Hour, r.untilDue(now, time.Hour))
	r.note("p", numbered(1), now)
	now = now.Add(firstRefusal / 2)
	r.note("p", numbered(2), now)
	require.Equal(t, firstRefusal/2, r.untilDue(now, time.Hour))
	require.Empty(t, due())
	now = now.Add(firstRefusal / 2)
	require.Equal(t, []peer.ID{"p"}, due())
	require.Empty(t, due())
	require.Equal(t, firstRefusal/2, r.untilDue(now, time.Hour))
	r.note("p", numbered(1), now) // it lacks it still
	now = now.Add(firstRefusal / 2)
	require.Equal(t, []peer.ID{"p"}, due())
	require.Equal(t, 3*firstRefusal/2, r.untilDue(now, time.Hour))
	r.gave("p", numbered(1))
	now = now.Add(3 * firstRefusal / 2)
	require.Empty(t, due(), "it has come")
	require.Equal(t, time.Hour, r.untilDue(now, time.Hour))

	for range 20 {
		r.broke("p", now)
	}
	require.Equal(t, lastBroken, r.untilDue(now, time.Hour))
	require.Empty(t, due())
	now = now.Add(lastBroken)
	require.Equal(t, []peer.ID{"p"}, due())
	require.Empty(t, due())
	r.worked("p")
	r.broke("p", now)
	require.Equal(t, firstRefusal, r.untilDue(now, time.Hour))
}

// A stream that breaks in the middle of a round does not end the round.
func TestRoundsGoOnAfterAFailedFetch(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx := context.Background()
		s := newSimNet(1)
		honest, looking := simNodeOf(t, s), simNodeOf(t, s)
		looking.downloads.failed.most, looking.downloads.failed.least = 8, 8
		r, err := honest.Replicas.Create(ctx, "r")
		require.NoError(t, err)
		author := replica.NewSecretKey()
		var changes []replica.Change
		var last blobs.Hash // of what is here, in the order of what is wanted
		for i := range 3 * downloadBatch {
			c := replica.Change{Key: fmt.Appendf(nil, "%d", i), Hash: numbered(i + 1), Size: 5}
			if i < downloadBatch {
				info, err := honest.Blobs.ImportBytes(ctx, fmt.Appendf(nil, "content %d", i))
				require.NoError(t, err)
				c.Hash, c.Size = info.Hash, info.Size
				if bytes.Compare(info.Hash[:], last[:]) > 0 {
					last = info.Hash
				}
			}
			changes = append(changes, c)
		}
		_, err = honest.Replicas.Write(ctx, r.ID, author, changes)
		require.NoError(t, err)
		s.mu.Lock()
		serve, opened := s.ends[honest.ID()].handlers[wire.Protocol], new(atomic.Int32)
		s.ends[honest.ID()].handlers[wire.Protocol] = func(st link.Stream) {
			if opened.Add(1) == 2 {
				_ = st.Reset()
				return
			}
			serve(st)
		}
		s.mu.Unlock()
		_, err = looking.Replicas.Join(ctx, r)
		require.NoError(t, err)
		require.NoError(t, looking.Remember(ctx, []replica.ID{r.ID}, []peer.AddrInfo{{ID: honest.ID()}}))
		time.Sleep(30 * time.Second)
		require.Greater(t, opened.Load(), int32(2))
		has, err := looking.Blobs.Has(ctx, last)
		require.NoError(t, err)
		require.True(t, has)
	})
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

// A peer that lacks very much gives files in chunks all the same: that it lacks their neighbours in
// the order of what is wanted does not keep their chunks from being asked for.
func TestFilesInChunksComeFromWhoLacksMuch(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx := context.Background()
		s := newSimNet(1)
		honest, looking := simNodeOf(t, s), simNodeOf(t, s)
		looking.downloads.failed.most = 8
		r, err := honest.Replicas.Create(ctx, "r")
		require.NoError(t, err)
		var changes []replica.Change
		for i := range 300 {
			h := blake3.Sum256(fmt.Append(nil, "nowhere ", i))
			changes = append(changes, replica.Change{
				Key: fmt.Appendf(nil, "nowhere %d", i), Hash: h, Size: 5,
			})
		}
		var files []chunked.File
		for i := range 3 {
			content := testkit.Random(i, 5<<20)
			c, err := chunked.Import(ctx, honest.Blobs, bytes.NewReader(content), nil)
			require.NoError(t, err)
			files = append(files, c)
			changes = append(changes, replica.Change{
				Key: fmt.Appendf(nil, "film %d", i), Hash: c.Hash, Size: c.Size,
			})
		}
		_, err = honest.Replicas.Write(ctx, r.ID, replica.NewSecretKey(), changes)
		require.NoError(t, err)
		_, err = looking.Replicas.Join(ctx, r)
		require.NoError(t, err)
		peers := []peer.AddrInfo{{ID: honest.ID()}}
		require.NoError(t, looking.Remember(ctx, []replica.ID{r.ID}, peers))
		time.Sleep(5 * time.Minute)
		looking.downloads.mu.Lock()
		require.NotEmpty(t, looking.downloads.failed.rounds)
		looking.downloads.mu.Unlock()
		for i, c := range files {
			state, err := looking.ContentState(ctx, c.Hash, c.Size)
			require.NoError(t, err)
			require.Equal(t, ContentComplete, state, i)
		}
	})
}
