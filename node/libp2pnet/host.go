package libp2pnet

import (
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/sec"
	"github.com/libp2p/go-libp2p/core/transport"
	"github.com/libp2p/go-libp2p/p2p/host/autorelay"
	basichost "github.com/libp2p/go-libp2p/p2p/host/basic"
	blankhost "github.com/libp2p/go-libp2p/p2p/host/blank"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	"github.com/libp2p/go-libp2p/p2p/host/observedaddrs"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/net/upgrader"
	"github.com/libp2p/go-libp2p/p2p/protocol/autonatv2"
	circuit "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"
	ma "github.com/multiformats/go-multiaddr"
	madns "github.com/multiformats/go-multiaddr-dns"
	"github.com/quic-go/quic-go"
)

// The host is assembled from go-libp2p's parts instead of by libp2p.New, which links all its
// transports and a container for dependencies whatever the options say.

// assembled is a host with what it stands on. Close closes all of it, in the reverse order.
type assembled struct {
	*basichost.BasicHost
	tester   *autonatv2.AutoNAT // closed by the host
	closers  []io.Closer
	once     sync.Once
	closeErr error
}

// Close ends all connections and waits for what the host has running. It may be called again.
func (h *assembled) Close() error {
	h.once.Do(func() {
		for _, c := range slices.Backward(h.closers) {
			h.closeErr = errors.Join(h.closeErr, c.Close())
		}
	})
	return h.closeErr
}

func (h *assembled) add(c io.Closer) { h.closers = append(h.closers, c) }

// scaffold is what the transports of one swarm share.
type scaffold struct {
	cfg     Config
	key     crypto.PrivKey
	gater   connmgr.ConnectionGater
	manager network.ResourceManager
	dials   *dials
	voices  *voices // nil for the host that dials back for others
	// udp and ip6 notice that dials by UDP, or by IPv6, never succeed from here.
	udp, ip6 *swarm.BlackHoleSuccessCounter
}

// newHost makes a host that listens. It closes manager and conns, also if it fails.
func newHost(
	cfg Config, key crypto.PrivKey, g connmgr.ConnectionGater, manager network.ResourceManager,
	conns connmgr.ConnManager, d *dials, v *voices, meter *relayMeter,
) (host.Host, error) {
	h := &assembled{}
	if err := h.build(cfg, key, g, manager, conns, d, v, meter); err != nil {
		if h.BasicHost == nil {
			err = errors.Join(err, conns.Close(), manager.Close())
		}
		return nil, errors.Join(err, h.Close())
	}
	return h, nil
}

