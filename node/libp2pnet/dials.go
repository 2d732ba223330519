package libp2pnet

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/pnet"
	"github.com/libp2p/go-libp2p/core/transport"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	quic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/libp2p/go-libp2p/p2p/transport/tcpreuse"
	ma "github.com/multiformats/go-multiaddr"
)

// Strangers name addresses in many places: tickets in registrations, the hash table, what a peer
// says of itself, requests to test an address or to connect directly. A node that dialled them all
// would be a weapon against whoever is at these addresses. So every connection that leaves this
// node goes through the transports of this file, which ration dials to addresses that have proved
// nothing.
//
// An address is proved while the last dial to it reached the peer that is said to be there. Dials
// are not rationed to proved addresses, nor to those at which the configuration or a person names a
// peer. What others say of where a named peer is, is rationed like all else: it must neither hit
// somebody else nor keep the node from the address that was named.
const (
	// oneBurst is how many dials may go to one IPv4 address, or one IPv6 network of 64 bits, at
	// once; onePause is the time until the next. The pause doubles with every oneBurst failures in
	// a row, up to onePause << maxDoubling.
	oneBurst    = 64
	onePause    = 4 * time.Second
	maxDoubling = 6
	// netBurst and netPause are those of an IPv4 network of 24 bits, or an IPv6 one of 48.
	netBurst = 256
	netPause = time.Second
	// allBurst and allPause are those of all addresses together.
	allBurst = 1024
	allPause = time.Second / 16
	// maxTrying is how many dials to unproved addresses may be under way at a time, and maxTryingOne
	// how many of them to addresses of one peer. libp2p dials at most 160 addresses at once over TCP,
	// and dialsToOne of one peer: the rest is for the addresses that are not rationed.
	maxTrying    = 96
	maxTryingOne = 16
	dialsToOne   = 32
	// maxTryingNear is how many of them may be to peers that are announced on the local network, and
	// nearBurst and nearPause are the ration of these, in place of that of all.
	maxTryingNear = maxTrying / 2
	nearBurst     = 256
	nearPause     = time.Second / 4
	// maxProved is how many proved addresses are remembered, and maxRations of how many networks is
	// known what they have used up.
	maxProved  = 1 << 13
	maxRations = 1 << 14
)

// RationedError reports an address that is not dialled now, because too many dials to unproved
// addresses there, or anywhere, have been made. It may be tried again later.
type RationedError struct{ Addr ma.Multiaddr }

func (e *RationedError) Error() string {
	return fmt.Sprintf(
		"%s is not dialled now: too many dials to unproved addresses; try again later", e.Addr,
	)
}

// place is where a peer is said to be. TCP and UDP share one: nodes listen at the same port of
// both.
type place struct {
	p  peer.ID
	at netip.AddrPort
}

// ration is what is left of a budget of dials.
type ration struct {
	burst  float64
	pause  time.Duration
	left   float64
	at     time.Time // when left was counted
	failed int       // dials in a row
}

func newRation(burst int, pause time.Duration, now time.Time) *ration {
	return &ration{burst: float64(burst), pause: pause, left: float64(burst), at: now}
}

// count brings left up to date. A clock that goes back adds nothing.
func (r *ration) count(now time.Time) {
	pause := r.pause << min(r.failed/int(r.burst), maxDoubling)
	r.left = min(r.burst, r.left+max(0, now.Sub(r.at).Seconds()/pause.Seconds()))
	r.at = now
}

// names counts where peers are said to be by whoever is trusted to say it.
type names struct {
	at map[place]int
	// hosts has peers that are named by a host name, by what hostOf says; see hostnames.go.
	hosts map[peer.ID]map[string]int
}

func newNames() names { return names{map[place]int{}, map[peer.ID]map[string]int{}} }

