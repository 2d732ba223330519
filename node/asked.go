package node

import (
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/replica"
)

func (b *agenda) isConnected(p peer.ID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.contacts[p]
	return c != nil && c.connected
}

// connectedSharing returns the connected peers that have shown that they hold the replica id.
func (b *agenda) connectedSharing(id replica.ID) (out []peer.ID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for p, s := range b.here[id] {
		if s.seen {
			out = append(out, p)
		}
	}
	return out
}

// holders returns the connected peers that hold any of the replicas.
func (b *agenda) holders(ids map[replica.ID]bool) (out []peer.ID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for p, c := range b.contacts {
		if !c.connected {
			continue
		}
		for id := range ids {
			if s := c.shared[id]; s != nil && s.seen {
				out = append(out, p)
				break
			}
		}
	}
	return out
}

// holds reports whether p is connected and holds the replica id.
func (b *agenda) holds(p peer.ID, id replica.ID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.here[id][p]
	return s != nil && s.seen
}

// anyConnected reports whether a peer is connected that holds the replica id.
func (b *agenda) anyConnected(id replica.ID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.here[id] {
		if s.seen {
			return true
		}
	}
	return false
}

// sharesAny reports whether p is connected and holds any replica of this node.
func (b *agenda) sharesAny(p peer.ID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.contacts[p]
	return c != nil && c.sharesAny()
}

func (c *contact) sharesAny() bool {
	if !c.connected {
		return false
	}
	for _, s := range c.shared {
		if s.seen {
			return true
		}
	}
	return false
}

// allSharing returns the connected peers that hold any replica of this node.
func (b *agenda) allSharing() (out []peer.ID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for p, c := range b.contacts {
		if c.sharesAny() {
			out = append(out, p)
		}
	}
	return out
}

// toCompare returns the replicas that p is known to hold.
func (b *agenda) toCompare(p peer.ID) []replica.ID {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.contacts[p]
	if c == nil {
		return nil
	}
	ids := make([]replica.ID, 0, len(c.shared))
	for id := range c.shared {
		ids = append(ids, id)
	}
	return ids
}

// isFirm reports whether a peer is known, and no newcomer, for some replica.
func (b *agenda) isFirm(p peer.ID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.contacts[p]
	return c != nil && c.firm
}

// waiting returns how many sessions that this node begins by itself run, and how many are still to.
func (b *agenda) waiting() (running, due int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.contacts {
		for _, d := range c.sessions {
			if d.running {
				running++
			} else {
				due++
			}
		}
	}
	return running, due
}

// sharing returns how many times a connected peer is known to hold a replica of this node.
func (b *agenda) sharing() (count int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.contacts {
		for _, s := range c.shared {
			if c.connected && s.seen {
				count++
			}
		}
	}
	return count
}

// counts says what a peer counts for: whether it has proved that it holds a replica, is known for
// one and no newcomer, and has been named by a person.
func (b *agenda) counts(p peer.ID) (proved, firm, named bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c := b.contacts[p]; c != nil {
		return c.known, c.firm, c.named
	}
	return false, false, false
}
