package libp2pnet

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/host/observedaddrs"
	relayv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	"github.com/libp2p/go-libp2p/p2p/protocol/holepunch"
	"github.com/libp2p/go-libp2p/p2p/protocol/identify"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/prometheus/client_golang/prometheus"
)

// A node that others cannot reach directly keeps a place at relays (circuit relay v2), whose
// addresses are then among its own. Two nodes that meet through a relay try to connect directly, by
// both dialling at the same moment (DCUtR); what they say to each other goes directly as soon as
// there is a way. QUIC does this best: it dials from the port on which it listens.

const (
	// directWait is how long a stream waits for a direct connection before it goes through the relay.
	directWait = 5 * time.Second
	// relayTime and relayBytes bound one connection through this node as a relay: enough for what
	// cannot go directly, and not a way to send a disk.
	relayTime  = time.Hour
	relayBytes = 256 << 20
	// punchTime bounds one attempt to connect directly: some round trips across the world. The first
	// attempt is a plain dial, in vain if the peer's router lets nobody in, and must not take long.
	punchTime = 1500 * time.Millisecond
	// Attempts go on as long as the peers are connected through a relay only, ever more slowly: they
	// may have only just started, and be not ready.
	firstPunch = 100 * time.Millisecond
	lastPunch  = 5 * time.Minute
	// lookPause is the longest pause between two looks for an address at which this node is seen.
	lookPause = time.Second
)

// relayMeter counts what this node relays, and holds it back: a relayed stream goes on when
// BytesTransferred returns, which libp2p calls after each piece.
type relayMeter struct {
	relayv2.MetricsTracer
	ctx  context.Context
	pass atomic.Pointer[func(context.Context, int) error]
}

func newRelayMeter(ctx context.Context, r prometheus.Registerer) *relayMeter {
	if r == nil {
		r = prometheus.NewRegistry() // which nobody reads
	}
	return &relayMeter{MetricsTracer: relayv2.NewMetricsTracer(relayv2.WithRegisterer(r)), ctx: ctx}
}

// BytesTransferred implements relayv2.MetricsTracer.
func (m *relayMeter) BytesTransferred(n int) {
	m.MetricsTracer.BytesTransferred(n)
	if pass := m.pass.Load(); pass != nil {
		_ = (*pass)(m.ctx, n) // fails only when the network is being closed, and the stream with it
	}
}

// MeterRelay implements link.Relay.
func (n *Network) MeterRelay(pass func(context.Context, int) error) { n.relayed.pass.Store(&pass) }

// relayService are the options of a node through which others are reached.
func relayService(cfg Config, meter *relayMeter) []relayv2.Option {
	resources := relayv2.DefaultResources()
	resources.Limit = &relayv2.RelayLimit{Duration: relayTime, Data: relayBytes}
	resources.MaxReservations = cfg.MaxPeers
	resources.MaxReservationsPerIP = perAddress
	resources.MaxReservationsPerASN = cfg.MaxPeers
	return []relayv2.Option{relayv2.WithResources(resources), relayv2.WithMetricsTracer(meter)}
}

// believeRelays lets a node believe a single peer that tells it under which address of its router
// it is seen, instead of four: often the relay is the only one. One that lies has others dial a
// wrong address, and no more.
var believeRelays = sync.OnceFunc(func() { observedaddrs.ActivationThresh = 1 })

func limited(c network.Conn) int {
	if c.Stat().Limited {
		return 1
	}
	return 0
}

// puncher connects directly to peers that are connected through a relay.
type puncher struct {
	n *Network

	mu      sync.Mutex
	svc     *holepunch.Service // nil until this node knows an address at which it is seen
	running map[peer.ID]bool
}

// publicAddrs are where this node is seen from outside, whether or not anybody can reach it there.
func (n *Network) publicAddrs() (all []ma.Multiaddr) {
	if h, ok := n.host.(interface{ AllAddrs() []ma.Multiaddr }); ok {
		all = slices.Clone(h.AllAddrs())
	}
	return slices.DeleteFunc(all, func(m ma.Multiaddr) bool { return !isPublic(m) || isRelayed(m) })
}

