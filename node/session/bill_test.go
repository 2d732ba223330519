package session

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/internal/testkit"
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

// askInSession runs a session with host, as asker, in which it
// asks some questions, of which all answers are to be empty.
func askInSession(
	t *testing.T, asker, host *world, id replica.ID, questions []byte,
) {
	ctx := context.Background()
	ours, theirs := net.Pipe()
	v, err := lobby().Enter(Protocol, admission.Party{Peer: asker.id})
	require.NoError(t, err)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer v.Leave()
		host.ServeSync(link.NewGuest(pipeStream{theirs, asker.id}, v))
	}()
	s := pipeStream{ours, host.id}
	defer func() {
		_ = s.Close()
		<-ended
	}()
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
	g, err := asker.Syncer.greet(ctx, s, r, id, nil)
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
			testkit.Bubble(t, func(t *testing.T) {
				ctx := context.Background()
				host, asker := newWorld(t, time.Now), newWorld(t, time.Now)
				r, err := host.replicas.Create(ctx, "r")
				require.NoError(t, err)
				var changes []replica.Change
				for i := range entries - 1 {
					key := fmt.Appendf(nil, "%d", i)
					changes = append(changes, replica.Change{Key: key, Hash: blobs.Hash{1}, Size: 1})
				}
				_, err = host.replicas.Write(ctx, r.ID, replica.NewSecretKey(), changes)
				require.NoError(t, err)
				_, err = asker.replicas.Join(ctx, r)
				require.NoError(t, err)
				time.Sleep(time.Minute)
				const atOnce = 1_000_000
				host.cfg.Limits.Retune(func(f *limits.Figures) {
					f.Work = limits.Rate{PerSecond: 1e-9,
						AtOnce: atOnce}
				})
				askInSession(t, asker, host, r.ID, test.questions)
				time.Sleep(time.Minute)
				spent := atOnce - host.cfg.Limits.WorkLeft(asker.id)
				require.GreaterOrEqual(t, spent, float64(test.units-1))
				require.Less(t, spent, 2*float64(test.units))
			})
		})
	}
}

// What a session sends pays for its work, and who leaves a session that has to wait still has to
// pay.
func TestBillsArePaid(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		ctx := context.Background()
		l := limits.New(limits.Config{}, limits.DefaultFigures())
		v, err := lobby().Enter(Protocol, admission.Party{Peer: "p", Known: true, Named: true})
		require.NoError(t, err)
		defer v.Leave()
		l.Retune(func(f *limits.Figures) { f.Work = limits.Rate{PerSecond: 1, AtOnce: 1000} })
		b := &bill{limits: l, s: link.NewGuest(pipeStream{remote: "p"}, v)}
		w := b.payingBy(io.Discard)
		_, err = w.Write(make([]byte, 1000*limits.YieldOfUnit))
		require.NoError(t, err)
		b.halfs = 2 * 1500
		require.NoError(t, b.settle(ctx))
		require.InDelta(t, 500, l.WorkLeft("p"), 1)

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
