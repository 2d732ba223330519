package node

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/kv/pebble"
	"github.com/skerry-sync/skerry/node/admission"
	"github.com/skerry-sync/skerry/node/bundle"
	"github.com/skerry-sync/skerry/node/clock"
	"github.com/skerry-sync/skerry/node/content/wire"
	"github.com/skerry-sync/skerry/node/limits"
	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/node/session"
	"github.com/skerry-sync/skerry/node/simnet"
	"github.com/skerry-sync/skerry/replica"
)

// besieged is a node, with a friend that holds a replica in common with it, and any number of
// strangers.
type besieged struct {
	*simnet.Net
	t         *testing.T
	n, friend *Node
	known     *simnet.End // the friend's
}

const (
	testService = "/test/1"
	testRoom    = "/test/room/1"
)

// roomStreams bounds the streams of a room that takes a frame for a request, and answers it with a
// byte.
var roomStreams = admission.Shares{
	Strangers: admission.Share{Peer: 4, Net: 32, All: 256},
	Known:     admission.Share{Peer: 8, All: 256},
}

func answerRoom(_ context.Context, raw link.Stream) {
	s := link.Within(raw, idleTimeout).EndingIn(30 * time.Second)
	var size [4]byte
	_, err := io.ReadFull(s, size[:])
	if err == nil {
		err = link.VisitOf(s).Take(int(binary.BigEndian.Uint32(size[:])))
	}
	if err == nil {
		_, err = io.ReadFull(s, make([]byte, binary.BigEndian.Uint32(size[:])))
	}
	if err == nil {
		_, err = s.Write([]byte{1})
	}
	if err != nil {
		_ = s.Reset()
	}
	_ = s.Close()
}

// besiege starts both in a bubble, and ends them after f.
func besiege(t *testing.T, f func(t *testing.T, b *besieged)) {
	bubble(t, func(t *testing.T) {
		b := &besieged{Net: simnet.New(7), t: t}
		// takes nothing that is not read, so a reader who waits is felt at once
		b.Pipe = net.Pipe
		b.Delay = time.Microsecond // a thousand streams must be opened before the first has ended
		var ends []*simnet.End
		for _, n := range []**Node{&b.n, &b.friend} {
			var err error
			*n, err = Open(t.Context(), Config{Dir: t.TempDir(), Store: pebble.Options{FS: vfs.NewMem()}})
			require.NoError(t, err)
			(*n).Serve(testService, func(s link.Stream) {
				_, err := io.ReadFull(s, make([]byte, 1))
				if err == nil {
					_, err = s.Write([]byte{1})
				}
				if err != nil {
					_ = s.Reset()
				}
				_ = s.Close()
			})
			require.NoError(t, (*n).Add(Room{
				Name: "test", Protocol: testRoom, Handler: answerRoom, Streams: roomStreams,
			}))
			ends = append(ends, b.Net.End((*n).ID()))
			require.NoError(t, (*n).GoOnline(ends[len(ends)-1]))
		}
		b.known = ends[1]
		r, err := b.n.replicas.Create(t.Context(), "r")
		require.NoError(t, err)
		_, err = b.friend.replicas.Join(t.Context(), r)
		require.NoError(t, err)
		require.NoError(
			t, b.friend.Remember(t.Context(), []replica.ID{r.ID}, []peer.AddrInfo{{ID: b.n.ID()}}),
		)
		time.Sleep(time.Minute) // until the two know each other
		require.True(t, b.n.contacts.SharesAny(b.friend.ID()))
		f(t, b)
		require.NoError(t, b.n.Close())
		require.NoError(t, b.friend.Close())
	})
}

// stranger is an identity that has just been made, at an address.
func (b *besieged) stranger(name, net string) *simnet.End {
	e := b.Net.End(peer.ID(name))
	b.Place(e.ID(), net)
	require.NoError(b.t, e.Start(func(peer.ID, bool) {}))
	require.NoError(b.t, e.Connect(context.Background(), peer.AddrInfo{ID: b.n.ID()}))
	return e
}

func (b *besieged) open(e *simnet.End, protocol string) link.Stream {
	s, err := e.Open(context.Background(), b.n.ID(), protocol)
	require.NoError(b.t, err)
	return s
}

// want returns a request for all of some blobs.
func want(t *testing.T, hashes ...blobs.Hash) []byte {
	var reqs []wire.Request
	for _, h := range hashes {
		reqs = append(reqs, wire.Request{Hash: h, Ranges: blobs.Everything})
	}
	b, err := wire.AppendRequests(nil, false, reqs)
	require.NoError(t, err)
	return b
}