func isRelayed(m ma.Multiaddr) bool {
	_, err := m.ValueForProtocol(ma.P_CIRCUIT)
	return err == nil
}

// start makes the service as soon as there is an address to tell, so that it answers peers from
// then on.
func (p *puncher) start() {
	ids, ok := p.n.host.(interface{ IDService() identify.IDService })
	if !ok {
		return
	}
	p.n.do(func() {
		// There may never be a public address.
		for wait := firstPunch / 2; len(p.n.publicAddrs()) == 0; wait = min(wait*5/4, lookPause) {
			select {
			case <-p.n.ctx.Done():
				return
			case <-time.After(wait):
			}
		}
		svc, err := holepunch.NewService(
			p.n.host, ids.IDService(), p.n.publicAddrs, holepunch.DirectDialTimeout(punchTime),
			holepunch.WithAddrFilter(punchable{}),
		)
		if err != nil {
			p.n.cfg.Log.Warn("no direct connections through routers", "error", err)
			return
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.svc = svc
	})
}

// punchable are the addresses to which holes are made: public ones, as this node tells them itself.
// Who is behind a relay would otherwise have this node knock at doors of its own network.
type punchable struct{}

// maxPunched is to how many addresses of a peer holes are made at a time.
const maxPunched = 8

// FilterLocal implements holepunch.AddrFilter.
func (punchable) FilterLocal(_ peer.ID, own []ma.Multiaddr) []ma.Multiaddr { return own }

// FilterRemote implements holepunch.AddrFilter.
func (punchable) FilterRemote(_ peer.ID, all []ma.Multiaddr) (some []ma.Multiaddr) {
	for _, m := range all {
		if _, ok := addrOf(m); ok && isPublic(m) && len(some) < maxPunched {
			some = append(some, m)
		}
	}
	return some
}

// close ends the service; start has ended.
func (p *puncher) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.svc == nil {
		return nil
	}
	return p.svc.Close()
}

// punch tries to connect directly to a peer until it has or the peer is gone. The side that was
// called through the relay does so.
func (p *puncher) punch(id peer.ID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running[id] || !p.called(id) {
		return
	}
	if p.running == nil {
		p.running = map[peer.ID]bool{}
	}
	p.running[id] = p.n.do(func() {
		defer func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			delete(p.running, id)
		}()
		for wait := firstPunch; p.n.host.Network().Connectedness(id) == network.Limited; wait = min(
			2*wait, lastPunch,
		) {
			p.mu.Lock()
			svc := p.svc
			p.mu.Unlock()
			if svc != nil {
				if err := svc.DirectConnect(id); err != nil {
					p.n.cfg.Log.Debug("no direct connection through routers yet", "peer", id, "error", err)
				}
			}
			select {
			case <-p.n.ctx.Done():
				return
			case <-time.After(wait):
			}
		}
	})
}

// called reports whether a peer has called this node through a relay, and not this node it.
func (p *puncher) called(id peer.ID) bool {
	return slices.ContainsFunc(p.n.host.Network().ConnsToPeer(id), func(c network.Conn) bool {
		return c.Stat().Limited && c.Stat().Direction == network.DirInbound
	})
}

// newStream opens a stream on a connection that is there: directly if that is possible, or becomes
// possible soon, and otherwise through a relay.
func (n *Network) newStream(ctx context.Context, p peer.ID) (network.Stream, error) {
	if n.host.Network().Connectedness(p) != network.Limited {
		return n.host.Network().NewStream(ctx, p)
	}
	waiting, cancel := context.WithTimeout(ctx, directWait)
	defer cancel()
	s, err := n.host.Network().NewStream(waiting, p)
	if err == nil || ctx.Err() != nil {
		return s, err
	}
	s, relayErr := n.host.Network().NewStream(network.WithAllowLimitedConn(ctx, "skerry"), p)
	if relayErr != nil {
		return nil, errors.Join(relayErr, err)
	}
	return s, nil
}
