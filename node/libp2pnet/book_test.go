package libp2pnet

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/protocol/identify"
	pb "github.com/libp2p/go-libp2p/p2p/protocol/identify/pb"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/skerry-sync/skerry/node/link"
)

// boasts lets a node say 70 KiB of itself, in as many messages as it may, when it is asked who it
// is.
func boasts(t *testing.T, n *Network) {
	t.Helper()
	n.Handle(identify.ID, func(s link.Stream) {
		defer s.Close()
		for i := range 9 {
			m := &pb.Identify{}
			long := strings.Repeat("p", 500)
			for j := range 8 {
				m.Protocols = append(m.Protocols, fmt.Sprintf("/%d/%d/%s", i, j, long))
			}
			for j := range 40 {
				a := ma.StringCast(fmt.Sprintf("/ip4/192.0.2.%d/tcp/%d", i, j+1))
				m.ListenAddrs = append(m.ListenAddrs, a.Bytes())
			}
			switch i {
			case 0:
				m.Protocols = append(m.Protocols, "/skerry/short/1")
			case 1:
				m.AgentVersion = proto.String(long)
			case 2:
				m.ProtocolVersion = proto.String(long)
			case 3: // one address of 2 KiB
				hop := "/p2p/" + n.ID().String() + "/p2p-circuit"
				a := ma.StringCast("/ip4/192.0.2.1/tcp/1" + strings.Repeat(hop, 50))
				m.ListenAddrs = slices.Insert(m.ListenAddrs, 0, a.Bytes())
			}
			b, err := proto.Marshal(m)
			if !assert.NoError(t, err) {
				return
			}
			if _, err := s.Write(append(binary.AppendUvarint(nil, uint64(len(b))), b...)); err != nil {
				return // who asked has gone
			}
		}
	})
}

// bytesOf returns how many bytes of text and addresses a node keeps of a peer.
func bytesOf(t *testing.T, ps peerstore.Peerstore, n *Network) (total int) {
	t.Helper()
	all, err := ps.GetProtocols(n.ID())
	require.NoError(t, err)
	for _, id := range all {
		total += len(id)
	}
	for _, m := range ps.Addrs(n.ID()) {
		total += len(m.Bytes())
	}
	for _, key := range []string{"AgentVersion", "ProtocolVersion"} {
		if v, err := ps.Get(n.ID(), key); err == nil {
			total += len(v.(string))
		}
	}
	return total
}

// A stranger says 80 KiB of itself, and leaves: the node kept little of it while the stranger was
// there, and nothing when it has gone.
func TestLittleIsKeptOfWhatStrangersSayOfThemselves(t *testing.T) {
	n, guest := startWith(t, Config{}), startWith(t, Config{})
	boasts(t, guest)
	sub, err := n.host.EventBus().Subscribe(new(event.EvtPeerIdentificationCompleted))
	require.NoError(t, err)
	defer sub.Close()
	require.NoError(t, guest.Connect(t.Context(), n.info(t)))
	e := (<-sub.Out()).(event.EvtPeerIdentificationCompleted)
	require.Equal(t, guest.ID(), e.Peer)
	require.Len(t, e.Protocols, 73, "it has said all of it")
	book := n.host.Peerstore()
	kept := bytesOf(t, book, guest)
	require.LessOrEqual(t, kept, maxProtocols*maxProtocol+maxBookBytes+2*maxNote)
	require.LessOrEqual(t, len(book.Addrs(guest.ID())), maxBookAddrs)
	short, err := book.SupportsProtocols(guest.ID(), "/skerry/short/1")
	require.NoError(t, err)
	require.Equal(t, []protocol.ID{"/skerry/short/1"}, short)
	n.Drop()
	require.Eventually(t, func() bool {
		return !n.Connected(guest.ID())
	}, 10*time.Second, time.Millisecond)
	n.forget(guest.ID())
	require.Zero(t, bytesOf(t, book, guest))
}

// The limits hold whichever way something is told, but not for what a node says of itself.
func TestBook(t *testing.T) {
	me, other := stranger(t), stranger(t)
	b, err := newBook(me, nil)
	require.NoError(t, err)
	defer func() { require.NoError(t, b.Close()) }()
	var many []ma.Multiaddr
	var protocols []protocol.ID
	for i := range 2 * maxBookAddrs {
		many = append(many, ma.StringCast(fmt.Sprintf("/ip4/192.0.2.1/tcp/%d", i+1)))
		protocols = append(protocols, protocol.ID(fmt.Sprintf("/p/%d", i)))
	}
	hop := "/p2p/" + other.String() + "/p2p-circuit"
	long := ma.StringCast("/ip4/192.0.2.1/tcp/1" + strings.Repeat(hop, 110))
	require.Greater(t, len(long.Bytes()), maxBookBytes)

	b.AddAddrs(other, many, time.Hour)
	require.Len(t, b.Addrs(other), maxBookAddrs)
	b.ClearAddrs(other)
	b.SetAddrs(other, many, time.Hour)
	require.Len(t, b.Addrs(other), maxBookAddrs)
	b.ClearAddrs(other)
	b.AddAddr(other, long, time.Hour)
	b.SetAddr(other, long, time.Hour)
	require.Empty(t, b.Addrs(other))
	b.AddAddr(other, many[0], time.Hour)
	b.SetAddr(other, many[1], time.Hour)
	require.Len(t, b.Addrs(other), 2)
	b.AddAddr(me, long, time.Hour)
	require.Len(t, b.Addrs(me), 1)

	require.NoError(t, b.SetProtocols(other, protocols...))
	require.NoError(t, b.AddProtocols(other, protocol.ID(strings.Repeat("p", maxProtocol+1))))
	kept, err := b.GetProtocols(other)
	require.NoError(t, err)
	require.ElementsMatch(t, protocols[:maxProtocols], kept)
	require.NoError(t, b.SetProtocols(me, protocols...))
	kept, err = b.GetProtocols(me)
	require.NoError(t, err)
	require.Len(t, kept, len(protocols))

	require.NoError(t, b.Put(other, "AgentVersion", strings.Repeat("a", maxNote)))
	require.NoError(t, b.Put(other, "ProtocolVersion", strings.Repeat("a", maxNote+1)))
	_, err = b.Get(other, "ProtocolVersion")
	require.ErrorIs(t, err, peerstore.ErrNotFound)
	v, err := b.Get(other, "AgentVersion")
	require.NoError(t, err)
	require.Len(t, v, maxNote)
}
