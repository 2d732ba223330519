package libp2pnet

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/skerry-sync/skerry/node/link"
)

// reach is what others have told this node about how they see it: they dial it back (AutoNAT v2),
// and say from where it calls them.
type reach struct {
	mu     sync.Mutex
	tested event.EvtHostReachableAddrsChanged
	seen   []sighting // the last ones
}

// sighting is where a peer saw a call by QUIC come from, which goes out from the port on which this
// node listens.
type sighting struct {
	by, at string // IP address of the peer; IP address and port
}

const maxSightings = 64

// watchReach keeps reach up to date, and tells the parts of the host that depend on it whether
// others can reach this node.
func (n *Network) watchReach() error {
	bus := n.host.EventBus()
	tested, err := bus.Subscribe(new(event.EvtHostReachableAddrsChanged))
	if err != nil {
		return fmt.Errorf("subscribe to reachability: %w", err)
	}
	met, err := bus.Subscribe(new(event.EvtPeerIdentificationCompleted))
	if err != nil {
		return fmt.Errorf("subscribe to identification: %w", err)
	}
	tell, err := bus.Emitter(new(event.EvtLocalReachabilityChanged), eventbus.Stateful)
	if err != nil {
		return fmt.Errorf("emit reachability: %w", err)
	}
	decided := n.cfg.Relay || len(n.cfg.Relays) > 0
	n.do(func() {
		defer tested.Close()
		defer met.Close()
		defer tell.Close()
		for {
			select {
			case <-n.ctx.Done():
				return
			case e := <-tested.Out():
				r := e.(event.EvtHostReachableAddrsChanged)
				n.reach.mu.Lock()
				n.reach.tested = r
				n.reach.mu.Unlock()
				is := network.ReachabilityUnknown
				if len(r.Reachable) > 0 {
					is = network.ReachabilityPublic
				} else if len(r.Unreachable) > 0 && len(r.Unknown) == 0 {
					is = network.ReachabilityPrivate
				}
				if !decided {
					_ = tell.Emit(event.EvtLocalReachabilityChanged{Reachability: is}) // fails only when closed
				}
			case e := <-met.Out():
				n.saw(e.(event.EvtPeerIdentificationCompleted))
			}
		}
	})
	return nil
}

func (n *Network) saw(e event.EvtPeerIdentificationCompleted) {
	if e.Conn == nil || e.ObservedAddr == nil || e.Conn.Stat().Direction != network.DirOutbound ||
		e.Conn.Stat().Limited {
		return
	}
	if _, err := e.ObservedAddr.ValueForProtocol(ma.P_QUIC_V1); err != nil {
		return
	}
	by, err := manet.ToIP(e.Conn.RemoteMultiaddr())
	if err != nil {
		return
	}
	_, at, err := manet.DialArgs(e.ObservedAddr)
	if err != nil {
		return
	}
	s := sighting{by.String(), at}
	n.reach.mu.Lock()
	defer n.reach.mu.Unlock()
	n.reach.seen = slices.DeleteFunc(n.reach.seen, func(x sighting) bool { return x.by == s.by })
	if n.reach.seen = append(n.reach.seen, s); len(n.reach.seen) > maxSightings {
		n.reach.seen = n.reach.seen[1:]
	}
}

// Situation implements link.Network.
func (n *Network) Situation() link.Situation {
	s := link.Situation{Relayed: []ma.Multiaddr{}, RelayFor: n.cfg.Relay, Table: string(n.cfg.DHT)}
	for _, m := range n.host.Addrs() {
		if isRelayed(m) {
			s.Relayed = append(s.Relayed, m)
		}
	}
	for _, p := range n.cfg.Relays {
		s.Relays = append(s.Relays, p.ID)
	}
	for _, p := range n.cfg.Bootstrap {
		s.Bootstrap = append(s.Bootstrap, p.ID)
	}
	s.TableSize, s.Serves = n.TableSize()
	s.Seen = n.publicAddrs()
	n.reach.mu.Lock()
	defer n.reach.mu.Unlock()
	s.Reachable = slices.Clone(n.reach.tested.Reachable)
	s.Unreachable = slices.Clone(n.reach.tested.Unreachable)
	s.Untested = slices.Clone(n.reach.tested.Unknown)
	s.NAT = natKind(n.host, n.reach.seen)
	return s
}

// natKind tells from sightings by peers at different addresses how a router translates.
func natKind(h host.Host, seen []sighting) link.NAT {
	own := map[string]bool{}
	if local, err := h.Network().InterfaceListenAddresses(); err == nil {
		for _, m := range local {
			if ip, err := manet.ToIP(m); err == nil {
				own[ip.String()] = true
			}
		}
	}
	// IPv6 and IPv4 are translated each for itself
	at, translated, differ := map[bool]string{}, 0, false
	for _, s := range seen {
		ip, _, err := net.SplitHostPort(s.at)
		if err != nil || own[ip] {
			continue
		}
		six := strings.Contains(ip, ":")
		differ = differ || at[six] != "" && at[six] != s.at
		at[six] = s.at
		translated++
	}
	switch {
	case len(seen) == 0:
		return link.NATUnknown
	case translated == 0:
		return link.NATNone
	case differ:
		return link.NATDependent
	case translated > len(at):
		return link.NATIndependent
	}
	return link.NATSome
}
