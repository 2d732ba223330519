package libp2pnet

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pb "github.com/libp2p/go-libp2p-kad-dht/pb"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/skerry-sync/skerry/node/link"
)

// tarpits listens at n addresses, takes every connection and never says a word.
// held is how many connections they hold.
func tarpits(t *testing.T, n int) (at []ma.Multiaddr, held *atomic.Int64) {
	t.Helper()
	held = new(atomic.Int64)
	for i := range n {
		l, err := net.Listen("tcp", fmt.Sprintf("127.9.%d.%d:0", i/200, i%200+1))
		require.NoError(t, err)
		var mu sync.Mutex
		var all []net.Conn
		done := make(chan struct{})
		go func() {
			defer close(done)
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				held.Add(1)
				mu.Lock()
				all = append(all, c)
				mu.Unlock()
			}
		}()
		t.Cleanup(func() {
			require.NoError(t, l.Close())
			<-done
			for _, c := range all {
				_ = c.Close() // the dialler may have closed it
			}
		})
		m, err := manet.FromNetAddr(l.Addr())
		require.NoError(t, err)
		at = append(at, m)
	}
	return at, held
}

// What others say of where a peer is, in the hash table or on the local network, does not keep a
// node from reaching the peer where it has been told that it is.
func TestHearsayKeepsNobodyAway(t *testing.T) {
	n, friend := startWith(t, Config{}), startWith(t, Config{})
	wrong, held := tarpits(t, 63)
	n.host.Peerstore().AddAddrs(friend.ID(), wrong, peerstore.TempAddrTTL)
	ctx, cancel := context.WithCancel(t.Context())
	var dialling sync.WaitGroup
	defer dialling.Wait()
	defer cancel()
	dialling.Go(func() { // as for a peer that multicast DNS has found
		_, _ = n.host.Network().DialPeer(ctx, friend.ID())
	})
	require.Eventually(t, func() bool { return held.Load() >= 8 }, 10*time.Second, time.Millisecond)
	require.NoError(t, n.Connect(link.Named(t.Context()), friend.info(t)))
}

// However many addresses strangers have a node dial at a time, there is room to dial a peer that
// a person has named.
func TestRoomToDialNamedPeers(t *testing.T) {
	n, friend := startWith(t, Config{}), startWith(t, Config{})
	ctx, cancel := context.WithCancel(t.Context())
	var dialling sync.WaitGroup
	defer dialling.Wait()
	defer cancel()
	wrong, held := tarpits(t, 200)
	for _, at := range wrong {
		id := stranger(t)
		dialling.Go(func() { _ = n.Connect(ctx, peer.AddrInfo{ID: id, Addrs: []ma.Multiaddr{at}}) })
	}
	require.Eventually(t, func() bool {
		return held.Load() >= maxTrying
	}, 10*time.Second, time.Millisecond)
	require.NoError(t, n.Connect(link.Named(t.Context()), friend.info(t)))
	require.Less(t, held.Load(), int64(160), "libp2p dials no more at once")
}

// Of an answer of the hash table a node remembers no more than an honest one says, however many
// peers and addresses it names; one that is too long is not read.
func TestAnswersOfTheTableAreClipped(t *testing.T) {
	many := func(n, addrs int) (all []*pb.Message_Peer) {
		for i := range n {
			p := &pb.Message_Peer{Id: fmt.Appendf(nil, "peer %d", i)}
			for range addrs {
				p.Addrs = append(p.Addrs, make([]byte, 300), []byte("short"))
			}
			all = append(all, p)
		}
		return all
	}
	framed := func(m *pb.Message) []byte {
		b, err := proto.Marshal(m)
		require.NoError(t, err)
		return append(binary.AppendUvarint(nil, uint64(len(b))), b...)
	}
	read := func(sent []byte) ([]byte, error) {
		s := &scripted{Reader: bytes.NewReader(sent)}
		return io.ReadAll(&replies{Stream: s, from: bufio.NewReader(s)})
	}
	small := &pb.Message{Key: []byte("key"), CloserPeers: many(20, 1), ProviderPeers: many(1, 0)}
	large := &pb.Message{CloserPeers: many(1000, 0), ProviderPeers: many(1000, 0)}
	large.CloserPeers[0] = many(1, 100)[0]
	got, err := read(append(framed(small), framed(large)...))
	require.NoError(t, err)
	for _, want := range []struct{ closer, claims, addrs int }{
		{20, 1, 1}, {maxCloser, maxClaims, maxToldAddrs},
	} {
		size, n := binary.Uvarint(got)
		var m pb.Message
		require.NoError(t, proto.Unmarshal(got[n:n+int(size)], &m))
		got = got[n+int(size):]
		require.Len(t, m.CloserPeers, want.closer)
		require.Len(t, m.ProviderPeers, want.claims)
		require.Len(t, m.CloserPeers[0].Addrs, want.addrs)
		require.Equal(t, []byte("short"), m.CloserPeers[0].Addrs[0])
	}
	require.Empty(t, got)
	_, err = read(framed(&pb.Message{Key: make([]byte, maxReply)}))
	require.ErrorContains(t, err, "at most")
	_, err = read(append(binary.AppendUvarint(nil, 100), "short"...))
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	_, err = read([]byte{3, 0xff, 0xff, 0xff})
	require.ErrorContains(t, err, "hash table")
}

