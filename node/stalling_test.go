package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/kv/pebble"
	"github.com/skerry-sync/skerry/node/contacts"
	"github.com/skerry-sync/skerry/node/content"
	"github.com/skerry-sync/skerry/node/content/wire"
	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/node/session"
	"github.com/skerry-sync/skerry/node/simnet"
	"github.com/skerry-sync/skerry/replica"
)

// See package content: how long providers may bring less than stallBytes before others are asked
// as well, and after how many times as long they must have brought more; and package schedule: when
// what a slow one owes is taken over.
const (
	stallTime    = 5 * time.Second
	stallBytes   = 32 << 10
	manyLooks    = 3
	hedgeUnknown = time.Second
)

// These tests run on a clock that stands still while anything can go on. They tell the order of
// what happens: an honest peer's part must end while a hostile one still stalls.

// events is what happened, in order.
type events struct {
	mu  sync.Mutex
	all []string
}

func (e *events) add(what string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, what)
}

func (e *events) has(what string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, x := range e.all {
		if x == what {
			return true
		}
	}
	return false
}

// dribbles is the network of a node that answers a protocol one byte in 8 seconds, without end. It
// lets the first bytes that the node itself answers pass at once.
type dribbles struct {
	*simnet.End
	protocol string
	pass     int
	log      *events
}

func (e dribbles) Handle(protocol string, fn func(link.Stream)) {
	if protocol == e.protocol {
		honest := fn
		fn = func(s link.Stream) {
			e.log.add("stalls")
			defer e.log.add("let go")
			if e.pass > 0 {
				honest(&slowWrites{Stream: s, pass: e.pass, until: e.Context()})
				return
			}
			_, _ = s.Read(make([]byte, 1<<16)) // what it is asked
			for e.Context().Err() == nil {
				if _, err := s.Write([]byte{0}); err != nil {
					return
				}
				time.Sleep(8 * time.Second)
			}
		}
	}
	e.End.Handle(protocol, fn)
}

// Open does not begin anything: this one waits to be asked.
func (e dribbles) Open(_ context.Context, p peer.ID, _ string) (link.Stream, error) {
	return nil, &link.UnreachableError{Peer: p, Err: errors.New("not now")}
}

// slowWrites writes a byte in 8 seconds after the first ones.
type slowWrites struct {
	link.Stream
	pass  int
	until context.Context
}

func (s *slowWrites) Write(b []byte) (n int, err error) {
	k := min(s.pass, len(b))
	s.pass -= k
	if k > 0 {
		if n, err = s.Stream.Write(b[:k]); err != nil {
			return n, err
		}
	}
	for ; n < len(b); n++ {
		time.Sleep(8 * time.Second)
		if err := s.until.Err(); err != nil {
			return n, err
		}
		if _, err := s.Stream.Write(b[n : n+1]); err != nil {
			return n, err
		}
	}
	return n, nil
}

// SetWriteDeadline is ignored: this one has time.
func (s *slowWrites) SetWriteDeadline(time.Time) error { return nil }

func simOpen(t *testing.T) *Node {
	n, err := Open(
		context.Background(), Config{Dir: t.TempDir(), Store: pebble.Options{FS: vfs.NewCrashableMem()}},
	)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	return n
}

// syncOnce runs a session with a peer; the peer's own may come first.
func syncOnce(n *Node, p peer.ID, id replica.ID) error {
	for {
		if _, err := n.syncer.SyncWith(
			context.Background(), p, id, nil,
		); !errors.Is(err, contacts.ErrBusy) {
			return err
		}
	}
}

func simNodeOf(t *testing.T, s *simnet.Net) *Node {
	n := simOpen(t)
	require.NoError(t, n.GoOnline(s.End(n.ID())))
	return n
}

func dribblingNode(t *testing.T, s *simnet.Net, protocol string, pass int, log *events) *Node {
	n := simOpen(t)
	require.NoError(t, n.GoOnline(dribbles{s.End(n.ID()), protocol, pass, log}))
	return n
}

