package contacts

import (
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/replica"
)

// IsConnected reports whether a peer is connected.
func (b *Agenda) IsConnected(p peer.ID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.contacts[p]
	return c != nil && c.connected
}

// ConnectedSharing returns the connected peers that have shown that they hold the replica id.
func (b *Agenda) ConnectedSharing(id replica.ID) (out []peer.ID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for p, s := range b.here[id] {
		if s.seen {
			out = append(out, p)
		}
	}
	return out
}

// Holders returns the connected peers that hold any of the replicas.
func (b *Agenda) Holders(ids map[replica.ID]bool) (out []peer.ID) {
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

// Holds reports whether p is connected and holds the replica id.
func (b *Agenda) Holds(p peer.ID, id replica.ID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.here[id][p]
	return s != nil && s.seen
}

// AnyConnected reports whether a peer is connected that holds the replica id.
func (b *Agenda) AnyConnected(id replica.ID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.here[id] {
		if s.seen {
			return true
		}
	}
	return false
}

// SharesAny reports whether p is connected and holds any replica of this node.
func (b *Agenda) SharesAny(p peer.ID) bool {
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

// AllSharing returns the connected peers that hold any replica of this node.
func (b *Agenda) AllSharing() (out []peer.ID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for p, c := range b.contacts {
		if c.sharesAny() {
			out = append(out, p)
		}
	}
	return out
}

// ToCompare returns the replicas that p is known to hold.
func (b *Agenda) ToCompare(p peer.ID) []replica.ID {
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

// IsFirm reports whether a peer is known, and no newcomer, for some replica.
func (b *Agenda) IsFirm(p peer.ID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.contacts[p]
	return c != nil && c.firm
}

// Waiting returns how many sessions that this node begins by itself run, and how many are still to.
func (b *Agenda) Waiting() (running, due int) {
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

// Sharing returns how many times a connected peer is known to hold a replica of this node.
func (b *Agenda) Sharing() (count int) {
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

// Counts says what a peer counts for: whether it has proved that it holds a replica, is known for
// one and no newcomer, and has been named by a person.
func (b *Agenda) Counts(p peer.ID) (proved, firm, named bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c := b.contacts[p]; c != nil {
		return c.known, c.firm, c.named
	}
	return false, false, false
}

// State is what an agenda has about a peer, for tests.
type State struct {
	Known bool          // the peer is remembered to hold something, or has shown that it does
	Due   []replica.ID  // of which sessions are to be run
	Pause time.Duration // between overviews
}

// Snapshot returns it.
func (b *Agenda) Snapshot(p peer.ID) (st State) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.contacts[p]
	if c == nil {
		return st
	}
	for id := range c.sessions {
		st.Due = append(st.Due, id)
	}
	st.Known, st.Pause = c.known, c.pause
	return st
}