// get fetches a small blob as anybody may, and fails if it does not come within a time.
func (b *besieged) get(e *simnet.End, h blobs.Hash, content []byte, within time.Duration) error {
	s := b.open(e, wire.Protocol)
	defer s.Close()
	_ = s.SetReadDeadline(time.Now().Add(within))
	_ = s.SetWriteDeadline(time.Now().Add(within))
	if _, err := s.Write(want(b.t, h)); err != nil {
		return err
	}
	r := bufio.NewReader(s)
	head, err := wire.ReadHead(r)
	if err != nil {
		return err
	}
	require.EqualValues(b.t, wire.StatusHere, head.Status)
	got := make([]byte, len(content))
	_, err = io.ReadFull(r, got)
	require.Equal(b.t, content, got)
	return err
}

// drip writes something and then a byte every five seconds, as long as that succeeds.
func drip(s link.Stream, first []byte) {
	_, err := s.Write(first)
	for err == nil {
		time.Sleep(5 * time.Second)
		_, err = s.Write([]byte{0})
	}
	_ = s.Reset()
}

// pour writes something again and again, as long as that succeeds, and reads nothing.
func pour(s link.Stream, first, again []byte) {
	_, err := s.Write(first)
	for err == nil {
		_, err = s.Write(again)
	}
	_ = s.Reset()
}

// With any number of identities on several hosts, strangers make a node hold what their budget
// allows and no more, whichever protocol they open; and when their time is over, nothing is left.
func TestMemoryOfStrangers(t *testing.T) {
	testkit.SeenElsewhere(t)
	frame := func(kind byte, payload []byte) []byte {
		return append(binary.AppendUvarint([]byte{kind}, uint64(len(payload))), payload...)
	}
	tokens, questions := []byte(nil), []byte{1, 0}
	for i := range 4000 {
		tokens = append(append(tokens, 32), make([]byte, 24)...)
		tokens = binary.BigEndian.AppendUint64(tokens, uint64(i))
	}
	for range 9000 {
		questions = append(questions, 4, 0, 0, 0, 0) // list everything
	}
	for _, x := range []struct {
		protocol string
		run      func(b *besieged, s link.Stream, hash blobs.Hash)
		each     int64 // bytes that a stream holds; 0 if they fill the budget
	}{
		{session.OverviewProtocol, func(_ *besieged, s link.Stream, _ blobs.Hash) {
			_, err := s.Write(append([]byte{session.OverviewVersion}, make([]byte, 32)...))
			if err == nil {
				_, err = io.ReadFull(s, make([]byte, 32))
			}
			if err == nil {
				_, err = s.Write(make([]byte, 32))
			}
			if err == nil {
				_, err = io.ReadFull(s, make([]byte, 1))
			}
			if err != nil {
				_ = s.Reset()
				return
			}
			for _, f := range [][]byte{frame(1, questions[:7]), frame(2, tokens), frame(1, questions), {1}} {
				if err == nil {
					_, err = s.Write(f)
					time.Sleep(time.Millisecond) // the node answers the first question, and waits for its reader
				}
			}
			for err == nil { // a length that does not end
				time.Sleep(10 * time.Second)
				_, err = s.Write([]byte{0x80})
			}
			_ = s.Reset()
		}, 0},
		{wire.Protocol, func(b *besieged, s link.Stream, h blobs.Hash) {
			pour(s, nil, want(b.t, bytes2hashes(h, 4096)...))
		}, 0},
		{session.Protocol, func(_ *besieged, s link.Stream, _ blobs.Hash) {
			drip(s, []byte{session.Version})
		}, guestBytes},
		{session.PushProtocol, func(_ *besieged, s link.Stream, _ blobs.Hash) {
			drip(s, []byte{session.PushVersion})
		}, guestBytes},
		{session.HeldProtocol, func(_ *besieged, s link.Stream, _ blobs.Hash) {
			drip(s, []byte{session.HeldVersion})
		}, guestBytes},
		{testRoom, func(_ *besieged, s link.Stream, _ blobs.Hash) {
			drip(s, []byte{0, 1, 0, 0})
		}, guestBytes + 64<<10},
		{clock.Protocol, func(_ *besieged, s link.Stream, _ blobs.Hash) {
			time.Sleep(10 * time.Second)
			_ = s.Reset()
		}, guestBytes},
		{testService, func(_ *besieged, s link.Stream, _ blobs.Hash) {
			drip(s, nil)
		}, guestBytes + serviceBytes},
	} {
		t.Run(strings.ReplaceAll(x.protocol[1:], "/", " "), func(t *testing.T) {
			besiege(t, func(t *testing.T, b *besieged) {
				imported, err := b.n.blobs.ImportBytes(t.Context(), make([]byte, 4<<20))
				require.NoError(t, err)
				before := heapOf()
				share := services.Strangers
				if g, ok := guests[x.protocol]; ok {
					share = g.Strangers
				} else if x.protocol == testRoom {
					share = roomStreams.Strangers
				}
				const hosts, each = 4, 8
				streams := int(share.Peer) + 14
				var ended atomic.Int64
				for i := range hosts * each {
					e := b.stranger(fmt.Sprint("stranger ", i), fmt.Sprint("host ", i%hosts))
					for range streams {
						s := b.open(e, x.protocol)
						go func() {
							x.run(b, s, imported.Hash)
							ended.Add(1)
						}()
					}
				}
				time.Sleep(500 * time.Millisecond)
				synctest.Wait()
				held, _ := b.n.room.Held()
				require.LessOrEqual(t, held, budgets.Strangers.All)
				if x.each == 0 { // an eighth is kept for small answers
					require.Greater(t, held, budgets.Strangers.All*3/4)
				} else {
					require.GreaterOrEqual(t, held, x.each*min(share.All, hosts*min(share.Net, each*share.Peer)))
				}
				if !raceDetector {
					// What strangers hold, and the streams of this test itself.
					require.Less(t, int64(heapOf())-int64(before), budgets.Strangers.All+64*mebi)
				}
				if x.each > 0 {
					require.Positive(t, b.n.counters.refused.Load())
				}
				time.Sleep(2 * time.Minute)
				synctest.Wait()
				require.EqualValues(t, hosts*each*streams, ended.Load(), "no stream outlives its time")
				held, _ = b.n.room.Held()
				require.Zero(t, held)
			})
		})
	}
}