// simReplica makes a replica with one entry at a, with the content if it has any.
func simReplica(t *testing.T, a *Node, content []byte) replica.Replica {
	ctx := context.Background()
	r, err := a.replicas.Create(ctx, "r")
	require.NoError(t, err)
	change := replica.Change{Key: []byte("k"), Hash: blobs.Hash{1}, Size: 5}
	if len(content) > 0 {
		info, err := a.blobs.ImportBytes(ctx, content)
		require.NoError(t, err)
		change.Hash, change.Size = info.Hash, info.Size
	}
	_, err = a.replicas.Write(ctx, r.ID, replica.NewSecretKey(), []replica.Change{change})
	require.NoError(t, err)
	return r
}

func entriesOf(t *testing.T, n *Node, id replica.ID) uint64 {
	c, err := n.replicas.Counts(context.Background(), id)
	require.NoError(t, err)
	return c.Entries
}

// A stranger that answers greetings one byte at a time does not keep this node from syncing with
// the peer that a ticket names, and is reported.
func TestSyncsDespiteAStallingStranger(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx := context.Background()
		s, log := simnet.New(1), &events{}
		honest, looking := simNodeOf(t, s), simNodeOf(t, s)
		stranger := dribblingNode(t, s, session.Protocol, 0, log)
		r := simReplica(t, honest, nil)
		_, err := looking.replicas.Join(ctx, r)
		require.NoError(t, err)
		require.NoError(t, stranger.net.Connect(ctx, peer.AddrInfo{ID: looking.ID()}))
		time.Sleep(time.Second)
		require.True(t, log.has("stalls"), "the stranger is asked first")

		require.NoError(t, honest.net.Connect(ctx, peer.AddrInfo{ID: looking.ID()}))
		require.NoError(t, syncOnce(looking, honest.ID(), r.ID))
		require.False(t, log.has("let go"), "the honest peer waited for the stranger")
		require.EqualValues(t, 1, entriesOf(t, looking, r.ID))

		require.NoError(t, looking.Remember(ctx, []replica.ID{r.ID}, []peer.AddrInfo{{ID: honest.ID()}}))
		time.Sleep(time.Minute)
		began := time.Now()
		results, err := looking.SyncNow(ctx, r.ID, "", nil)
		require.NoError(t, err)
		require.Less(t, time.Since(began), session.GreetTime, "on a clock of its own")
		outcome := map[peer.ID]error{}
		for _, x := range results {
			outcome[x.Peer] = x.Err
		}
		require.Len(t, outcome, 2)
		require.NoError(t, outcome[honest.ID()])
		var unreachable *link.UnreachableError
		require.ErrorAs(t, outcome[stranger.ID()], &unreachable)
	})
}

// A peer that proves that it holds the replica and then drips keeps no other waiting, and its
// session ends.
func TestSyncsDespiteADrippingHolder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx := context.Background()
		s, log := simnet.New(1), &events{}
		honest, looking := simNodeOf(t, s), simNodeOf(t, s)
		dripping := dribblingNode(t, s, session.Protocol, 64+1, log)
		r := simReplica(t, honest, nil)
		for _, n := range []*Node{looking, dripping} {
			_, err := n.replicas.Join(ctx, r)
			require.NoError(t, err)
		}
		_, err := dripping.replicas.Write(
			ctx, r.ID, replica.NewSecretKey(),
			[]replica.Change{{Key: []byte("other"), Hash: blobs.Hash{2}, Size: 5}},
		)
		require.NoError(t, err)
		for _, n := range []*Node{honest, dripping} {
			require.NoError(t, looking.Remember(ctx, []replica.ID{r.ID}, []peer.AddrInfo{{ID: n.ID()}}))
		}
		require.NoError(t, looking.net.Connect(ctx, peer.AddrInfo{ID: dripping.ID()}))
		ended := make(chan error, 1)
		go func() {
			_, err := looking.syncer.SyncWith(ctx, dripping.ID(), r.ID, nil)
			log.add("slow session ended")
			ended <- err
		}()
		time.Sleep(500 * time.Millisecond)
		require.True(t, log.has("stalls"))
		require.NoError(t, looking.net.Connect(ctx, peer.AddrInfo{ID: honest.ID()}))
		require.NoError(t, syncOnce(looking, honest.ID(), r.ID))
		require.False(t, log.has("slow session ended"), "the honest peer waited for the slow one")
		require.NotZero(t, entriesOf(t, looking, r.ID))
		select {
		case err := <-ended:
			require.Error(t, err)
		case <-time.After(link.MaxCredit):
			t.Fatal("the session goes on for ever")
		}
	})
}