// add counts a peer, and the relays in its addresses, n times more.
func (n *names) add(p peer.AddrInfo, by int) {
	for _, m := range p.Addrs {
		id := p.ID
		if via, _ := ma.SplitFunc(m, func(c ma.Component) bool {
			return c.Code() == ma.P_CIRCUIT
		}); isRelayed(m) {
			relay, err := peer.IDFromP2PAddr(via)
			if err != nil {
				continue // it cannot be dialled
			}
			id, m = relay, via
		}
		if at, err := placeOf(id, m); err == nil {
			bump(n.at, at, by)
		} else if host := hostOf(m); host != "" {
			if n.hosts[id] == nil {
				n.hosts[id] = map[string]int{}
			}
			if bump(n.hosts[id], host, by); len(n.hosts[id]) == 0 {
				delete(n.hosts, id)
			}
		}
	}
}

func bump[K comparable](m map[K]int, k K, by int) {
	if m[k] += by; m[k] <= 0 {
		delete(m, k)
	}
}

// dials rations dials.
type dials struct {
	now    func() time.Time
	config names // those that the configuration names; read only

	mu        sync.Mutex
	named     names           // those that a person has dialled, by how many dials are under way
	trying    int             // dials to unproved addresses that are under way,
	tryingOne map[peer.ID]int // and those of them to one peer
	proved    map[place]bool
	led       map[string]led // where host names lead by which peers are named
	all       *ration
	near      nearDials
	rations   map[netip.Prefix]*ration
}

func newDials(config []peer.AddrInfo, now func() time.Time) *dials {
	d := &dials{now: now, config: newNames(), named: newNames(), tryingOne: map[peer.ID]int{},
		proved: map[place]bool{}, led: map[string]led{}, all: newRation(allBurst, allPause, now()),
		near:    nearDials{of: map[peer.ID]int{}, ration: newRation(nearBurst, nearPause, now())},
		rations: map[netip.Prefix]*ration{}}
	for _, p := range config {
		d.config.add(p, 1)
	}
	return d
}

// name exempts the addresses of a peer, and of the relays in them, until the function that it
// returns is called.
func (d *dials) name(p peer.AddrInfo) (end func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.named.add(p, 1)
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.named.add(p, -1)
		d.forgetLed()
	}
}

// placeOf returns where m says that p is.
func placeOf(p peer.ID, m ma.Multiaddr) (place, error) {
	a, ok := addrOf(m)
	if !ok {
		return place{}, fmt.Errorf("%s does not begin with an IP address", m)
	}
	var port uint16
	for _, c := range m {
		if c.Code() == ma.P_TCP || c.Code() == ma.P_UDP {
			if b := c.RawValue(); len(b) == 2 {
				port = uint16(b[0])<<8 | uint16(b[1])
			}
			break
		}
	}
	return place{p, netip.AddrPortFrom(a, port)}, nil
}

// start counts a dial, or refuses it with a *RationedError. ended must be told how it ended.
func (d *dials) start(p peer.ID, m ma.Multiaddr) (ended func(error), err error) {
	at, err := placeOf(p, m)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	var used []*ration
	last, near := d.all, false
	if !d.isNamed(at) && !d.proved[at] {
		if d.near.of[p] > 0 {
			last, near = d.near.ration, true
		}
		if d.trying >= maxTrying || d.tryingOne[p] >= maxTryingOne ||
			near && d.near.trying >= maxTryingNear {
			return nil, &RationedError{m}
		}
		if used = d.rationsFor(at.at.Addr(), last); used == nil {
			return nil, &RationedError{m}
		}
		for _, r := range used {
			r.left--
		}
		d.trying++
		d.tryingOne[p]++
		if near {
			d.near.trying++
		}
	}
	return func(err error) { d.end(at, used, near, err) }, nil
}

// rationsFor returns the rations of an address, from the narrowest, or none if one is used up. last
// is the widest. The caller holds the lock.
func (d *dials) rationsFor(a netip.Addr, last *ration) []*ration {
	one, wide := 64, 48
	if a.Is4() {
		one, wide = 32, 24
	}
	now := d.now()
	used := []*ration{
		d.ration(a, one, oneBurst, onePause, now),
		d.ration(a, wide, netBurst, netPause, now),
		last,
	}
	for _, r := range used {
		if r.count(now); r.left < 1 {
			return nil
		}
	}
	return used
}