func bytes2hashes(h blobs.Hash, n int) []blobs.Hash {
	out := make([]blobs.Hash, n)
	for i := range out {
		out[i] = h
	}
	return out
}

func heapOf() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// Free identities that ask for much and read nothing keep nobody from a small answer: neither a
// known peer, nor a stranger at another address, nor one at the same.
func TestUnreadAnswersStarveNobody(t *testing.T) {
	besiege(t, func(t *testing.T, b *besieged) {
		large, err := b.n.blobs.ImportBytes(t.Context(), make([]byte, 4<<20))
		require.NoError(t, err)
		content := []byte("twelve bytes")
		small, err := b.n.blobs.ImportBytes(t.Context(), content)
		require.NoError(t, err)
		for i := range 20 {
			e := b.stranger(fmt.Sprint("greedy ", i), "here")
			for range 8 {
				s := b.open(e, wire.Protocol)
				go pour(s, want(t, large.Hash), want(t, large.Hash))
			}
		}
		time.Sleep(500 * time.Millisecond)
		for name, e := range map[string]*simnet.End{
			"friend": b.known, "elsewhere": b.stranger("elsewhere", "there"),
			"neighbour": b.stranger("neighbour", "here"),
		} {
			require.NoError(t, b.get(e, small.Hash, content, 5*time.Second), name)
		}
		time.Sleep(2 * link.FirstCredit)
	})
}

// Streams that send a byte at a time close a protocol to nobody: neither to a known peer nor to a
// stranger from elsewhere. They end when the time for a request is over.
func TestDrippingRequestsCloseNothing(t *testing.T) {
	for _, x := range []struct {
		protocol string
		request  []byte
	}{
		{testRoom, append([]byte{0, 0, 0, 2}, "{}"...)},
		{testService, []byte{1}},
		{clock.Protocol, nil},
	} {
		t.Run(strings.ReplaceAll(x.protocol[1:], "/", " "), func(t *testing.T) {
			besiege(t, func(t *testing.T, b *besieged) {
				var ended atomic.Int64
				for i := range 64 {
					e := b.stranger(fmt.Sprint("slow ", i), "here")
					for range 4 {
						s := b.open(e, x.protocol)
						go func() {
							drip(s, []byte{0})
							ended.Add(1)
						}()
					}
				}
				time.Sleep(time.Second)
				for name, e := range map[string]*simnet.End{
					"friend": b.known, "elsewhere": b.stranger("elsewhere", "there"),
				} {
					s := b.open(e, x.protocol)
					_ = s.SetReadDeadline(time.Now().Add(5 * time.Second))
					if len(x.request) > 0 {
						_, err := s.Write(x.request)
						require.NoError(t, err, name)
					}
					_, err := io.ReadFull(s, make([]byte, 1))
					require.NoError(t, err, name)
					_ = s.Close()
				}
				time.Sleep(serviceTime + 10*time.Second)
				require.EqualValues(t, 4*64, ended.Load())
			})
		})
	}
}

