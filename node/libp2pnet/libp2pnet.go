// Package libp2pnet is the network of a node over go-libp2p: QUIC and TCP with TLS 1.3, discovery
// on the local network by mDNS and in the wide one by a distributed hash table (dht.go), relays and
// direct connections through routers (relay.go), and limits (limits.go).
//
// What belongs here: how connections and streams are made. What never belongs here: what is said on
// them.
package libp2pnet

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	dht "github.com/libp2p/go-libp2p-kad-dht"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/core/pnet"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/gologshim"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/protocol/identify"
	ma "github.com/multiformats/go-multiaddr"
	multistream "github.com/multiformats/go-multistream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/skerry-sync/skerry/internal/fault"
	"github.com/skerry-sync/skerry/internal/netaddr"
	"github.com/skerry-sync/skerry/node/admission"
	"github.com/skerry-sync/skerry/node/link"
)

// Config sets up a Network.
type Config struct {
	Key    ed25519.PrivateKey
	Listen []ma.Multiaddr // none: do not listen
	MDNS   bool           // find and be found on the local network
	Log    *slog.Logger
	// Relays are nodes through which others reach this one when they cannot do so directly, because it
	// is behind a router. With any, this node is taken to be.
	Relays []peer.AddrInfo
	// Relay lets others be reached through this node.
	Relay bool
	// DHT is the part that this node takes in the distributed hash table; empty is none.
	DHT Mode
	// Bootstrap are nodes to know from the start.
	Bootstrap []peer.AddrInfo
	// NetworkKey, if set, is shared by the nodes of a private network: no other can connect. There is
	// no QUIC in one.
	NetworkKey pnet.PSK
	// MaxPeers is how many connections are kept; 0 is DefaultMaxPeers.
	MaxPeers int
	// Allow, if not empty, names all who may connect or be dialled; who is named by Deny may not in
	// any case.
	Allow, Deny []Who
	// PublicOnly has no private address dialled: strangers can name addresses, and must not have this
	// node look around in its owner's network.
	PublicOnly bool
	// Metrics takes libp2p's own measurements, if set.
	Metrics prometheus.Registerer
}

const (
	// ConnectTimeout bounds one attempt to reach a peer. (OBJECTS names 30 s; a person who waits wants
	// to know sooner.)
	ConnectTimeout = 10 * time.Second
	openTimeout    = 10 * time.Second
	closeTimeout   = 5 * time.Second
	identifyWait   = 2 * time.Second
	// quicDelay is the head start of TCP, which on fast networks carries three times as much as QUIC.
	quicDelay = 250 * time.Millisecond
)

// Network implements link.Network.
type Network struct {
	ranks knownRanks
	host  host.Host
	cfg   Config

	finds   finds
	gater   *gater
	twins   *twins
	dials   *dials
	voices  *voices
	named   *namedPlaces
	relayed *relayMeter
	puncher puncher
	reach   reach
	table   *dht.IpfsDHT    // nil without one
	claims  *claims         // kept for others in it
	frames  *admission.Room // memory of messages to gossip and the table

	gossip   *pubsub.PubSub
	topicsMu sync.Mutex
	topics   map[string]topic

	ctx     context.Context
	cancel  context.CancelFunc
	started time.Time

	// guards dialled; and closed, so that no work is added while Close waits for it
	mu      sync.Mutex
	dialled map[peer.ID]int // by how many dials are under way
	closed  bool
	// handlers, messages of gossip being taken, and dials to peers found by mDNS
	work sync.WaitGroup
}

// do runs fn in a goroutine that Close waits for, unless the network is closed. A panic ends fn
// alone.
func (n *Network) do(fn func()) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.closed {
		n.work.Go(func() {
			_ = fault.Guard(n.cfg.Log, "work of the network", func() error { fn(); return nil })
		})
	}
	return !n.closed
}

// enter makes Close wait until n.work.Done, unless the network is closed. It is for work in
// goroutines of others.
func (n *Network) enter() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.closed {
		n.work.Add(1)
	}
	return !n.closed
}

var (
	_ link.Network = (*Network)(nil)
	_ link.Relay   = (*Network)(nil)
	_ link.Twins   = (*Network)(nil)
)

