package libp2pnet

import (
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/autonatv2"
	"github.com/libp2p/go-libp2p/p2p/protocol/autonatv2/pb"
	"github.com/libp2p/go-libp2p/p2p/protocol/identify"
	idpb "github.com/libp2p/go-libp2p/p2p/protocol/identify/pb"
	"github.com/libp2p/go-msgio/pbio"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/skerry-sync/skerry/node/link"
)

// witness is a peer that answers what it likes when it is asked to dial addresses.
type witness struct {
	*Network
	asked atomic.Int32
}

// startWitness starts one that answers with a status. Before that, back is called with what was
// asked and the stream on which it was, if back is not nil.
func startWitness(
	t *testing.T, status pb.DialStatus, back func(*pb.DialRequest, network.Stream),
) *witness {
	t.Helper()
	w := &witness{Network: startWith(t, Config{})}
	w.host.SetStreamHandler(autonatv2.DialProtocol, func(s network.Stream) {
		defer s.Close()
		m := &pb.Message{}
		if err := pbio.NewDelimitedReader(s, 8192).ReadMsg(m); err != nil {
			return // it was not asked after all
		}
		w.asked.Add(1)
		if back != nil {
			back(m.GetDialRequest(), s)
		}
		answer := &pb.Message{Msg: &pb.Message_DialResponse{DialResponse: &pb.DialResponse{
			Status: pb.DialResponse_OK, DialStatus: status}}}
		assert.NoError(t, pbio.NewDelimitedWriter(s).WriteMsg(answer))
	})
	return w
}

// dialBack says a nonce to a node over a connection.
func dialBack(t *testing.T, from *Network, to peer.ID, nonce uint64) {
	ctx := network.WithNoDial(t.Context(), "connected before")
	s, err := from.host.NewStream(ctx, to, autonatv2.DialBackProtocol)
	if !assert.NoError(t, err) {
		return
	}
	defer s.Close()
	assert.NoError(t, pbio.NewDelimitedWriter(s).WriteMsg(&pb.DialBack{Nonce: nonce}))
	_, _ = io.ReadAll(s) // whether it was taken, the node knows
}

// askAbout has somebody dial an address of a node.
func askAbout(t *testing.T, n *Network, at string) (network.Reachability, error) {
	t.Helper()
	r, err := n.host.(*assembled).tester.GetReachability(t.Context(), []autonatv2.Request{
		{Addr: ma.StringCast(at), SendDialData: true}})
	return r.Reachability, err
}

// meet connects two nodes and waits until the second knows what the first speaks.
func meet(t *testing.T, from, to *Network) {
	t.Helper()
	sub, err := to.host.EventBus().Subscribe(new(event.EvtPeerIdentificationCompleted))
	require.NoError(t, err)
	defer sub.Close()
	require.NoError(t, from.Connect(t.Context(), to.info(t)))
	for e := range sub.Out() {
		if e.(event.EvtPeerIdentificationCompleted).Peer == from.ID() {
			return
		}
	}
}

// places puts peers into networks, all public, as long as they are only on this machine.
type places struct {
	mu sync.Mutex
	of map[peer.ID]string
}

func (p *places) put(id peer.ID, at string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.of[id] = at
}

func (p *places) place(c network.Conn) (netip.Prefix, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at, ok := p.of[c.RemotePeer()]
	if !ok {
		return netip.Prefix{}, false
	}
	return wideNetwork(netip.MustParseAddr(at)), true
}

const ownPublic, otherPublic = "/ip4/8.8.8.8/tcp/4001", "/ip4/8.8.4.4/tcp/4001"

