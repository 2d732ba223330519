package contacts

import (
	"context"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/node/holders"
	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/node/names"
	"github.com/skerry-sync/skerry/replica"
)

// Changed is told by the network that a peer has come or gone.
func (b *Agenda) Changed(p peer.ID, connected bool) {
	if connected {
		if b.came(p); b.IsFirm(p) { // others first have to prove that they hold something
			b.tellTrust(p)
		}
	} else {
		b.went(p)
	}
	b.wake()
}

// came reads what is remembered of a peer. It is called by one goroutine at a time.
func (b *Agenda) came(p peer.ID) {
	from := b.net.Origin(p)
	b.mu.Lock()
	c := b.contactLocked(p)
	c.connected, c.from, c.retry, c.pause = true, from, 0, b.cfg.Interval
	b.mu.Unlock() // what is noted of the peer from now on is noted as of one that is connected
	ids, is, named, err := b.cfg.Holders.ReplicasOf(b.cfg.Ctx, p, maxShared)
	if err != nil && b.cfg.Ctx.Err() == nil {
		b.cfg.Log.Warn("reading what a peer holds", "peer", p, "error", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.contacts[p] != c || !c.connected {
		return
	}
	c.named = c.named || named
	for i, id := range ids {
		b.putLocked(id, p).is = is[i]
		c.firm = c.firm || is[i] == holders.Known
	}
	now := b.cfg.Now()
	switch {
	case len(c.shared) == 0:
		c.stranger = true
	case b.cfg.Self < p:
		c.due = now
	default: // the peer begins; unless it has forgotten
		c.due = now.Add(link.Jitter(firstRetry))
	}
	b.makeRoomLocked()
}

func (b *Agenda) went(p peer.ID) {
	defer b.cfg.Does.Gone(p)
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.contactLocked(p)
	for id := range c.shared {
		b.dropLocked(id, p)
	}
	clear(c.sessions)
	c.connected, c.stranger, c.retry, c.pause, c.gone = false, false, 0, b.cfg.Interval, nil
	if c.due = b.cfg.Now().Add(firstRetry); time.Since(b.awake) < awakeFor {
		c.due = b.cfg.Now()
	}
	if !c.known {
		delete(b.contacts, p)
	}
	b.makeRoomLocked()
}

// NameAll enters that a person has named a peer for replicas.
func (b *Agenda) NameAll(p peer.ID, ids []replica.ID) {
	for _, id := range ids {
		b.Note(id, p, holders.Known)
	}
	b.noteNamed(p)
	b.tellTrust(p)
}

// noteNamed enters that a person has named a peer.
func (b *Agenda) noteNamed(p peer.ID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c := b.contacts[p]; c != nil { // else it is read when the peer connects
		c.named = true
	}
}

// Note enters that a peer holds a replica.
func (b *Agenda) Note(id replica.ID, p peer.ID, is holders.Standing) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.contactLocked(p)
	c.firm = c.firm || is == holders.Known
	if c.known = true; c.connected {
		b.putLocked(id, p).is = is
	}
	c.dueBy(b.cfg.Now().Add(firstRetry))
	b.makeRoomLocked()
}

// Meet notes that a connected peer has proved that it holds replicas.
func (b *Agenda) Meet(ctx context.Context, p peer.ID, ids []replica.ID) error {
	if len(ids) == 0 {
		return nil
	}
	addrs, written := b.net.KnownAddrs(p), false
	for _, id := range ids {
		is, kept, err := b.cfg.Holders.Proved(ctx, p, id, addrs)
		if err != nil {
			return err
		}
		written = written || kept
		b.Note(id, p, is)
	}
	b.tellTrust(p)
	if !written {
		return nil
	}
	return b.cfg.Holders.Sync(ctx)
}

// Shares notes that a session or push has shown that p holds the replica id, and is active.
func (b *Agenda) Shares(p peer.ID, id replica.ID) {
	now := b.cfg.Now()
	here := b.net.Connected(p)
	b.mu.Lock()
	c := b.contactLocked(p)
	// The network may not have said so yet, and what is set now must be pushed.
	c.connected = c.connected || here
	s, today := &sharer{}, names.Day(now)
	if c.known = true; c.connected {
		s = b.putLocked(id, p)
	}
	seen := s.seen && s.noted == today && (s.kept || now.Sub(s.tried) < roomAgain)
	if s.seen, s.noted = true, today; !seen {
		s.tried = now
	}
	delete(c.sessions, id)
	c.stranger = false
	c.pause = b.cfg.Interval // what an active peer pushes may get lost: look again before long
	c.dueBy(now.Add(link.Jitter(c.pause)))
	b.mu.Unlock()
	if !seen {
		is, kept, err := b.cfg.Holders.Proved(b.cfg.Ctx, p, id, b.net.KnownAddrs(p))
		if err != nil && b.cfg.Ctx.Err() == nil {
			b.cfg.Log.Warn("remembering a peer", "peer", p, "error", err)
		}
		b.mu.Lock()
		c.firm = c.firm || is == holders.Known
		s.is, s.kept = is, kept
		b.mu.Unlock()
		b.tellTrust(p)
	}
	b.cfg.Does.News(p)
}

// Forget drops what is known of a replica that has been left.
func (b *Agenda) Forget(id replica.ID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for p := range b.here[id] {
		b.dropLocked(id, p)
	}
}

// Compared notes the outcome of an overview: all replicas that were compared are the same on both
// sides but those that differ, and those that the peer seems not to hold. Whoever began it syncs
// what differs, and asks by name for what was gone twice.
func (b *Agenda) Compared(
	p peer.ID, all []replica.ID, differ, gone map[replica.ID]bool, began bool,
) {
	news, same := b.noteCompared(p, all, differ, gone, began)
	if news {
		b.tellTrust(p)
		b.cfg.Does.News(p) // there is somebody to fetch from
	}
	if err := b.cfg.Holders.NoteSame(b.cfg.Ctx, p, same); err != nil && b.cfg.Ctx.Err() == nil {
		b.cfg.Log.Warn("noting what is the same at a peer", "peer", p, "error", err)
	}
	b.wake()
}

// noteCompared reports whether the peer newly holds something, and returns what is the same there:
// at first, and once a day, all of it; else what newly is.
func (b *Agenda) noteCompared(
	p peer.ID, all []replica.ID, differ, gone map[replica.ID]bool, began bool,
) (news bool, same []replica.ID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.contacts[p]
	if c == nil {
		return false, nil
	}
	now := b.cfg.Now()
	daily := now.Sub(c.noted) >= holders.SameEvery
	if daily {
		c.noted = now
	}
	asking, newlyGone := 0, false
	for _, id := range all {
		s := c.shared[id]
		if s == nil {
			continue // left meanwhile
		}
		news = news || !s.seen && !gone[id]
		if !gone[id] && !differ[id] && (daily || !s.seen) {
			same = append(same, id)
		}
		s.seen = !gone[id]
		d := c.sessions[id]
		switch {
		case differ[id]:
			if d == nil && began {
				c.sessions[id] = &dueSession{next: now}
			}
		case gone[id] && !c.gone[id]:
			// The peer may hold it, and only not have known that this node does: now it does.
			newlyGone = true
		case gone[id]:
			if asking++; d == nil && began && asking <= maxAsking {
				c.sessions[id] = &dueSession{next: now}
			}
		case d != nil && !d.running: // it has been mended by other ways
			delete(c.sessions, id)
		}
	}
	c.retry, c.gone = 0, gone
	if len(differ) > 0 {
		c.pause = b.cfg.Interval
	} else {
		c.pause = min(2*c.pause, maxPause*b.cfg.Interval)
	}
	c.due = now.Add(link.Jitter(c.pause))
	if newlyGone {
		c.due = now.Add(link.Jitter(firstRetry))
	}
	return news, same
}

// tellTrust tells the network how much a peer counts, so that both say the same of it. Whatever
// makes a connected peer count for more calls it. The caller does not hold the lock.
func (b *Agenda) tellTrust(p peer.ID) {
	b.telling.Lock()
	defer b.telling.Unlock()
	if b.net != nil && b.IsConnected(p) {
		b.net.Keep(p, b.trust(p))
	}
}

// trust says how much a connected peer counts.
func (b *Agenda) trust(p peer.ID) link.Trust {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch c := b.contacts[p]; {
	case c == nil || !c.firm:
		return link.TrustProved
	case c.named:
		return link.TrustNamed
	}
	return link.TrustHistory
}