// New makes a network that listens but, until Start, has no one to answer.
func New(cfg Config) (*Network, error) {
	key, err := crypto.UnmarshalEd25519PrivateKey(cfg.Key)
	if err != nil {
		return nil, fmt.Errorf("node key: %w", err)
	}
	quiet()
	dialInParallel()
	if cfg.MaxPeers == 0 {
		cfg.MaxPeers = DefaultMaxPeers
	}
	manager, err := resourceManager(cfg.MaxPeers)
	if err != nil {
		return nil, err
	}
	conns, err := connManager(cfg.MaxPeers)
	if err != nil {
		return nil, errors.Join(err, manager.Close())
	}
	g := newGater(cfg)
	d := newDials(slices.Concat(cfg.Relays, cfg.Bootstrap), time.Now)
	v := newVoices(slices.Concat(cfg.Relays, cfg.Bootstrap), time.Now)
	ctx, cancel := context.WithCancel(context.Background())
	meter := newRelayMeter(ctx, cfg.Metrics)
	h, err := newHost(cfg, key, g, manager, conns, d, v, meter)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("listen: %w", err)
	}
	n := &Network{host: h, cfg: cfg, gater: g, twins: g.twins, dials: d, voices: v,
		named: newNamedPlaces(manager), relayed: meter, frames: newFrameRoom(),
		dialled: map[peer.ID]int{}, ctx: ctx, cancel: cancel,
		started: time.Now()}
	n.puncher.n = n
	if err := errors.Join(n.startGossip(), n.startTable()); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

// quiet keeps libp2p from writing to standard error what it also returns, unless somebody asks for
// it as libp2p has them ask.
var quiet = sync.OnceFunc(func() {
	if os.Getenv("GOLOG_LOG_LEVEL") == "" {
		gologshim.SetDefaultHandler(slog.DiscardHandler)
	}
})

// tcpFirst dials TCP at once and QUIC a little later.
func tcpFirst(addrs []ma.Multiaddr) []network.AddrDelay {
	out := make([]network.AddrDelay, 0, len(addrs))
	for _, a := range addrs {
		d := network.AddrDelay{Addr: a}
		if _, err := a.ValueForProtocol(ma.P_QUIC_V1); err == nil {
			d.Delay = quicDelay
		}
		out = append(out, d)
	}
	return out
}

// ID implements link.Network.
func (n *Network) ID() peer.ID { return n.host.ID() }

// Addrs implements link.Network. The addresses that others can most likely use come first.
func (n *Network) Addrs() []ma.Multiaddr {
	out, err := peer.AddrInfoToP2pAddrs(host.InfoFromHost(n.host))
	if err != nil {
		n.cfg.Log.Error("own addresses", "error", err)
	}
	return n.ranks.now().order(n.namedFirst(out))
}

// Connect implements link.Network.
func (n *Network) Connect(ctx context.Context, p peer.AddrInfo) error {
	if p.ID == n.ID() {
		n.LookForTwin(p.Addrs)
		return &link.UnreachableError{
			Peer: p.ID, Addrs: p.Addrs, Err: errors.New("it is this node itself"),
		}
	}
	if link.IsNamed(ctx) {
		defer n.dials.name(p)()
	}
	start := time.Now()
	err := n.dial(ctx, p)
	if err != nil && ctx.Err() == nil {
		if moved := n.locate(ctx, p); len(moved) > 0 {
			err = n.dial(ctx, peer.AddrInfo{ID: p.ID, Addrs: moved})
		}
	}
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	unreachable := &link.UnreachableError{Peer: p.ID, Addrs: p.Addrs, Err: firstCause(err, p.Addrs)}
	var timeout interface{ Timeout() bool }
	if errors.Is(err, context.DeadlineExceeded) || errors.As(unreachable.Err, &timeout) &&
		timeout.Timeout() {
		unreachable.Timeout = max(time.Since(start).Round(100*time.Millisecond), 100*time.Millisecond)
	}
	return unreachable
}

// dial makes one attempt to reach a peer, also at the addresses that are known of it besides.
func (n *Network) dial(ctx context.Context, p peer.AddrInfo) error {
	limited, cancel := context.WithTimeout(ctx, ConnectTimeout)
	defer cancel()
	defer n.dialling(p.ID)()
	// Not Host.Connect, which also waits for the peer to say what it speaks: that would be round trips
	// for nothing. Of a connected peer its own word counts, and not what anybody claims, as in the
	// hash table.
	if !n.Connected(p.ID) {
		n.host.Peerstore().AddAddrs(p.ID, p.Addrs, peerstore.TempAddrTTL)
	}
	if s, ok := n.host.Network().(*attentive); ok {
		s.Backoff().Clear(p.ID) // when to try again is the node's business, or a person's
	}
	_, err := n.host.Network().DialPeer(limited, p.ID)
	if err != nil && limited.Err() != nil {
		err = errors.Join(err, limited.Err())
	}
	return err
}

// dialling keeps the addresses of a peer until the function that it returns is called.
func (n *Network) dialling(p peer.ID) (end func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dialled[p]++
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		bump(n.dialled, p, -1)
	}
}