// An announcement on the local network is an attempt to connect, of which there are few at a time,
// however many are announced.
func TestLocalAnnouncementsAreBounded(t *testing.T) {
	n, friend := startWith(t, Config{}), startWith(t, Config{})
	wrong, held := tarpits(t, 2*maxFinds)
	for _, at := range wrong {
		n.found(peer.AddrInfo{ID: stranger(t), Addrs: []ma.Multiaddr{at}})
	}
	require.Eventually(t, func() bool {
		return held.Load() == maxFinds
	}, 10*time.Second, time.Millisecond)
	require.NoError(t, n.Connect(t.Context(), friend.info(t)))
	n.found(friend.info(t)) // it is connected
	require.EqualValues(t, maxFinds, held.Load())
}

// Where strangers say that they are is forgotten when they have left: any number may come and go.
func TestStrangersThatLeaveAreForgotten(t *testing.T) {
	n, guest := startWith(t, Config{}), startWith(t, Config{})
	known := func() bool { return len(n.host.Peerstore().Addrs(guest.ID())) > 0 }
	require.NoError(t, guest.Connect(t.Context(), n.info(t)))
	require.Eventually(t, func() bool {
		return n.Connected(guest.ID()) &&
			known()
	}, 10*time.Second, time.Millisecond)
	n.forget(guest.ID())
	require.True(t, known(), "it is here")
	n.Drop()
	require.Eventually(t, func() bool {
		return !n.Connected(guest.ID())
	}, 10*time.Second, time.Millisecond)
	n.host.Peerstore().AddAddrs(guest.ID(), guest.info(t).Addrs, peerstore.RecentlyConnectedAddrTTL)
	end := n.dialling(guest.ID())
	n.forget(guest.ID())
	require.True(t, known(), "it is being dialled")
	end()
	n.forget(guest.ID())
	require.False(t, known())
	require.Empty(t, n.dialled)
	require.NoError(t, n.Connect(t.Context(), guest.info(t)))
}

// Gossip keeps nothing of where its peers say that they are.
func TestGossipKeepsNoAddresses(t *testing.T) {
	n, guest := startWith(t, Config{}), startWith(t, Config{})
	// The address book of gossip is a field that the library does not show.
	router := reflect.ValueOf(n.gossip).Elem().FieldByName("rt").Elem().Elem()
	field := router.FieldByName("cab")
	require.True(t, field.IsValid(), "the library has changed: look where it keeps addresses now")
	book := reflect.NewAt(
		field.Type(), field.Addr().UnsafePointer(),
	).Elem().Interface().(peerstore.AddrBook)

	sub, err := n.host.EventBus().Subscribe(new(event.EvtPeerIdentificationCompleted))
	require.NoError(t, err)
	defer sub.Close()
	const topic = "skerry test"
	take := func(context.Context, peer.ID, []byte) link.Verdict { return link.Accept }
	require.NoError(t, n.Join(topic, take))
	require.NoError(t, guest.Join(topic, take))
	require.NoError(t, guest.Connect(t.Context(), n.info(t)))
	e := (<-sub.Out()).(event.EvtPeerIdentificationCompleted)
	require.NotNil(t, e.SignedPeerRecord)
	require.Eventually(
		t, func() bool { return len(n.Listeners(topic)) == 1 }, 10*time.Second, time.Millisecond,
		"gossip still learns who is there",
	)
	require.Empty(t, book.PeersWithAddrs())
	n.Drop()
	require.Eventually(
		t, func() bool { return !n.Connected(guest.ID()) }, 10*time.Second, time.Millisecond,
	)
	require.Empty(t, book.PeersWithAddrs())
}

// What gossip learns of peers does not include where they say that they are, in whatever order it
// is told.
func TestGossipIsNotToldOfAddresses(t *testing.T) {
	bus := gossipBus{eventbus.NewBus()}
	told, err := bus.Subscribe([]any{
		new(event.EvtPeerConnectednessChanged), new(event.EvtPeerIdentificationCompleted),
	})
	require.NoError(t, err)
	defer told.Close()
	identified, err := bus.Emitter(new(event.EvtPeerIdentificationCompleted))
	require.NoError(t, err)
	defer identified.Close()
	came, err := bus.Emitter(new(event.EvtPeerConnectednessChanged))
	require.NoError(t, err)
	defer came.Close()
	require.NoError(t, identified.Emit(event.EvtPeerIdentificationCompleted{Peer: "p"}))
	require.NoError(t, came.Emit(event.EvtPeerConnectednessChanged{Peer: "p"}))
	require.Equal(t, event.EvtPeerConnectednessChanged{Peer: "p"}, <-told.Out())
	require.Empty(t, told.Out())
}