// A link of 1 KiB/s is no fault, nor is it the peer's if this node takes its time; a peer that
// drips is left.
func TestPace(t *testing.T) {
	bubble(t, func(t *testing.T) {
		read := func(every time.Duration, size int, local time.Duration, total int) error {
			ours, theirs := net.Pipe()
			var wg sync.WaitGroup
			defer wg.Wait()
			defer ours.Close()
			wg.Go(func() {
				defer theirs.Close()
				for {
					time.Sleep(every)
					if _, err := theirs.Write(make([]byte, size)); err != nil {
						return
					}
				}
			})
			s := link.Within(pipeStream{ours, "peer"}, idleTimeout).Paced()
			b := make([]byte, size)
			for got := 0; got < total; {
				n, err := s.Read(b)
				if got += n; err != nil {
					return err
				}
				time.Sleep(local)
			}
			return nil
		}
		require.NoError(t, read(time.Second, 1<<10, 0, 4<<20))
		require.NoError(t, read(25*time.Second, 25<<10, 0, 1<<20))
		require.NoError(t, read(time.Millisecond, 1, 10*time.Minute, 1000), "this node is slow")
		for _, size := range []int{1, 100, link.LeastRate * 7} {
			began := time.Now()
			require.ErrorIs(t, read(8*time.Second, size, 0, 1<<30), link.ErrSlow, size)
			require.Less(t, time.Since(began), 8*link.FirstCredit+time.Minute, size)
		}
	})
}

// Peers that know a replica's id and drip do not keep this node from syncing, in the background,
// with those that it knows, however many they are.
func TestDrippingNewcomersDoNotFillTheSchedule(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx := context.Background()
		s, log := simnet.New(1), &events{}
		// This one is honest, and waits to be asked.
		honest, looking := dribblingNode(t, s, "", 0, log), simNodeOf(t, s)
		r := simReplica(t, honest, nil)
		_, err := looking.replicas.Join(ctx, r)
		require.NoError(t, err)
		for range 3 * 8 {
			n := dribblingNode(t, s, session.Protocol, 0, log)
			require.NoError(t, n.net.Connect(ctx, peer.AddrInfo{ID: looking.ID()}))
			time.Sleep(time.Second)
			looking.contacts.Shares(n.ID(), r.ID)
			differ := map[replica.ID]bool{r.ID: true}
			looking.contacts.Compared(n.ID(), []replica.ID{r.ID}, differ, nil, true)
		}
		time.Sleep(time.Second)
		require.True(t, log.has("stalls"))
		require.NoError(t, looking.Remember(ctx, []replica.ID{r.ID}, []peer.AddrInfo{{ID: honest.ID()}}))
		time.Sleep(30 * time.Second) // it is dialled, compared with, and synced
		require.EqualValues(t, 1, entriesOf(t, looking, r.ID))
	})
}

// A holder that drips content holds up neither what comes by itself nor what a person fetches:
// others that have it are asked as well.
func TestFetchesDespiteADrippingProvider(t *testing.T) {
	for _, background := range []bool{true, false} {
		t.Run(fmt.Sprintf("background=%v", background), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				ctx := context.Background()
				s, log := simnet.New(1), &events{}
				honest, looking := simNodeOf(t, s), simNodeOf(t, s)
				dripping := dribblingNode(t, s, wire.Protocol, 0, log)
				r := simReplica(t, honest, make([]byte, 100<<10))
				e, err := honest.replicas.LatestOf(ctx, r.ID, []byte("k"))
				require.NoError(t, err)
				if background {
					_, err := dripping.replicas.Join(ctx, r)
					require.NoError(t, err)
					require.NoError(
						t, honest.Remember(ctx, []replica.ID{r.ID}, []peer.AddrInfo{{ID: dripping.ID()}}),
					)
					time.Sleep(time.Minute)
					_, err = looking.replicas.Join(ctx, r)
					require.NoError(t, err)
					require.NoError(
						t, looking.Remember(ctx, []replica.ID{r.ID}, []peer.AddrInfo{{ID: dripping.ID()}}),
					)
					for !log.has("stalls") {
						time.Sleep(time.Second)
					}
					require.NoError(
						t, looking.Remember(ctx, []replica.ID{r.ID}, []peer.AddrInfo{{ID: honest.ID()}}),
					)
					time.Sleep(2*stallTime + hedgeUnknown + 2*time.Second)
				} else {
					require.NoError(t, looking.net.Connect(ctx, peer.AddrInfo{ID: honest.ID()}))
					limited, cancel := context.WithTimeout(ctx, 2*stallTime+hedgeUnknown)
					_, err := looking.Get(limited, e.Hash, content.Raw, []peer.AddrInfo{{ID: dripping.ID()}}, nil)
					cancel()
					require.NoError(t, err)
				}
				has, err := looking.blobs.Has(ctx, e.Hash)
				require.NoError(t, err)
				require.True(t, has)
			})
		})
	}
}