// firstCause returns what went wrong with the first of the addresses; the others, of other
// interfaces, say less.
func firstCause(err error, addrs []ma.Multiaddr) error {
	var dial *swarm.DialError
	if !errors.As(err, &dial) || len(dial.DialErrors) == 0 {
		return err
	}
	for _, a := range addrs {
		for _, e := range dial.DialErrors {
			if e.Address.Equal(a) {
				return e.Cause
			}
		}
	}
	return dial.DialErrors[0].Cause
}

// Open implements link.Network.
func (n *Network) Open(ctx context.Context, p peer.ID, proto string) (link.Stream, error) {
	ctx, cancel := context.WithTimeout(network.WithNoDial(ctx, "connected before"), openTimeout)
	defer cancel()
	s, err := n.newStream(ctx, p)
	if err == nil {
		err = s.SetProtocol(protocol.ID(proto))
	}
	if err != nil {
		if s != nil {
			_ = s.Reset() // of no use
		}
		return nil, &link.UnreachableError{Peer: p, Err: err}
	}
	// The protocol's name goes out with the first bytes, and what the peer says to it is read before
	// its first ones.
	return &lazyStream{stream: stream{s}, rw: multistream.NewMSSelect(s, protocol.ID(proto))}, nil
}

// lazyStream is a stream on which the protocol is agreed on by the way.
type lazyStream struct {
	written atomic.Bool
	stream
	rw multistream.LazyConn
}

func (s *lazyStream) Read(b []byte) (int, error) {
	n, err := s.rw.Read(b)
	var unknown multistream.ErrNotSupported[protocol.ID]
	if errors.As(err, &unknown) {
		err = &link.UnreachableError{
			Peer: s.Remote(),
			Err:  fmt.Errorf("it does not speak %v: is it of another version?", unknown.Protos),
		}
	}
	return n, err
}

// Write writes the beginning of b by itself, if it is the first: go-multistream writes that
// together with the names of protocols, and keeps an error of that write for all that follow. Of a
// long first write, which takes its time on a slow link, what was cut off by the time could not go
// on.
func (s *lazyStream) Write(b []byte) (int, error) {
	if !s.written.Swap(true) && len(b) > firstWrite {
		n, err := s.rw.Write(b[:firstWrite])
		if err != nil {
			return n, err
		}
		rest, err := s.rw.Write(b[firstWrite:])
		return n + rest, err
	}
	return s.rw.Write(b)
}

// firstWrite is how many bytes at most go out with the names of protocols.
const firstWrite = 4 << 10

func (s *lazyStream) CloseWrite() error {
	if f, ok := s.rw.(interface{ Flush() error }); ok {
		_ = f.Flush() // what is wrong shows in the next read
	}
	return s.stream.CloseWrite()
}

func (s *lazyStream) Close() error {
	// it may still have to hear that the peer speaks the protocol
	_ = s.SetReadDeadline(time.Now().Add(closeTimeout))
	return s.rw.Close()
}

// Handle implements link.Network.
func (n *Network) Handle(proto string, fn func(link.Stream)) {
	n.host.SetStreamHandler(protocol.ID(proto), func(s network.Stream) {
		done := make(chan struct{})
		if !n.do(func() { defer close(done); fn(stream{s}) }) {
			_ = s.Reset() // the connection is being closed anyway
			return
		}
		<-done
	})
}

// Start implements link.Network.
func (n *Network) Start(changed func(peer.ID, bool)) error {
	sub, err := n.host.EventBus().Subscribe(new(event.EvtPeerConnectednessChanged))
	if err != nil {
		return fmt.Errorf("subscribe to connections: %w", err)
	}
	n.do(func() {
		defer sub.Close()
		for _, p := range n.host.Network().Peers() { // who came before anybody listened
			changed(p, true)
		}
		left := map[peer.ID]bool{} // since the last tick
		tick := time.NewTicker(forgetEvery)
		defer tick.Stop()
		for {
			select {
			case <-n.ctx.Done():
				return
			case <-tick.C:
				for p := range left {
					n.forget(p)
				}
				clear(left)
			case e := <-sub.Out():
				change := e.(event.EvtPeerConnectednessChanged)
				if change.Connectedness == network.NotConnected {
					left[change.Peer] = true
				}
				if change.Connectedness == network.Limited {
					n.puncher.punch(change.Peer)
				}
				_ = fault.Guard(n.cfg.Log, "noting a connection", func() error {
					changed(change.Peer, change.Connectedness == network.Connected ||
						change.Connectedness == network.Limited)
					return nil
				}, "peer", change.Peer)
			}
		}
	})
	if err := n.watchReach(); err != nil {
		return err
	}
	n.puncher.start()
	n.bootstrap()
	n.do(n.watchTwin)
	if !n.cfg.MDNS {
		return nil
	}
	n.do(func() { announce(n.ctx, n.register, n.cfg.Log) })
	n.do(func() { lookAround(n.ctx, browseLocal, browsePause, n.found, n.cfg.Log) })
	return nil
}

