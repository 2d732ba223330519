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

// Strangers do not tell people that their clock is wrong, however many there are: who writes is
// shown what peers with a name or a history say, or nothing. Who asks about the clock is shown what
// strangers say only if nobody else is there.
func TestStrangersDoNotSetClocks(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx := context.Background()
		w := newSimWorld(t, 1)
		w.found(replica.Write)
		n := w.nodes[0]
		join := func(name peer.ID, ahead time.Duration) peer.ID {
			m := w.End(name)
			require.NoError(t, m.Start(func(peer.ID, bool) {}))
			m.Handle(clock.Protocol, func(s link.Stream) {
				at := time.Now().Add(ahead).UnixMilli()
				_, _ = s.Write(binary.BigEndian.AppendUint64(nil, uint64(at)))
				_ = s.Close()
			})
			require.NoError(t, n.end.Connect(ctx, peer.AddrInfo{ID: m.ID()}))
			return m.ID()
		}
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