// Whoever dials a node is not asked whether the node can be reached, unless the configuration or a
// person names it. Those are asked that the node itself has dialled at a public address.
func TestStrangersAreNotAskedAboutOwnAddresses(t *testing.T) {
	p := &places{of: map[peer.ID]string{}}
	n := startWith(t, Config{})
	n.voices.place = p.place
	var strangers []*witness
	for i := range 4 {
		s := startWitness(t, pb.DialStatus_E_DIAL_ERROR, nil)
		p.put(s.ID(), fmt.Sprintf("9.%d.0.1", i))
		meet(t, s.Network, n)
		strangers = append(strangers, s)
	}
	neighbour := startWitness(t, pb.DialStatus_E_DIAL_ERROR, nil) // on the local network
	meet(t, n, neighbour.Network)

	friend := startWitness(t, pb.DialStatus_E_DIAL_ERROR, nil)
	meet(t, friend.Network, n)
	n.Keep(friend.ID(), link.TrustNamed)
	dialled := startWitness(t, pb.DialStatus_E_DIAL_ERROR, nil)
	p.put(dialled.ID(), "9.9.0.1")
	meet(t, n, dialled.Network)
	heard := func(w *witness) bool {
		_, err := askAbout(t, n, ownPublic) // nobody may be there yet
		if err != nil {
			require.NotContains(t, err.Error(), "is not asked", "they are not even chosen")
		}
		return w.asked.Load() > 0
	}
	for _, w := range []*witness{friend, dialled} {
		require.Eventually(t, func() bool { return heard(w) }, 20*time.Second, 5*time.Millisecond)
	}
	for range 8 {
		_, err := askAbout(t, n, ownPublic)
		require.ErrorIs(t, err, autonatv2.ErrNoPeers, "each is asked once in two minutes")
	}
	for _, w := range append(strangers, neighbour) {
		require.Zero(t, w.asked.Load())
		_, err := n.host.NewStream(t.Context(), w.ID(), autonatv2.DialProtocol)
		require.ErrorContains(t, err, "is not asked", "whatever is known of what it speaks")
	}
}

// Each network has one vote about each address, whoever of it is asked.
func TestANetworkHasOneVote(t *testing.T) {
	p := &places{of: map[peer.ID]string{}}
	n := startWith(t, Config{})
	n.voices.place = p.place
	answers := func(at, about string) error {
		w := startWitness(t, pb.DialStatus_E_DIAL_ERROR, nil)
		p.put(w.ID(), at)
		meet(t, n, w.Network)
		var is network.Reachability
		var err error
		require.Eventually(t, func() bool {
			is, err = askAbout(t, n, about)
			return w.asked.Load() > 0
		}, 20*time.Second, 5*time.Millisecond)
		if err == nil {
			require.Equal(t, network.ReachabilityPrivate, is)
		}
		return err
	}
	require.NoError(t, answers("9.1.0.1", ownPublic))
	require.ErrorContains(t, answers("9.1.77.1", ownPublic), "already said")
	require.NoError(t, answers("9.1.78.1", otherPublic))
	require.NoError(t, answers("9.2.0.1", ownPublic))
	require.NoError(t, answers("2a00:1:2::1", ownPublic))
	require.ErrorContains(t, answers("2a00:1:3::1", ownPublic), "already said")
}

// A vote counts for some hours, and the memory of votes is bounded.
func TestVotesEnd(t *testing.T) {
	now := time.Now()
	friend, other := stranger(t), stranger(t)
	v := newVoices([]peer.AddrInfo{{ID: friend}}, func() time.Time { return now })
	by, about := netip.MustParsePrefix("9.1.0.0/16"), ma.StringCast(ownPublic)
	require.NoError(t, v.hears(other, by, about))
	require.Error(t, v.hears(other, by, about))
	for range 3 {
		require.NoError(t, v.hears(friend, by, about), "whom the configuration names is asked again")
	}
	now = now.Add(voiceTime)
	require.NoError(t, v.hears(other, by, about))
	for i := range maxVotes + 10 {
		at := binary.BigEndian.AppendUint32(nil, 9<<24|uint32(i))
		a, _ := netip.AddrFromSlice(at)
		err := v.hears(other, netip.PrefixFrom(a, 32), about)
		require.Equal(t, i >= maxVotes-1, err != nil, i)
	}
	require.Len(t, v.votes, maxVotes)
	now = now.Add(voiceTime)
	require.NoError(t, v.hears(other, by, about))
	require.Len(t, v.votes, 1)
	for i := range maxKnown + 10 {
		v.know(peer.ID(fmt.Sprint(i)))
	}
	require.Len(t, v.named, maxKnown)
}

