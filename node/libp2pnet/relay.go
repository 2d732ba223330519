package libp2pnet

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/host/autorelay"
	"github.com/libp2p/go-libp2p/p2p/host/observedaddrs"
	relayv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
)

// A node that others cannot reach directly keeps a place at relays (circuit relay v2), whose addresses are then among its own. Two nodes that meet through a relay try to connect directly, by both dialling at the same moment
// (DCUtR); what they say to each other goes directly as soon as there is a way. QUIC does this best: it dials from the port on which it listens.

const (
	// directWait is how long a stream waits for a direct connection before it goes through the relay.
	directWait = 5 * time.Second
	// relayTime and relayBytes bound one connection through this node as a relay: enough for what cannot go directly, and not a way to send a disk.
	relayTime = time.Hour
	// maxRetries is how often a connection through a relay is given up, in the hope that the next one becomes a direct one.
	maxRetries = 2
	// firstTry is the time after which that is done first: longer than it takes to connect directly where that succeeds at once.
	firstTry   = 3 * time.Second
	relayBytes = 256 << 20
)

func relayOptions(cfg Config) []libp2p.Option {
	opts := []libp2p.Option{libp2p.EnableRelay(), libp2p.EnableHolePunching()}
	if cfg.Relay {
		resources := relayv2.DefaultResources()
		resources.Limit = &relayv2.RelayLimit{Duration: relayTime, Data: relayBytes}
		opts = append(opts, libp2p.EnableRelayService(relayv2.WithResources(resources)), libp2p.ForceReachabilityPublic())
	}
	if len(cfg.Relays) > 0 {
		believeRelays()
		opts = append(opts, libp2p.EnableAutoRelayWithStaticRelays(cfg.Relays, autorelay.WithBootDelay(0), autorelay.WithBackoff(10*time.Second)), libp2p.ForceReachabilityPrivate())
	}
	return opts
}

// believeRelays lets a node believe a single peer that tells it under which address of its router it is seen, instead of four: often the relay is the only one. One that lies has others dial a wrong address, and no more.
var believeRelays = sync.OnceFunc(func() { observedaddrs.ActivationThresh = 1 })

func limited(c network.Conn) int {
	if c.Stat().Limited {
		return 1
	}
	return 0
}

// retryDirect gives a connection through a relay up if no direct one follows from it: two nodes that have only just started may meet before they are ready to try. It is called by one goroutine at a time.
func (n *Network) retryDirect(p peer.ID, again map[peer.ID]int) {
	if n.ID() > p || again[p] >= maxRetries { // one of the two is enough
		return
	}
	wait := firstTry
	if again[p] > 0 {
		wait = 2 * directWait
	}
	again[p]++
	n.do(func() {
		select {
		case <-n.ctx.Done():
		case <-time.After(wait):
			if n.host.Network().Connectedness(p) == network.Limited {
				n.cfg.Log.Debug("still through a relay: trying anew", "peer", p, "error", n.host.Network().ClosePeer(p))
			}
		}
	})
}

// newStream opens a stream on a connection that is there: directly if that is possible, or becomes possible soon, and otherwise through a relay.
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