func (d *dials) ration(a netip.Addr, bits, burst int, pause time.Duration, now time.Time) *ration {
	key := netip.PrefixFrom(a, bits).Masked()
	r := d.rations[key]
	if r == nil {
		if len(d.rations) >= maxRations {
			d.forget(now)
		}
		r = newRation(burst, pause, now)
		d.rations[key] = r
	}
	return r
}

// forget drops the rations that are whole again, and any other if there are none. Those are few:
// the ration of all addresses bounds how many are used up at a time.
func (d *dials) forget(now time.Time) {
	for key, r := range d.rations {
		if r.count(now); r.left >= r.burst {
			delete(d.rations, key)
		}
	}
	for key := range d.rations {
		if len(d.rations) < maxRations {
			return
		}
		delete(d.rations, key)
	}
}

// end notes how a dial ended. One that reached the peer costs nothing. One that was given up says
// nothing of the address.
func (d *dials) end(at place, used []*ration, near bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(used) > 0 {
		d.trying--
		bump(d.tryingOne, at.p, -1)
	}
	if near {
		d.near.trying--
	}
	if errors.Is(err, context.Canceled) {
		return
	}
	if err != nil {
		delete(d.proved, at)
		if len(used) > 0 {
			used[0].failed++
		}
		return
	}
	for key := range d.proved { // in no order
		if len(d.proved) < maxProved {
			break
		}
		delete(d.proved, key)
	}
	d.proved[at] = true
	for i, r := range used {
		r.left = min(r.burst, r.left+1)
		if i == 0 {
			r.failed = 0
		}
	}
}

// dialInParallel has libp2p dial so many addresses of one peer at once that those of which it only
// has hearsay never keep it from the others.
var dialInParallel = sync.OnceFunc(func() { swarm.DefaultPerPeerRateLimit = dialsToOne })

// rationedTCP is the TCP transport with rationed dials.
type rationedTCP struct {
	*tcp.TcpTransport
	dials *dials
}

func (d *dials) newTCP(
	u transport.Upgrader, r network.ResourceManager, shared *tcpreuse.ConnMgr,
) (*rationedTCP, error) {
	// Two nodes that find each other often dial at the same moment. From their listening ports that
	// would be one TCP connection opened from both ends, with a TLS client at each; so each dials
	// from a port of its own.
	t, err := tcp.NewTCPTransport(u, r, shared, tcp.DisableReuseport())
	if err != nil {
		return nil, err
	}
	return &rationedTCP{t, d}, nil
}

// Dial implements transport.Transport.
func (t *rationedTCP) Dial(
	ctx context.Context, m ma.Multiaddr, p peer.ID,
) (transport.CapableConn, error) {
	return t.DialWithUpdates(ctx, m, p, nil)
}

// DialWithUpdates implements transport.DialUpdater.
func (t *rationedTCP) DialWithUpdates(
	ctx context.Context, m ma.Multiaddr, p peer.ID, updates chan<- transport.DialUpdate,
) (transport.CapableConn, error) {
	ended, err := t.dials.start(p, m)
	if err != nil {
		return nil, err
	}
	c, err := t.TcpTransport.DialWithUpdates(ctx, m, p, updates)
	ended(err)
	return c, err
}

// rationedQUIC is the QUIC transport with rationed dials. A dial that makes a hole in a router
// sends packets to the address, too.
type rationedQUIC struct {
	transport.Transport
	dials *dials
}

func (d *dials) newQUIC(
	key crypto.PrivKey,
	m *quicreuse.ConnManager,
	psk pnet.PSK,
	g connmgr.ConnectionGater,
	r network.ResourceManager,
) (*rationedQUIC, error) {
	t, err := quic.NewTransport(key, m, psk, g, r)
	if err != nil {
		return nil, err
	}
	return &rationedQUIC{t, d}, nil
}

// Dial implements transport.Transport.
func (t *rationedQUIC) Dial(
	ctx context.Context, m ma.Multiaddr, p peer.ID,
) (transport.CapableConn, error) {
	ended, err := t.dials.start(p, m)
	if err != nil {
		return nil, err
	}
	c, err := t.Transport.Dial(ctx, m, p)
	ended(err)
	return c, err
}
