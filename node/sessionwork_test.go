package node

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/node/admission"
	"github.com/skerry-sync/skerry/node/limits"
	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/replica"
)

// Frames of a session; see package reconcile.
const (
	rangesFrame = 1
	doneFrame   = 3
)

// askInSession runs a session with a peer, as the node that has the identity of asker, in which it
// asks some questions, of which all answers are to be empty.
func askInSession(
	t *testing.T, asker *Node, net *simEnd, p peer.ID, id replica.ID, questions []byte,
) {
	ctx := context.Background()
	s, err := net.Open(ctx, p, syncProtocol)
	require.NoError(t, err)
	defer func() { _ = s.Reset() }()
	r := bufio.NewReader(s)
	said := func(kind byte) {
		got, err := r.ReadByte()
		require.NoError(t, err)
		require.Equal(t, kind, got)
		n, err := binary.ReadUvarint(r)
		require.NoError(t, err)
		_, err = io.CopyN(io.Discard, r, int64(n))
		require.NoError(t, err)
	}
	say := func(kind byte, payload []byte) {
		frame := binary.AppendUvarint([]byte{kind}, uint64(len(payload)))
		_, err := s.Write(append(frame, payload...))
		require.NoError(t, err)
	}
	g, err := asker.syncer.greet(ctx, s, r, id, nil)
	require.NoError(t, err)
	require.NoError(t, g.confirm(s))
	status, err := r.ReadByte()
	require.NoError(t, err)
	require.EqualValues(t, statusGoOn, status)
	if !g.sameStatements {
		say(doneFrame, nil)
		said(doneFrame)
	}
	say(rangesFrame, append([]byte{1, 0}, questions...)) // round, answered
	said(rangesFrame)
	say(doneFrame, nil)
	said(doneFrame)
}

// In a session, too, a few bytes may ask for much work. It counts as that of other requests does.
func TestSessionsCountTheirWork(t *testing.T) {
	const entries, lookups = 2_000, 4_096
	sendNothing := append([]byte{3, 0, 0, 0, 0, 1}, "unknown."...)
	fetch := binary.AppendUvarint([]byte{5, 0, 0}, lookups)
	fetch = append(fetch, make([]byte, 16*lookups)...)
	for _, test := range []struct {
		name      string
		questions []byte
		units     int
	}{
		{"items passed over", append(sendNothing, sendNothing...), 2 * entries / 2},
		{"lookups", fetch, lookups},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				ctx := context.Background()
				s := newSimNet(1)
				host, asker := simNodeOf(t, s), simOpen(t)
				net := s.end(asker.ID())
				require.NoError(t, net.Start(func(peer.ID, bool) {}))
				r := simReplica(t, host, nil)
				var changes []replica.Change
				for i := range entries - 1 {
					key := fmt.Appendf(nil, "%d", i)
					changes = append(changes, replica.Change{Key: key, Hash: blobs.Hash{1}, Size: 1})
				}
				_, err := host.Replicas.Write(ctx, r.ID, replica.NewSecretKey(), changes)
				require.NoError(t, err)
				_, err = asker.Replicas.Join(ctx, r)
				require.NoError(t, err)
				require.NoError(t, net.Connect(ctx, peer.AddrInfo{ID: host.ID()}))
				time.Sleep(time.Minute)
				const atOnce = 1_000_000
				host.limits.Retune(func(f *limits.Figures) { f.Work = limits.Rate{PerSecond: 1e-9, AtOnce: atOnce} })
				askInSession(t, asker, net, host.ID(), r.ID, test.questions)
				time.Sleep(time.Minute)
				spent := atOnce - host.limits.WorkLeft(asker.ID())
				require.GreaterOrEqual(t, spent, float64(test.units-1))
				require.Less(t, spent, 2*float64(test.units))
			})
		})
	}
}

// What a session sends pays for its work, and who leaves a session that has to wait still has to
// pay.
func TestBillsArePaid(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx := context.Background()
		n := simNodeOf(t, newSimNet(1))
		v, err := n.room.Enter(syncProtocol, admission.Party{Peer: "p", Known: true, Named: true})
		require.NoError(t, err)
		defer v.Leave()
		n.limits.Retune(func(f *limits.Figures) { f.Work = limits.Rate{PerSecond: 1, AtOnce: 1000} })
		b := &bill{limits: n.limits, s: link.NewGuest(pipeStream{remote: "p"}, v)}
		w := b.payingBy(io.Discard)
		_, err = w.Write(make([]byte, 1000*limits.YieldOfUnit))
		require.NoError(t, err)
		b.halfs = 2 * 1500
		require.NoError(t, b.settle(ctx))
		require.InDelta(t, 500, n.limits.WorkLeft("p"), 1)

		gone, cancel := context.WithCancel(ctx)
		cancel()
		b.halfs = 2 * 600
		require.ErrorIs(t, b.settle(gone), context.Canceled)
		start := time.Now()
		require.NoError(t, b.settle(ctx))
		require.InDelta(t, 100, time.Since(start).Seconds(), 1)
		require.Zero(t, b.halfs)
	})
}