func (h *assembled) build(
	cfg Config, key crypto.PrivKey, g connmgr.ConnectionGater, manager network.ResourceManager,
	conns connmgr.ConnManager, d *dials, v *voices, meter *relayMeter,
) error {
	s := &scaffold{cfg: cfg, key: key, gater: g, manager: manager, dials: d, voices: v,
		// The detectors' windows are those of go-libp2p.
		udp: &swarm.BlackHoleSuccessCounter{N: 100, MinSuccesses: 5, Name: "UDP"},
		ip6: &swarm.BlackHoleSuccessCounter{N: 100, MinSuccesses: 5, Name: "IPv6"},
	}
	busOptions := []eventbus.Option{}
	swarmOptions := []swarm.Option{swarm.WithDialRanker(tcpFirst), swarm.WithMultiaddrResolver(
		resolver{swarm.ResolverFromMaDNS{Resolver: madns.DefaultResolver}, d})}
	if cfg.Metrics != nil {
		rcmgr.MustRegisterWith(cfg.Metrics)
		busOptions = append(busOptions, eventbus.WithMetricsTracer(
			eventbus.NewMetricsTracer(eventbus.WithRegisterer(cfg.Metrics))))
		swarmOptions = append(swarmOptions, swarm.WithMetricsTracer(
			swarm.NewMetricsTracer(swarm.WithRegisterer(cfg.Metrics))))
	}
	bus := eventbus.NewBus(busOptions...)
	sw, up, err := s.swarm(h, bus, swarmOptions...)
	if err != nil {
		return err
	}
	v.conns = sw.ConnsToPeer
	heard, err := v.listen(bus, len(cfg.Relays) > 0)
	if err != nil {
		return err
	}
	h.add(heard)
	observed, err := observedaddrs.NewManager(heard.bus, sw)
	if err != nil {
		return fmt.Errorf("addresses that others see: %w", err)
	}
	tester, err := s.tester(h)
	if err != nil {
		return fmt.Errorf("tests of addresses: %w", err)
	}
	h.tester = tester
	opts := &basichost.HostOpts{EventBus: bus, ConnManager: conns, UserAgent: "skerry",
		EnableMetrics: cfg.Metrics != nil, PrometheusRegisterer: cfg.Metrics,
		ObservedAddrsManager: observed, AutoNATv2: tester}
	if cfg.Relay {
		opts.EnableRelayService, opts.RelayServiceOpts = true, relayService(cfg, meter)
	}
	// What depends on whether others can reach the host asks when it starts.
	if err := s.decideReach(h, bus); err != nil {
		return err
	}
	made, err := basichost.NewHost(&attentive{sw, v}, opts)
	if err != nil {
		return err
	}
	// A host that has not been started cannot be closed, so it starts before anything else can fail.
	made.Start()
	h.BasicHost = made
	h.add(made)
	if err := sw.Listen(s.listen()...); err != nil {
		return err
	}
	observed.Start(sw)
	h.add(observed)
	if err := circuit.AddTransport(made, up); err != nil {
		return fmt.Errorf("relays: %w", err)
	}
	if len(cfg.Relays) > 0 {
		relays, err := autorelay.NewAutoRelay(made, useRelays(cfg)...)
		if err != nil {
			return fmt.Errorf("relays: %w", err)
		}
		relays.Start()
		h.add(relays)
	}
	return nil
}

// listen are the addresses to listen at. There is no QUIC in a private network.
func (s *scaffold) listen() []ma.Multiaddr {
	if s.cfg.NetworkKey == nil {
		return s.cfg.Listen
	}
	return slices.DeleteFunc(slices.Clone(s.cfg.Listen), func(m ma.Multiaddr) bool {
		_, err := m.ValueForProtocol(ma.P_QUIC_V1)
		return err == nil
	})
}

// swarm makes a swarm with TCP and, unless the network is private, QUIC.
func (s *scaffold) swarm(
	h *assembled, bus event.Bus, opts ...swarm.Option,
) (*swarm.Swarm, transport.Upgrader, error) {
	id, err := peer.IDFromPrivateKey(s.key)
	if err != nil {
		return nil, nil, err
	}
	book, err := newBook(id, s.voices)
	if err != nil {
		return nil, nil, err
	}
	book.relays = relaysOf(s.cfg.Relays)
	h.add(book)
	if err := errors.Join(
		book.AddPrivKey(id, s.key), book.AddPubKey(id, s.key.GetPublic())); err != nil {
		return nil, nil, err
	}
	muxers := []upgrader.StreamMuxer{{ID: yamux.ID, Muxer: muxer{}}}
	tls, err := libp2ptls.New(libp2ptls.ID, s.key, muxers)
	if err != nil {
		return nil, nil, err
	}
	up, err := upgrader.New(
		[]sec.SecureTransport{tls}, muxers, s.cfg.NetworkKey, s.manager, s.gater)
	if err != nil {
		return nil, nil, err
	}
	tcp, err := s.dials.newTCP(up, s.manager, nil)
	if err != nil {
		return nil, nil, err
	}
	transports := []transport.Transport{tcp}
	if s.cfg.NetworkKey == nil {
		ports, err := s.ports()
		if err != nil {
			return nil, nil, err
		}
		h.add(ports)
		quic, err := s.dials.newQUIC(s.key, ports, nil, s.gater, s.manager)
		if err != nil {
			return nil, nil, err
		}
		transports = append(transports, quic)
	}
	sw, err := swarm.NewSwarm(id, book, bus, append(opts, swarm.WithConnectionGater(s.gater),
		swarm.WithResourceManager(s.manager), swarm.WithUDPBlackHoleSuccessCounter(s.udp),
		swarm.WithIPv6BlackHoleSuccessCounter(s.ip6))...)
	if err != nil {
		return nil, nil, err
	}
	h.add(sw)
	for _, t := range transports {
		if err := sw.AddTransport(t); err != nil {
			return nil, nil, err
		}
	}
	return sw, up, nil
}