// Who says that it has dialled this node back must have done so: a nonce that comes over the
// connection on which it was asked shows nothing.
func TestDialBackNeedsAConnectionOfItsOwn(t *testing.T) {
	for name, tt := range map[string]struct{ fresh bool }{
		"on the connection that is there": {false}, "on one that was made for it": {true},
	} {
		t.Run(name, func(t *testing.T) {
			p := &places{of: map[peer.ID]string{}}
			n, helper := startWith(t, Config{}), startWith(t, Config{})
			n.voices.place = p.place
			var w *witness
			w = startWitness(t, pb.DialStatus_OK, func(r *pb.DialRequest, _ network.Stream) {
				from := w.Network
				if tt.fresh {
					from = helper
					if !assert.NoError(t, helper.Connect(t.Context(), n.info(t))) {
						return
					}
				}
				dialBack(t, from, n.ID(), r.GetNonce())
			})
			p.put(w.ID(), "9.1.0.1")
			meet(t, n, w.Network)
			var is network.Reachability
			var err error
			require.Eventually(t, func() bool {
				is, err = askAbout(t, n, ownPublic)
				return w.asked.Load() > 0
			}, 20*time.Second, 5*time.Millisecond)
			if !tt.fresh {
				require.ErrorContains(t, err, "dialBackAddr")
				return
			}
			require.NoError(t, err)
			require.Equal(t, network.ReachabilityPublic, is)
		})
	}
}

// seesAt lets a node say that it sees those that ask who it is at an address.
func seesAt(t *testing.T, n *Network, at string) {
	t.Helper()
	n.host.SetStreamHandler(identify.ID, func(s network.Stream) {
		defer s.Close()
		m := &idpb.Identify{ObservedAddr: ma.StringCast(at).Bytes(),
			PublicKey: nil, AgentVersion: proto.String("x")}
		b, err := proto.Marshal(m)
		if assert.NoError(t, err) {
			_, _ = s.Write(append(binary.AppendUvarint(nil, uint64(len(b))), b...)) // it may be gone
		}
	})
}

// A node that believes a single peer about where it is seen, because it has relays, does not
// believe strangers that have dialled it.
func TestStrangersDoNotSayWhereANodeIsSeen(t *testing.T) {
	at := ma.StringCast("/ip4/127.0.0.1/tcp/1")
	relay := peer.AddrInfo{ID: stranger(t), Addrs: []ma.Multiaddr{at}}
	n := startWith(t, Config{Relays: []peer.AddrInfo{relay}})
	for i := range 3 {
		liar := startWith(t, Config{})
		seesAt(t, liar, fmt.Sprintf("/ip4/8.8.8.%d/tcp/4001", i+1))
		meet(t, liar, n)
	}
	friend := startWith(t, Config{})
	seesAt(t, friend, "/ip4/8.8.4.4/tcp/4001")
	n.voices.know(friend.ID())
	meet(t, friend, n)
	require.Eventually(t, func() bool {
		return len(n.publicAddrs()) > 0
	}, 20*time.Second, 5*time.Millisecond)
	require.Equal(t, []ma.Multiaddr{ma.StringCast("/ip4/8.8.4.4/tcp/4001")}, n.publicAddrs())
}

// Of a network of strangers, one connection says where a node is seen, until it is closed.
func TestANetworkOfStrangersSeesOnce(t *testing.T) {
	p := &places{of: map[peer.ID]string{}}
	n := startWith(t, Config{})
	n.voices.place = p.place
	conn := func(at string) network.Conn {
		s := startWith(t, Config{})
		p.put(s.ID(), at)
		require.NoError(t, s.Connect(t.Context(), n.info(t)))
		require.Eventually(t, func() bool {
			return n.Connected(s.ID())
		}, 20*time.Second, time.Millisecond)
		return n.host.Network().ConnsToPeer(s.ID())[0]
	}
	v := newVoices(nil, time.Now)
	v.place = p.place
	a, b, c := conn("9.1.0.1"), conn("9.1.2.1"), conn("9.2.0.1")
	require.True(t, v.sees(a, false))
	require.True(t, v.sees(a, false))
	require.False(t, v.sees(b, false))
	require.True(t, v.sees(c, false))
	require.False(t, v.sees(c, true), "it has dialled this node")
	require.NoError(t, a.Close())
	require.True(t, v.sees(b, false))
	require.Len(t, v.seen, 2)
}
