package libp2pnet

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/protocol/identify"
	ma "github.com/multiformats/go-multiaddr"
	multistream "github.com/multiformats/go-multistream"
)

// A data directory that was copied has the same node key, and so the same id: two such nodes that
// run are one for all others, and each answers for the other. They never meet, since nobody dials
// their own id. So where somebody names this node's id at an address that is not its own, the node
// dials that under a new key. Whoever completes the handshake there has this node's key. It is this
// node itself if that key has come to its own host: others can pass on connections, and can do no
// more than that.

const (
	// twinTime bounds one attempt.
	twinTime = 5 * time.Second
	// twinAgain is after what time an address is tried again, twinEvery how often one at which a twin
	// was, and twinFresh for how long it counts as being there after it was last found.
	twinAgain, twinEvery, twinFresh = 10 * time.Minute, 2 * time.Minute, 5 * time.Minute
	// maxTwinAddrs is how many addresses are tried at a time, and maxTried how many are remembered.
	// While there is no room, no others are tried: anybody can name addresses.
	maxTwinAddrs, maxTried = 4, 64
)

// twins is what a network knows of other processes with its key.
type twins struct {
	mu      sync.Mutex
	probing bool
	as      peer.ID // under which id
	came    bool    // to this node's own host
	tried   map[string]time.Time
	at      ma.Multiaddr // nil if there is none
	found   time.Time
}

// noteInbound takes note of who has proved its id to this node's host.
func (t *twins) noteInbound(p peer.ID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.came = t.came || p == t.as
}

// begin reports whether addresses are to be tried now, and which. If so, end must be called.
func (t *twins) begin(all []ma.Multiaddr, now time.Time) (some []ma.Multiaddr) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.probing {
		return nil
	}
	for at, last := range t.tried {
		if now.Sub(last) >= twinAgain {
			delete(t.tried, at)
		}
	}
	for _, m := range all {
		_, again := t.tried[string(m.Bytes())]
		known := t.at != nil && t.at.Equal(m) && now.Sub(t.found) >= twinEvery
		if again && !known || !again && len(t.tried) >= maxTried || len(some) == maxTwinAddrs {
			continue
		}
		if t.tried == nil {
			t.tried = map[string]time.Time{}
		}
		t.tried[string(m.Bytes())] = now
		some = append(some, m)
	}
	t.probing = len(some) > 0
	return some
}

func (t *twins) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.probing, t.as, t.came = false, "", false
}

// where returns where a twin is.
func (t *twins) where(now time.Time) ma.Multiaddr {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.at != nil && now.Sub(t.found) >= twinFresh {
		t.at = nil
	}
	return t.at
}

// Twin implements link.Twins.
func (n *Network) Twin() ma.Multiaddr { return n.twins.where(time.Now()) }

// LookForTwin implements link.Twins.
func (n *Network) LookForTwin(addrs []ma.Multiaddr) {
	own := n.host.Network().ListenAddresses()
	if all, err := n.host.Network().InterfaceListenAddresses(); err == nil {
		own = append(own, all...)
	}
	var others []ma.Multiaddr
	for _, m := range addrs {
		bare, id := peer.SplitAddr(m)
		if bare == nil || id != "" && id != n.ID() || isRelayed(bare) ||
			slices.ContainsFunc(own, bare.Equal) {
			continue
		}
		others = append(others, bare)
	}
	some := n.twins.begin(others, time.Now())
	if len(some) == 0 {
		return
	}
	if !n.do(func() {
		defer n.twins.end()
		n.probe(some)
	}) {
		n.twins.end()
	}
}

// probe tries addresses until a twin is found.
func (n *Network) probe(addrs []ma.Multiaddr) {
	for _, m := range addrs {
		is, err := n.isTwin(m)
		if err != nil {
			n.cfg.Log.Debug("looking for another process with this node's key", "at", m, "error", err)
		}
		if !is {
			continue
		}
		known := n.Twin() != nil
		n.twins.mu.Lock()
		n.twins.at, n.twins.found = m, time.Now()
		n.twins.mu.Unlock()
		if !known {
			n.cfg.Log.Error("another node runs with this node's key: its data directory is a copy. Stop "+
				"one of them, give it a key of its own with skerry store renew-key, and start it again",
				"at", m)
		}
		return
	}
}

// isTwin dials an address under a new key, and reports whether another process than this one proves
// there that it has this node's key.
func (n *Network) isTwin(at ma.Multiaddr) (is bool, err error) {
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		return false, err
	}
	as, err := peer.IDFromPrivateKey(key)
	if err != nil {
		return false, err
	}
	n.twins.mu.Lock()
	n.twins.as, n.twins.came = as, false
	n.twins.mu.Unlock()
	s := &scaffold{
		cfg: n.cfg, key: key, gater: n.gater, manager: &network.NullResourceManager{}, dials: n.dials,
		udp: &swarm.BlackHoleSuccessCounter{}, ip6: &swarm.BlackHoleSuccessCounter{},
	}
	s.cfg.Metrics, s.cfg.Listen = nil, nil
	h := &assembled{}
	defer func() { err = errors.Join(err, h.Close()) }()
	sw, _, err := s.swarm(h, eventbus.NewBus(), swarm.WithDialRanker(swarm.NoDelayDialRanker))
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(n.ctx, twinTime)
	defer cancel()
	sw.Peerstore().AddAddr(n.ID(), at, peerstore.TempAddrTTL)
	c, err := sw.DialPeer(ctx, n.ID())
	if err != nil {
		return false, err
	}
	// Once it has answered, the other end has seen who calls.
	stream, err := c.NewStream(ctx)
	if err != nil {
		return false, err
	}
	defer func() { _ = stream.Reset() }() // it has served
	if err := stream.SetDeadline(time.Now().Add(twinTime)); err != nil {
		return false, err
	}
	if err := multistream.SelectProtoOrFail(protocol.ID(identify.ID), stream); err != nil {
		return false, err
	}
	n.twins.mu.Lock()
	defer n.twins.mu.Unlock()
	return !n.twins.came, nil
}

// watchTwin looks again and again whether a twin is still where it was.
func (n *Network) watchTwin() {
	tick := time.NewTicker(twinEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if at := n.Twin(); at != nil {
				n.LookForTwin([]ma.Multiaddr{at})
			}
		case <-n.ctx.Done():
			return
		}
	}
}
