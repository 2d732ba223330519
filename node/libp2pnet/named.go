package libp2pnet

import (
	"fmt"
	"sync"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// maxNamedPlaces bounds how many addresses of named peers are remembered, the newest ones.
const maxNamedPlaces = 1024

// namedPlaces keeps connections for the peers that a person has named, at the IP addresses at which
// they were connected before. Whoever connects has proved nothing until the handshake has ended,
// and a few addresses that never end it can take all connections that may wait for theirs.
type namedPlaces struct {
	list *rcmgr.Allowlist // nil: nothing is kept

	mu    sync.Mutex
	has   map[string]bool
	order []ma.Multiaddr // the oldest first
}

func newNamedPlaces(manager network.ResourceManager) *namedPlaces {
	return &namedPlaces{list: rcmgr.GetAllowlist(manager), has: map[string]bool{}}
}

// add notes that a named peer is connected from an address.
func (n *namedPlaces) add(p peer.ID, from ma.Multiaddr) error {
	ip, ok := peerAddr(from)
	if !ok || n.list == nil {
		return nil
	}
	at, err := manet.FromIP(ip.AsSlice())
	if err != nil {
		return fmt.Errorf("address of a named peer: %w", err)
	}
	id, err := ma.NewComponent("p2p", p.String())
	if err != nil {
		return fmt.Errorf("address of a named peer: %w", err)
	}
	place := at.AppendComponent(id)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.has[place.String()] {
		return nil
	}
	if len(n.order) >= maxNamedPlaces {
		if err := n.list.Remove(n.order[0]); err != nil {
			return fmt.Errorf("address of a named peer: %w", err)
		}
		delete(n.has, n.order[0].String())
		n.order = n.order[1:]
	}
	if err := n.list.Add(place); err != nil {
		return fmt.Errorf("address of a named peer: %w", err)
	}
	n.has[place.String()] = true
	n.order = append(n.order, place)
	return nil
}
