package downloads

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/node/wanted"
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
	require.Equal(t, wanted.First(), r.from(p, now))
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
	require.Equal(t, wanted.First(), r.from(p, now))
	require.NotNil(t, r.rounds[p], "the next round")
	for i := range r.most / 2 {
		r.note(p, numbered(i), now)
	}
	r.walked(p, nil, now.Add(time.Hour))
	now = now.Add(time.Hour)
	require.Equal(t, lastRefusal, r.untilDue(now, time.Hour))
	now = now.Add(lastRefusal)
	require.Equal(t, wanted.First(), r.from(p, now))
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
