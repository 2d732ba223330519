package node

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/internal/fault"
	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/kv/pebble"
	"github.com/skerry-sync/skerry/node/content/wire"
	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/node/session"
	"github.com/skerry-sync/skerry/node/simnet"
	"github.com/skerry-sync/skerry/node/wanted"
	"github.com/skerry-sync/skerry/replica"
)

// faulty is a network whose streams of one protocol make whoever reads or writes them panic, as a
// mistake in what handles a peer's bytes would.
type faulty struct {
	*simnet.End
	f *faults
}

type faults struct {
	protocol string // of streams; "connect" has dials panic
	after    int64  // reads and writes that go well first
	on       atomic.Bool
	count    atomic.Int64
}

func (f *faults) strike() {
	f.count.Add(1)
	panic("a fault over a peer's bytes")
}

func (e faulty) Connect(ctx context.Context, p peer.AddrInfo) error {
	if e.f.on.Load() && e.f.protocol == "connect" {
		e.f.strike()
	}
	return e.End.Connect(ctx, p)
}

func (e faulty) Open(ctx context.Context, p peer.ID, protocol string) (link.Stream, error) {
	s, err := e.End.Open(ctx, p, protocol)
	if err == nil && e.f.on.Load() && protocol == e.f.protocol {
		x := &faultyStream{Stream: s, f: e.f}
		x.left.Store(e.f.after)
		return x, nil
	}
	return s, err
}

type faultyStream struct {
	link.Stream
	f    *faults
	left atomic.Int64
}

func (s *faultyStream) Read(p []byte) (int, error) {
	if s.left.Add(-1) < 0 {
		s.f.strike()
	}
	return s.Stream.Read(p)
}

func (s *faultyStream) Write(p []byte) (int, error) {
	if s.left.Add(-1) < 0 {
		s.f.strike()
	}
	return s.Stream.Write(p)
}

// lockedBuffer takes what several goroutines write.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) count(what string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Count(l.b.Bytes(), []byte(what))
}

// A fault over a peer's bytes in what this node itself began costs the session, fetch or push at
// hand. The node goes on, says where the fault was, and catches up when there are no faults any
// more.
func TestFaultOfOutgoingWorkCostsItAlone(t *testing.T) {
	testkit.SeenElsewhere(t)
	for _, c := range []struct {
		protocol string
		after    int64
	}{
		{"connect", 0}, {session.Protocol, 0}, {session.Protocol, 1}, {session.Protocol, 3},
		{session.Protocol, 5},
		{session.OverviewProtocol, 0}, {session.OverviewProtocol, 2}, {wire.Protocol, 0}, {wire.Protocol, 1}, {wire.Protocol, 4},
		{session.PushProtocol, 0},
	} {
		t.Run(fmt.Sprint(c.protocol, " ", c.after), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				ctx := context.Background()
				w := newClaimWorld(t)
				defer w.close()
				require.NoError(t, w.fresh.Close())
				var log lockedBuffer
				var err error
				w.fresh.Node, err = Open(ctx, Config{Dir: w.fresh.dir, Store: pebble.Options{FS: w.fresh.disk},
					Now: time.Now, Log: slog.New(slog.NewTextHandler(&log, nil))})
				require.NoError(t, err)
				f := &faults{protocol: c.protocol, after: c.after}
				f.on.Store(true)
				require.NoError(t, w.fresh.GoOnline(faulty{w.End(w.fresh.ID()), f}))
				large := w.blob(3 << 20)
				e := w.put(w.victim, "large", large.Hash, large.Size)
				small := w.blob(9_000)
				w.put(w.victim, "small", small.Hash, small.Size)
				w.join(wanted.Policy{})
				for i := range 20 {
					time.Sleep(time.Minute)
					_, err := w.fresh.SyncNow(ctx, w.replica.ID, "", nil)
					require.NoError(t, err)
					// what the other writes comes by push; this node passes on its own
					if c.protocol == session.PushProtocol {
						w.clock++
						own := replica.Entry{Replica: w.replica.ID, Key: fmt.Append(nil, "here", i),
							Timestamp: w.clock, Hash: small.Hash, Size: small.Size}
						own.Sign(w.victim)
						_, err := w.fresh.replicas.Insert(ctx, w.replica.ID, []replica.Entry{own}, replica.Local)
						require.NoError(t, err)
					}
				}
				require.Positive(t, f.count.Load(), "there were faults")
				require.Positive(t, log.count("fault in skerry itself"))
				require.Positive(t, log.count("outgoing_fault_test.go"), "with the stack")
				require.LessOrEqual(t, log.count("outgoing_fault_test.go"), 4*int(f.count.Load()), "once each")

				f.on.Store(false)
				time.Sleep(time.Hour)
				require.Equal(t, "complete", w.contentOf(&e))
				var unexpected *fault.Error
				got, err := w.fresh.SyncNow(ctx, w.replica.ID, "", nil)
				require.NoError(t, err)
				for _, r := range got {
					require.NoError(t, r.Err)
					require.NotErrorAs(t, r.Err, &unexpected)
				}
			})
		})
	}
}
