package node

import (
	"context"
	"encoding/binary"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/node/clock"
	"github.com/skerry-sync/skerry/node/holders"
	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/replica"
)

// timeteller connects a node with a peer whose clock is ahead of the world's, and which does no
// more than tell it.
func (w *simWorld) timeteller(n *simNode, name peer.ID, ahead time.Duration) peer.ID {
	m := w.End(name)
	require.NoError(w.t, m.Start(func(peer.ID, bool) {}))
	m.Handle(clock.Protocol, func(s link.Stream) {
		at := time.Now().Add(ahead).UnixMilli()
		_, _ = s.Write(binary.BigEndian.AppendUint64(nil, uint64(at)))
		_ = s.Close()
	})
	require.NoError(w.t, n.end.Connect(context.Background(), peer.AddrInfo{ID: m.ID()}))
	return m.ID()
}

// Strangers do not tell people that their clock is wrong, however many there are: who writes is
// shown what peers with a name or a history say, or nothing. Who asks about the clock is shown what
// strangers say only if nobody else is there.
func TestStrangersDoNotSetClocks(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx := context.Background()
		w := newSimWorld(t, 1)
		w.found(replica.Write)
		n := w.nodes[0]
		join := func(name peer.ID, ahead time.Duration) peer.ID { return w.timeteller(n, name, ahead) }
		for _, name := range []peer.ID{"a", "b", "c", "d", "e"} {
			join("stranger "+name, time.Hour)
		}
		_, answered := n.RecentClockOffset(ctx)
		require.Zero(t, answered)
		ahead, answered := n.ClockOffset(ctx)
		require.Equal(t, 5, answered, "doctor asks whoever is there")
		require.Greater(t, ahead, time.Minute)

		friend := join("friend", -20*time.Minute)
		n.contacts.Note(replica.ID{1}, friend, holders.Known)
		for _, ask := range []func(context.Context) (time.Duration, int){
			n.RecentClockOffset, n.ClockOffset,
		} {
			ahead, answered = ask(ctx)
			require.Equal(t, 1, answered)
			require.Less(t, ahead, -10*time.Minute)
		}
		for _, n := range w.nodes {
			require.NoError(t, n.Close())
		}
	})
}

// Most of the known peers that are connected, and at least two, judge a clock; strangers and a
// single peer do not. Nobody waits for them, and once the clock is set, what they said is over.
func TestKnownPeersJudgeTheClock(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newSimWorld(t, 1)
		w.found(replica.Write)
		n := w.nodes[0]
		for _, other := range w.nodes[1:] {
			require.NoError(t, other.Close())
		}
		const skew = 3 * time.Hour
		n.skew.Store(int64(skew))
		friend := func(name peer.ID, ahead time.Duration) {
			n.contacts.Note(replica.ID{1}, w.timeteller(n, name, ahead), holders.Known)
		}
		for _, name := range []peer.ID{"a", "b", "c", "d", "e"} {
			w.timeteller(n, "stranger "+name, 0)
		}
		time.Sleep(time.Hour)
		require.Zero(t, n.JudgeClock(), "strangers were asked")

		friend("one", 0)
		time.Sleep(time.Minute)
		j := n.JudgeClock()
		require.Equal(t, clock.Judgement{Answered: 1, Off: 1, Ahead: j.Ahead}, j)
		require.False(t, j.Wrong(), "one peer decides")

		friend("two", 0)
		time.Sleep(time.Minute)
		j = n.JudgeClock()
		require.True(t, j.Wrong())
		require.False(t, j.Right())
		require.InDelta(t, -skew.Seconds(), j.Ahead.Seconds(), 10)

		friend("three", skew) // whose clock is wrong likewise
		friend("four", skew)
		time.Sleep(11 * time.Minute)
		j = n.JudgeClock()
		require.Equal(t, 4, j.Answered)
		require.False(t, j.Wrong(), "half of them decide")

		friend("five", 0)
		time.Sleep(11 * time.Minute)
		require.True(t, n.JudgeClock().Wrong())
		n.skew.Store(0)
		require.Zero(t, n.JudgeClock(), "the clock was set, and counts as wrong")
		time.Sleep(time.Minute)
		j = n.JudgeClock()
		require.False(t, j.Wrong())
		require.True(t, j.Right())
		require.Equal(t, 5, j.Answered)
		require.NoError(t, n.Close())
	})
}