// ports makes the sockets of QUIC.
func (s *scaffold) ports() (*quicreuse.ConnManager, error) {
	raw, err := s.key.Raw()
	if err != nil {
		return nil, err
	}
	// Keys that follow from the node's own, so that a node that has restarted can end connections
	// from before (RFC 9000, section 10.3).
	reset, err := hkdf.Key(sha256.New, raw, nil, "skerry quic stateless reset", 32)
	if err != nil {
		return nil, err
	}
	token, err := hkdf.Key(sha256.New, raw, nil, "skerry quic address token", 32)
	if err != nil {
		return nil, err
	}
	opts := []quicreuse.Option{
		// A connection counts in the limits from its first packet.
		quicreuse.ConnContext(func(ctx context.Context, from *quic.ClientInfo) (context.Context, error) {
			at, err := quicreuse.ToQuicMultiaddr(from.RemoteAddr, quic.Version1)
			if err != nil {
				at = nil // the manager decides without
			}
			scope, err := s.manager.OpenConnection(network.DirInbound, false, at)
			if err != nil {
				return ctx, err
			}
			ctx = network.WithConnManagementScope(ctx, scope)
			context.AfterFunc(ctx, scope.Done)
			return ctx, nil
		}),
		quicreuse.VerifySourceAddress(s.manager.VerifySourceAddress),
	}
	if s.cfg.Metrics != nil {
		opts = append(opts, quicreuse.EnableMetrics(s.cfg.Metrics))
	}
	return quicreuse.NewConnManager(
		quic.StatelessResetKey(reset), quic.TokenGeneratorKey(token), opts...)
}

// tester dials back for others who ask whether they can be reached, and asks others (AutoNAT v2).
// It dials under an identity of its own, so that a connection that it makes is none of the node's.
func (s *scaffold) tester(h *assembled) (*autonatv2.AutoNAT, error) {
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		return nil, err
	}
	own := *s
	own.key, own.cfg.Metrics, own.voices = key, nil, nil
	bus := eventbus.NewBus()
	sw, _, err := own.swarm(h, bus, swarm.WithDialRanker(swarm.NoDelayDialRanker),
		swarm.WithReadOnlyBlackHoleDetector()) // such dials say nothing of the node's own network
	if err != nil {
		return nil, err
	}
	opts := []autonatv2.AutoNATOption{}
	if s.cfg.Metrics != nil {
		opts = append(opts, autonatv2.WithMetricsTracer(autonatv2.NewMetricsTracer(s.cfg.Metrics)))
	}
	return autonatv2.New(blankhost.NewBlankHost(sw, blankhost.WithEventBus(bus)), opts...)
}

// decideReach tells the parts of a host whether others can reach it, if the configuration says so.
// Otherwise watchReach finds out.
func (s *scaffold) decideReach(h *assembled, bus event.Bus) error {
	is := network.ReachabilityUnknown
	switch {
	case len(s.cfg.Relays) > 0:
		is = network.ReachabilityPrivate
	case s.cfg.Relay:
		is = network.ReachabilityPublic
	default:
		return nil
	}
	tell, err := bus.Emitter(new(event.EvtLocalReachabilityChanged), eventbus.Stateful)
	if err != nil {
		return fmt.Errorf("emit reachability: %w", err)
	}
	h.add(tell) // what it has told is kept for later listeners as long as it is open
	return tell.Emit(event.EvtLocalReachabilityChanged{Reachability: is})
}

// useRelays are the options of a node that others reach through relays.
func useRelays(cfg Config) []autorelay.Option {
	believeRelays()
	opts := []autorelay.Option{autorelay.WithStaticRelays(cfg.Relays), autorelay.WithBootDelay(0),
		autorelay.WithBackoff(10 * time.Second)}
	if cfg.Metrics != nil {
		opts = append(opts, autorelay.WithMetricsTracer(
			autorelay.NewMetricsTracer(autorelay.WithRegisterer(cfg.Metrics))))
	}
	return opts
}