// trickles is the network of a node that gives content slowly, but a little faster than what counts
// as nothing.
type trickles struct {
	*simnet.End
	log *events
}

func (e trickles) Handle(protocol string, fn func(link.Stream)) {
	if protocol == wire.Protocol {
		honest := fn
		fn = func(s link.Stream) {
			e.log.add("trickles")
			honest(&slowStream{Stream: s, until: e.Context()})
		}
	}
	e.End.Handle(protocol, fn)
}

type slowStream struct {
	link.Stream
	until context.Context
}

func (s *slowStream) Write(b []byte) (n int, err error) {
	const piece = 2 * stallBytes / int(stallTime/time.Second) // each second
	for n < len(b) && err == nil {
		time.Sleep(time.Second)
		var k int
		if err = s.until.Err(); err == nil {
			k, err = s.Stream.Write(b[n:min(len(b), n+piece)])
		}
		n += k
	}
	return n, err
}

// SetWriteDeadline is ignored: this one has time.
func (s *slowStream) SetWriteDeadline(time.Time) error { return nil }

// A holder that gives what it is asked for so slowly that it takes hours, but not so slowly that it
// counts as nothing, does not keep it from those who ask others, either.
func TestFetchesDespiteATricklingProvider(t *testing.T) {
	for _, background := range []bool{true, false} {
		t.Run(fmt.Sprintf("background=%v", background), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				ctx := context.Background()
				s, log := simnet.New(1), &events{}
				honest, looking, trickling := simNodeOf(t, s), simNodeOf(t, s), simOpen(t)
				require.NoError(t, trickling.GoOnline(trickles{s.End(trickling.ID()), log}))
				value := make([]byte, 3<<20)
				r := simReplica(t, honest, value)
				_, err := trickling.blobs.ImportBytes(ctx, value)
				require.NoError(t, err)
				e, err := honest.replicas.LatestOf(ctx, r.ID, []byte("k"))
				require.NoError(t, err)
				const enough = (manyLooks + 1) * stallTime
				if background {
					_, err := trickling.replicas.Join(ctx, r)
					require.NoError(t, err)
					require.NoError(
						t,
						honest.Remember(ctx, []replica.ID{r.ID}, []peer.AddrInfo{{ID: trickling.ID()}}),
					)
					time.Sleep(time.Minute)
					_, err = looking.replicas.Join(ctx, r)
					require.NoError(t, err)
					require.NoError(
						t,
						looking.Remember(ctx, []replica.ID{r.ID}, []peer.AddrInfo{{ID: trickling.ID()}}),
					)
					for !log.has("trickles") {
						time.Sleep(time.Second)
					}
					require.NoError(
						t,
						looking.Remember(ctx, []replica.ID{r.ID}, []peer.AddrInfo{{ID: honest.ID()}}),
					)
					time.Sleep(enough + hedgeUnknown + 2*time.Second)
				} else {
					require.NoError(t, looking.net.Connect(ctx, peer.AddrInfo{ID: honest.ID()}))
					limited, cancel := context.WithTimeout(ctx, enough+hedgeUnknown)
					_, err := looking.Get(limited, e.Hash, content.Raw, []peer.AddrInfo{{ID: trickling.ID()}}, nil)
					cancel()
					require.NoError(t, err)
				}
				has, err := looking.blobs.Has(ctx, e.Hash)
				require.NoError(t, err)
				require.True(t, has)
			})
		})
	}
}