// A reader that is slower than the least rate is cut off; one that is not may take as long as it
// wants.
func TestLeastRate(t *testing.T) {
	besiege(t, func(t *testing.T, b *besieged) {
		imported, err := b.n.blobs.ImportBytes(t.Context(), make([]byte, 2<<20))
		require.NoError(t, err)
		read := func(
			name string, bytesEachSecond int, most time.Duration,
		) (took time.Duration, err error) {
			s := b.open(b.stranger(name, "here"), wire.Protocol)
			_, err = s.Write(want(t, imported.Hash))
			require.NoError(t, err)
			start := time.Now()
			for err == nil && time.Since(start) < most {
				_, err = io.ReadFull(s, make([]byte, bytesEachSecond))
				time.Sleep(time.Second)
			}
			_ = s.Reset()
			return time.Since(start), err
		}
		took, err := read("slow", 64, time.Hour)
		require.Error(t, err)
		require.Less(t, took, 5*time.Minute)
		_, err = read("steady", 2*link.LeastRate, 15*time.Minute)
		require.NoError(t, err)
	})
}

// Requests that cost much and yield next to nothing are answered no faster than strangers may have
// this node work, however small they are; others are answered meanwhile.
func TestWorkWithoutYieldIsPaced(t *testing.T) {
	besiege(t, func(t *testing.T, b *besieged) {
		const perSecond, atOnce, items, children = 1000, 5000, 100, 500
		b.n.limits.Retune(func(f *limits.Figures) {
			f.Strangers = limits.Rate{PerSecond: perSecond, AtOnce: atOnce}
		})
		var list []byte
		for i := range children { // none of which is here
			h := blobs.HashOf(fmt.Append(nil, "missing ", i))
			list = append(list, h[:]...)
		}
		seq, err := b.n.blobs.ImportBytes(t.Context(), list)
		require.NoError(t, err)
		content := []byte("twelve bytes")
		small, err := b.n.blobs.ImportBytes(t.Context(), content)
		require.NoError(t, err)
		var reqs []wire.Request
		for range items {
			reqs = append(
				reqs,
				wire.Request{
					Hash: seq.Hash, Children: &wire.Children{Count: children, Ranges: blobs.Everything},
				},
			)
		}
		msg, err := wire.AppendRequests(nil, false, reqs)
		require.NoError(t, err)
		s := b.open(b.stranger("curious", "here"), wire.Protocol)
		start := time.Now()
		_, err = s.Write(msg)
		require.NoError(t, err)
		done := make(chan time.Duration, 1)
		go func() {
			r := bufio.NewReader(s)
			for range items {
				if _, err := wire.ReadHead(r); err != nil {
					t.Error(err)
				}
				count, err := binary.ReadUvarint(r)
				if err != nil || count != children {
					t.Error(count, err)
				}
				for range children {
					if head, err := wire.ReadHead(r); err != nil || head.Status != wire.StatusNotHere {
						t.Error(head, err)
					}
				}
			}
			done <- time.Since(start)
			_ = s.Close()
		}()
		time.Sleep(10 * time.Second)
		require.NoError(t, b.get(b.known, small.Hash, content, time.Second))
		took := <-done
		require.GreaterOrEqual(t, took, (items*children-atOnce)/perSecond*time.Second)
	})
}

// What a stranger says that a push will carry is not read: only who knows the replica is listened
// to.
func TestPushesOfStrangersAreNotRead(t *testing.T) {
	besiege(t, func(t *testing.T, b *besieged) {
		s := b.open(b.stranger("stranger", "here"), session.PushProtocol)
		_, err := s.Write(append([]byte{session.PushVersion}, make([]byte, 32)...))
		require.NoError(t, err)
		_ = s.SetWriteDeadline(time.Now().Add(10 * time.Second))
		_, err = s.Write(bundle.Append(nil, [][]byte{make([]byte, bundle.MaxItem)}))
		require.ErrorIs(t, err, io.ErrClosedPipe)
	})
}
