package libp2pnet

import (
	"context"
	"net/netip"
	"slices"
	"sync"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/skerry-sync/skerry/internal/netaddr"
)

// Anybody on the local network can announce peers that do not exist, at addresses where nobody
// answers; each costs a dial until its time is over. So what is announced is dialled only where it
// can be on a local network, for a short time, and within a budget that takes no more than half of
// the room that other dials to unproved addresses need, and nothing of their ration. Peers that
// somebody has named do not wait for others.

// nearDials are the dials to peers that are announced on the local network. The mutex of dials
// guards it.
type nearDials struct {
	of     map[peer.ID]int // by how many dials are under way
	trying int
	ration *ration
}

// announced has dials to a peer be counted as those to the local network, until the function that
// it returns is called.
func (d *dials) announced(p peer.ID) (end func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	bump(d.near.of, p, 1)
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		bump(d.near.of, p, -1)
	}
}

// finds are the peers that mDNS has found and that are being dialled.
type finds struct {
	mu        sync.Mutex
	of        map[peer.ID]bool // whether nobody has named it
	strangers int
}

// begin reports whether a peer may be dialled now. If so, end must be called.
func (f *finds) begin(p peer.ID, known bool) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, again := f.of[p]
	most, now := maxFinds, f.strangers
	if known {
		now = len(f.of) - f.strangers
	}
	if again || now >= most {
		return false
	}
	if f.of == nil {
		f.of = map[peer.ID]bool{}
	}
	if f.of[p] = !known; !known {
		f.strangers++
	}
	return true
}

func (f *finds) end(p peer.ID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.of[p] {
		f.strangers--
	}
	delete(f.of, p)
}

func (f *finds) len() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.of)
}

// near returns at which of the addresses that are announced on a local network a peer is dialled:
// first those of the networks of this machine's interfaces, then private ones, such as those of a
// neighbouring network whose router passes announcements on, and at last those of this machine
// itself. It leaves out names, relayed addresses, and those elsewhere in the public internet.
func (r *ranks) near(all []ma.Multiaddr) (some []ma.Multiaddr) {
	of := func(m ma.Multiaddr) int {
		a, ok := addrOf(m)
		in := func(p netip.Prefix) bool { return p.Contains(a) }
		switch {
		case !ok || isRelayed(m):
			return -1
		case slices.ContainsFunc(r.links, in):
			return 0
		case netaddr.Public(a):
			return -1
		case a.IsLoopback() || a.IsLinkLocalUnicast() || slices.ContainsFunc(r.bridges, in):
			return 2
		}
		return 1
	}
	some = slices.DeleteFunc(slices.Clone(all), func(m ma.Multiaddr) bool { return of(m) < 0 })
	slices.SortStableFunc(some, func(a, b ma.Multiaddr) int { return of(a) - of(b) })
	return some[:min(len(some), maxFoundDials)]
}

// found dials a peer that is announced on the local network, unless maxFinds others are dialled.
func (n *Network) found(p peer.AddrInfo) {
	if n.Connected(p.ID) {
		return
	}
	if p.Addrs = n.ranks.now().near(p.Addrs); len(p.Addrs) == 0 {
		return
	}
	if p.ID == n.ID() { // which it announces itself, too
		n.LookForTwin(p.Addrs)
		return
	}
	if !n.finds.begin(p.ID, n.voices.knows(p.ID)) {
		return
	}
	if !n.do(func() {
		defer n.finds.end(p.ID)
		defer n.dials.announced(p.ID)()
		ctx, cancel := context.WithTimeout(n.ctx, foundTime)
		defer cancel()
		if err := n.dial(ctx, p); err != nil { // not asking the table, which knows nothing better
			n.cfg.Log.Debug("peer on the local network", "peer", p.ID, "error", err)
			n.forget(p.ID) // its addresses are anybody's word
		}
	}) {
		n.finds.end(p.ID)
	}
}