// forgetEvery is how often what peers that have left have said of themselves is forgotten.
const forgetEvery = 10 * time.Second

// forget drops what a peer that is not connected, nor being dialled, has said of itself. libp2p
// would keep its addresses for a quarter of an hour, and the rest for a minute, so strangers that
// come and go would fill the memory. What is known of a peer that the hash table may ask stays.
// Where peers are that share something, the node has stored.
func (n *Network) forget(p peer.ID) {
	if n.Connected(p) || n.table != nil && n.table.RoutingTable().Find(p) != "" {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.dialled[p] == 0 {
		n.host.Peerstore().ClearAddrs(p)
		n.host.Peerstore().RemovePeer(p)
	}
}

// conns returns the connections to a peer: direct ones before those through relays.
func (n *Network) conns(p peer.ID) []network.Conn {
	conns := n.host.Network().ConnsToPeer(p)
	slices.SortStableFunc(conns, func(a, b network.Conn) int { return limited(a) - limited(b) })
	return conns
}

// Peers implements link.Network.
func (n *Network) Peers() []link.Peer {
	var out []link.Peer
	for _, id := range n.host.Network().Peers() {
		conns := n.conns(id)
		if len(conns) == 0 {
			continue
		}
		p := link.Peer{
			ID: id, Addr: conns[0].RemoteMultiaddr(), Transport: "tcp", Direct: !conns[0].Stat().Limited,
		}
		if _, err := p.Addr.ValueForProtocol(ma.P_QUIC_V1); err == nil {
			p.Transport = "quic-v1"
		}
		if !p.Direct {
			p.Transport = "relay"
		}
		out = append(out, p)
	}
	return out
}

// Connected implements link.Network.
func (n *Network) Connected(p peer.ID) bool {
	c := n.host.Network().Connectedness(p)
	return c == network.Connected || c == network.Limited
}

// Drop implements link.Network.
func (n *Network) Drop() {
	for _, c := range n.host.Network().Conns() {
		n.do(func() { _ = c.Close() }) // the other end may long be gone
	}
}

// KnownAddrs implements link.Network.
func (n *Network) KnownAddrs(p peer.ID) []ma.Multiaddr {
	if h, ok := n.host.(interface{ IDService() identify.IDService }); ok {
		timeout := time.After(identifyWait)
		for _, c := range n.host.Network().ConnsToPeer(p) {
			select { // until the peer has said where it listens
			case <-h.IDService().IdentifyWait(c):
			case <-timeout:
			case <-n.ctx.Done():
			}
		}
	}
	var addrs []ma.Multiaddr
	for _, c := range n.host.Network().ConnsToPeer(p) {
		// an inbound connection's port is not one that listens
		if c.Stat().Direction == network.DirOutbound {
			addrs = append(addrs, c.RemoteMultiaddr())
		}
	}
	return ma.Unique(append(addrs, n.host.Peerstore().Addrs(p)...))
}

// Close implements link.Network.
func (n *Network) Close() error {
	n.cancel()
	n.mu.Lock()
	n.closed = true
	n.mu.Unlock()
	var err error
	if n.table != nil {
		err = errors.Join(err, n.table.Close())
	}
	err = errors.Join(err, n.host.Close())
	n.work.Wait()
	return errors.Join(err, n.puncher.close())
}

type stream struct{ network.Stream }

func (s stream) Remote() peer.ID { return s.Conn().RemotePeer() }

// Origin implements link.Located.
func (s stream) Origin() string { return originOf(s.Conn().RemoteMultiaddr()) }

// Relayed implements link.Located.
func (s stream) Relayed() bool { return isRelayed(s.Conn().RemoteMultiaddr()) }

// Origin implements link.Network.
func (n *Network) Origin(p peer.ID) string {
	conns := n.conns(p)
	if len(conns) == 0 {
		return ""
	}
	return originOf(conns[0].RemoteMultiaddr())
}

// originOf returns the IPv4 address, or the IPv6 network of 56 bits, of a peer or of the relay
// between.
func originOf(m ma.Multiaddr) string {
	a, _ := addrOf(m)
	p := netaddr.Network(a)
	if !p.IsValid() {
		return ""
	}
	return p.String()
}

var _ link.Located = stream{}
