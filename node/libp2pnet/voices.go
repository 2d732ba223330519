package libp2pnet

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	ma "github.com/multiformats/go-multiaddr"
)

// Other peers tell a node at which of its addresses it can be reached: it asks them to dial it back
// (AutoNAT v2), and they say from where its calls come (identify). Both can be lies. Whoever is
// believed that an address cannot be reached takes it out of tickets; whoever is believed that one
// can be reached takes out the relays.
//
// So this node asks only peers that the configuration or a person names, and others that it has
// dialled itself at a public address. Each network has one vote about each address while the vote
// counts; only peers of the configuration are asked again. A dial back counts only on a connection
// that was made for it.

const (
	// voiceTime is how long an answer counts: as long as go-libp2p keeps it.
	voiceTime = 5 * time.Hour
	// maxVotes is how many votes are remembered. With more at a time, further ones do not count.
	maxVotes = 1 << 13
	// maxKnown is how many peers that a person has named are remembered.
	maxKnown = 1 << 12
)

// vote is what one network has said of one address of this node.
type vote struct {
	by    netip.Prefix
	about string // the bytes of the address
}

// voices decides whom this node believes about itself.
type voices struct {
	now    func() time.Time
	config map[peer.ID]bool // read only
	// place returns where a connection leads, and whether strangers there may be asked.
	place func(network.Conn) (netip.Prefix, bool)
	// conns returns the connections to a peer; it is set before anybody is asked.
	conns func(peer.ID) []network.Conn
	// again has those that ask look anew at a peer; it is set before anybody is connected.
	again event.Emitter

	mu    sync.Mutex
	named map[peer.ID]bool // by a person
	votes map[vote]time.Time
	seen  map[netip.Prefix]network.Conn // whose word about this node counts; see sightings
}

func newVoices(config []peer.AddrInfo, now func() time.Time) *voices {
	v := &voices{now: now, config: map[peer.ID]bool{}, place: publicPlace,
		conns: func(peer.ID) []network.Conn { return nil }, named: map[peer.ID]bool{},
		votes: map[vote]time.Time{}, seen: map[netip.Prefix]network.Conn{}}
	for _, p := range config {
		v.config[p.ID] = true
	}
	return v
}

// publicPlace returns the network of 16 bits of IPv4, or 32 of IPv6, to which a connection leads:
// as much as one party may easily have. Neighbours on a local network do not know how others see
// this node.
func publicPlace(c network.Conn) (netip.Prefix, bool) {
	a, ok := peerAddr(c.RemoteMultiaddr())
	return wideNetwork(a), ok && isPublic(c.RemoteMultiaddr())
}

func wideNetwork(a netip.Addr) netip.Prefix {
	bits := 32
	if a.Is4() {
		bits = 16
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// know notes a connected peer that a person has named.
func (v *voices) know(p peer.ID) {
	if v.add(p) && v.again != nil { // it may be asked from now on
		_ = v.again.Emit(event.EvtPeerProtocolsUpdated{Peer: p}) // fails only when closed
	}
}

// add reports whether a peer had not been noted.
func (v *voices) add(p peer.ID) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.named[p] {
		return false
	}
	for old := range v.named { // in no order
		if len(v.named) < maxKnown {
			break
		}
		delete(v.named, old)
	}
	v.named[p] = true
	return true
}

// knows reports whether the configuration or a person names a peer.
func (v *voices) knows(p peer.ID) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.config[p] || v.named[p]
}

// asks reports whether a peer may be asked, and for which network it speaks.
func (v *voices) asks(p peer.ID) (by netip.Prefix, ok bool) {
	known := v.knows(p)
	for _, c := range v.conns(p) {
		if c.Stat().Limited {
			continue
		}
		at, public := v.place(c)
		if known || public && c.Stat().Direction == network.DirOutbound {
			return at, true
		}
	}
	return by, false
}

// hears takes the vote of a peer about an address of this node, if it has one.
func (v *voices) hears(p peer.ID, by netip.Prefix, about ma.Multiaddr) error {
	if v.config[p] {
		return nil
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	now, x := v.now(), vote{by, string(about.Bytes())}
	if at, ok := v.votes[x]; ok && now.Sub(at) < voiceTime {
		return fmt.Errorf("somebody in %s has already said whether %s can be reached", by, about)
	}
	if len(v.votes) >= maxVotes {
		for x, at := range v.votes {
			if now.Sub(at) >= voiceTime {
				delete(v.votes, x)
			}
		}
	}
	if len(v.votes) >= maxVotes {
		return fmt.Errorf("too many have said whether %s can be reached", about)
	}
	v.votes[x] = now
	return nil
}

// dialsBack reports whether a peer may be one that dials back for another: this node has neither
// dialled it nor met it through a relay, which would say nothing of its own addresses.
func (v *voices) dialsBack(p peer.ID) bool {
	return !slices.ContainsFunc(v.conns(p), func(c network.Conn) bool {
		return c.Stat().Limited || c.Stat().Direction != network.DirInbound
	})
}

// sees reports whether what a peer says of where a call came from counts: of a network that nobody
// has named, one connection does. A node that believes a single peer, because it has relays, takes
// no word of strangers that have dialled it.
func (v *voices) sees(c network.Conn, dialledOnly bool) bool {
	if c == nil || c.Stat().Limited {
		return false
	}
	if v.knows(c.RemotePeer()) {
		return true
	}
	if dialledOnly && c.Stat().Direction != network.DirOutbound {
		return false
	}
	at, _ := v.place(c)
	v.mu.Lock()
	defer v.mu.Unlock()
	if old := v.seen[at]; old != nil && old != c && !old.IsClosed() {
		return false
	}
	for at, old := range v.seen {
		if old.IsClosed() {
			delete(v.seen, at)
		}
	}
	v.seen[at] = c
	return true
}

// hearing is a bus on which those identifications come that say where this node is seen, and count.
type hearing struct {
	bus         event.Bus
	sub         event.Subscription
	tell, again event.Emitter
	done        chan struct{}
}

// listen passes on what counts of what comes on a bus.
func (v *voices) listen(from event.Bus, dialledOnly bool) (*hearing, error) {
	h := &hearing{bus: eventbus.NewBus(), done: make(chan struct{})}
	var err error
	if h.again, err = from.Emitter(new(event.EvtPeerProtocolsUpdated)); err != nil {
		return nil, fmt.Errorf("emit protocols: %w", err)
	}
	v.again = h.again
	if h.sub, err = from.Subscribe(new(event.EvtPeerIdentificationCompleted)); err != nil {
		return nil, errors.Join(fmt.Errorf("subscribe to identification: %w", err), h.again.Close())
	}
	if h.tell, err = h.bus.Emitter(new(event.EvtPeerIdentificationCompleted)); err != nil {
		return nil, errors.Join(
			fmt.Errorf("emit identification: %w", err), h.sub.Close(), h.again.Close())
	}
	go func() {
		defer close(h.done)
		for e := range h.sub.Out() {
			if x := e.(event.EvtPeerIdentificationCompleted); v.sees(x.Conn, dialledOnly) {
				_ = h.tell.Emit(x) // fails only when closed
			}
		}
	}()
	return h, nil
}

// Close ends what listen has begun.
func (h *hearing) Close() error {
	err := h.sub.Close()
	<-h.done
	return errors.Join(err, h.tell.Close(), h.again.Close())
}
