package node

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/skerry-sync/skerry/node/link"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/internal/fault"
	"github.com/skerry-sync/skerry/replica"
)

// When to talk to whom is decided for each peer, not for each replica: there may be thousands of
// these. A peer that holds a replica of this node is dialled again when it is gone. When it is
// here, one overview after the other compares all replicas that the two share (see overview.go),
// and only those that differ are synced. Overviews are the rarer the longer nothing happens;
// entries do not wait for them, but are pushed.
const (
	firstRetry = 2 * time.Second
	lastRetry  = 5 * time.Minute // OBJ-M10
	tick       = 500 * time.Millisecond
	// maxPause is the longest time between two overviews, in sync intervals.
	maxPause = 10
	// slept is a pause after which this machine must have been asleep, or the process stopped: its
	// connections may be dead without its having noticed.
	slept = 15 * time.Second
	// awakeFor is how long after that peers that go are dialled at once.
	awakeFor = 5 * time.Second
	// newDials is how many newcomers are dialled at once. Those that are known do not wait for them.
	newDials = 32
	// maxAsking is how many replicas that a peer seems not to hold are asked for by name after an
	// overview.
	maxAsking = 32
)

// contact is a peer that is connected, or holds a replica of this node.
type contact struct {
	shared    map[replica.ID]*sharer     // while it is connected
	sessions  map[replica.ID]*dueSession // that are to be run
	gone      map[replica.ID]bool        // the peer did not seem to hold, in the last overview
	connected bool
	from      string        // the network of the connection, if it is known
	known     bool          // it is remembered to hold something, or has shown that it does
	firm      bool          // it is known, and no newcomer, for some replica
	named     bool          // a person has named it, for some replica
	stranger  bool          // connected, and not yet asked about our replicas
	busy      bool          // it is being dialled, asked, or compared with
	due       time.Time     // of the next overview, or of the next attempt to connect
	retry     time.Duration // of these attempts
	pause     time.Duration // between overviews
	noted     time.Time     // when all that is the same here and there was last noted
}

// dueSession is a session that is to be run.
type dueSession struct {
	next    time.Time
	retry   time.Duration
	running bool
}

// contact returns what is known of a peer; the caller holds the lock.
func (b *peerBook) contact(p peer.ID) *contact {
	c := b.contacts[p]
	if c == nil {
		c = &contact{shared: map[replica.ID]*sharer{}, sessions: map[replica.ID]*dueSession{}, pause: b.n.cfg.SyncInterval}
		b.contacts[p] = c
	}
	return c
}

func (c *contact) dueBy(t time.Time) {
	if c.due.IsZero() || c.due.After(t) {
		c.due = t
	}
}

// makeRoom forgets, until they are met again, newcomers, and then those that have been tried most
// often in vain, if there are too many; the caller holds the lock.
func (b *peerBook) makeRoom() {
	for len(b.contacts) > maxContacts {
		worst := peer.ID("")
		var last *contact
		for p, c := range b.contacts {
			switch {
			case c.connected || c.busy || last != nil && c.firm && !last.firm:
			case last == nil || last.firm && !c.firm || c.retry > last.retry:
				worst, last = p, c
			}
		}
		if worst == "" {
			return
		}
		delete(b.contacts, worst)
	}
}

// jitter spreads d over three quarters to five quarters of it.
func jitter(d time.Duration) time.Duration { return d*3/4 + rand.N(d/2+1) }

// changed is told by the network that a peer has come or gone.
func (b *peerBook) changed(p peer.ID, connected bool) {
	if connected {
		if b.came(p); b.isFirm(p) { // others first have to prove that they hold something
			b.tellTrust(p)
		}
	} else {
		b.went(p)
	}
	b.wake()
}

// came reads what is remembered of a peer. It is called by one goroutine at a time.
func (b *peerBook) came(p peer.ID) {
	from := b.n.net.Origin(p)
	b.mu.Lock()
	c := b.contact(p)
	c.connected, c.from, c.retry, c.pause = true, from, 0, b.n.cfg.SyncInterval
	b.mu.Unlock() // what is noted of the peer from now on is noted as of one that is connected
	ids, is, named, err := b.replicasOf(b.n.ctx, p, maxOverview)
	if err != nil && b.n.ctx.Err() == nil {
		b.n.log.Warn("reading what a peer holds", "peer", p, "error", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.contacts[p] != c || !c.connected {
		return
	}
	c.named = c.named || named
	for i, id := range ids {
		b.put(id, p).is = is[i]
		c.firm = c.firm || is[i] == known
	}
	now := b.n.cfg.Now()
	switch {
	case len(c.shared) == 0:
		c.stranger = true
	case b.n.id < p:
		c.due = now
	default: // the peer begins; unless it has forgotten
		c.due = now.Add(jitter(firstRetry))
	}
	b.makeRoom()
}

func (b *peerBook) went(p peer.ID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.contact(p)
	for id := range c.shared {
		b.drop(id, p)
	}
	clear(c.sessions)
	c.connected, c.stranger, c.retry, c.pause, c.gone = false, false, 0, b.n.cfg.SyncInterval, nil
	if c.due = b.n.cfg.Now().Add(firstRetry); time.Since(b.awake) < awakeFor {
		c.due = b.n.cfg.Now()
	}
	if !c.known {
		delete(b.contacts, p)
	}
	b.makeRoom()
	b.n.outboxMu.Lock()
	delete(b.n.outboxes, p)
	b.n.outboxMu.Unlock()
}

func (b *peerBook) wake() {
	select {
	case b.wakeUp <- struct{}{}:
	default:
	}
}

// compareSoon makes the overviews with all connected peers due, because something has been missed.
func (b *peerBook) compareSoon() {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.n.cfg.Now()
	for _, c := range b.contacts {
		if c.connected {
			c.dueBy(now.Add(jitter(time.Second)))
		}
	}
}

// CompareSoon has sessions run with all connected peers whose replicas differ from those here,
// because entries that were kept out may be taken now.
func (n *Node) CompareSoon() { n.peers.compareSoon() }

// compareSoonWith is compareSoon for one peer.
func (b *peerBook) compareSoonWith(p peer.ID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c := b.contacts[p]; c != nil && c.connected {
		c.dueBy(b.n.cfg.Now().Add(jitter(time.Second)))
	}
}

// run starts what is due, until ctx ends. All peers share one timer.
func (b *peerBook) run(ctx context.Context) {
	t := time.NewTicker(tick)
	defer t.Stop()
	wall := func() time.Time { return time.Now().Round(0) } // a monotonic clock may stand still while the machine sleeps
	last := wall()
	for {
		if pause := wall().Sub(last); pause > slept {
			b.wakeUpFrom(pause)
		}
		last = wall()
		b.start(ctx)
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-b.wakeUp:
		}
	}
}

// wakeUpFrom begins anew with all peers, after this machine has slept.
func (b *peerBook) wakeUpFrom(pause time.Duration) {
	b.n.log.Info("this node has slept, and connects anew", "for", pause.Round(time.Second))
	b.mu.Lock()
	b.awake = time.Now()
	now := b.n.cfg.Now()
	for _, c := range b.contacts {
		if c.retry = 0; !c.connected {
			c.due = now
		}
	}
	b.mu.Unlock()
	b.n.net.Drop()
}

func (b *peerBook) start(ctx context.Context) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.n.cfg.Now()
	for p, c := range b.contacts {
		if b.refusedLocked(p) {
			continue
		}
		b.startSessions(ctx, p, c, now)
		if c.busy {
			continue
		}
		switch {
		case c.connected && c.stranger:
			c.stranger = false
			b.busyWith(c, p, func() { b.n.introduce(ctx, p) })
		case !c.known || c.due.After(now):
		case c.connected && len(c.shared) == 0: // what is remembered of it is being read, or it holds nothing any more
		case c.connected:
			b.busyWith(c, p, func() { b.compare(ctx, p) })
		case c.firm:
			b.busyWith(c, p, func() { b.dial(ctx, p) })
		case b.dialling < newDials:
			b.dialling++
			b.busyWith(c, p, func() {
				defer func() {
					b.mu.Lock()
					b.dialling--
					b.mu.Unlock()
				}()
				b.dial(ctx, p)
			})
		}
	}
}

// busyWith does something with a peer, and nothing else meanwhile; the caller holds the lock. After
// a fault in it the peer waits like one with which it has failed.
func (b *peerBook) busyWith(c *contact, p peer.ID, do func()) {
	c.busy = true
	b.n.work.Go(func() {
		err := fault.Guard(b.n.log, "work with a peer", func() error { do(); return nil }, "peer", p)
		b.mu.Lock()
		if c.busy = false; err != nil {
			c.retry = min(max(2*c.retry, firstRetry), lastRetry)
			c.due = b.n.cfg.Now().Add(jitter(c.retry))
		}
		b.mu.Unlock()
		b.wake()
	})
}

// startSessions starts the sessions with a peer that are due, as far as there is room.
func (b *peerBook) startSessions(ctx context.Context, p peer.ID, c *contact, now time.Time) {
	if !c.connected {
		return
	}
	for id, d := range c.sessions {
		is := newcomer
		if s := c.shared[id]; s != nil {
			is = s.is
		}
		// One that would have to wait for others begins later, and takes no room meanwhile.
		if d.running || d.next.After(now) || !b.running.room(id, is, c.named, c.from) ||
			!b.n.sessions.idle(id, p, is) {
			continue
		}
		d.running = true
		from := c.from
		b.running.begin(id, is, from)
		b.n.work.Go(func() {
			ended, long := false, false // guarded by b.mu
			lasts := time.AfterFunc(longSession, func() {
				b.mu.Lock()
				long = !ended && b.running.lasts(is)
				b.mu.Unlock()
				b.wake()
			})
			err := fault.Guard(b.n.log, "a session", func() error {
				_, err := b.n.syncAs(ctx, p, id, asking{is: is})
				return err
			}, "peer", p, "replica", id.Short())
			lasts.Stop()
			b.mu.Lock()
			ended = true
			b.running.end(id, is, from, long)
			b.mu.Unlock()
			b.done(p, id, err)
			b.wake()
		})
	}
}

// done notes how a session ended.
func (b *peerBook) done(p peer.ID, id replica.ID, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.contacts[p]
	if c == nil || c.sessions[id] == nil {
		return // done, as shares has noted; or the peer or the replica is gone
	}
	if err == nil {
		delete(c.sessions, id)
		return
	}
	d := c.sessions[id]
	d.running = false
	if errors.Is(err, ErrNotShared) && c.shared[id] != nil {
		c.shared[id].seen = false // it has left the replica: nothing is pushed there any more
	}
	if !errors.Is(err, ErrBusy) {
		d.retry = min(max(2*d.retry, firstRetry), lastRetry)
	}
	d.next = b.n.cfg.Now().Add(jitter(max(d.retry, firstRetry)))
	b.n.log.Debug("session failed", "peer", p, "replica", id.Short(), "retry", d.retry, "error", err)
}

// dial connects to a peer that is gone. One that is not remembered any more is forgotten; and one
// that has long been gone, by a node that hosts others' replicas, whose devices come by themselves.
func (b *peerBook) dial(ctx context.Context, p peer.ID) {
	to := peer.AddrInfo{ID: p, Addrs: b.addrsOf(ctx, p)}
	known, _, _, err := b.replicasOf(ctx, p, 1)
	unknown := err == nil && len(known) == 0
	if b.isFirm(p) { // what strangers had this node dial in vain does not count against it
		ctx = link.Named(ctx)
	}
	if err == nil && !unknown {
		err = b.n.net.Connect(ctx, to)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.contacts[p]
	if c == nil || c.connected {
		return
	}
	if unknown || b.n.cfg.Host != nil && c.retry == lastRetry {
		delete(b.contacts, p)
		return
	}
	c.retry = min(max(2*c.retry, firstRetry), lastRetry)
	c.due = b.n.cfg.Now().Add(jitter(c.retry))
	if err != nil {
		b.n.log.Debug("a peer cannot be reached", "peer", p, "retry", c.retry, "error", err)
	}
}

// compare runs an overview with a connected peer.
func (b *peerBook) compare(ctx context.Context, p peer.ID) {
	err := b.n.overviewWith(ctx, p)
	if err == nil {
		return // compared has set the next time
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if c := b.contacts[p]; c != nil {
		c.retry = min(max(2*c.retry, firstRetry), lastRetry)
		c.due = b.n.cfg.Now().Add(jitter(c.retry))
		b.n.log.Debug("overview failed", "peer", p, "retry", c.retry, "error", err)
	}
}

// toCompare returns the replicas that p is known to hold.
func (b *peerBook) toCompare(p peer.ID) []replica.ID {
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

// compared notes the outcome of an overview: all replicas that were compared are the same on both
// sides but those that differ, and those that the peer seems not to hold. Whoever began it syncs
// what differs, and asks by name for what was gone twice.
func (b *peerBook) compared(p peer.ID, all []replica.ID, differ, gone map[replica.ID]bool, began bool) {
	news, same := b.noteCompared(p, all, differ, gone, began)
	if news {
		b.tellTrust(p)
		b.n.downloads.dueAgain(p) // there is somebody to fetch from
	}
	if err := b.n.noteSame(b.n.ctx, p, same); err != nil && b.n.ctx.Err() == nil {
		b.n.log.Warn("noting what is the same at a peer", "peer", p, "error", err)
	}
	b.wake()
}

// noteCompared reports whether the peer newly holds something, and returns what is the same there:
// at first, and once a day, all of it; else what newly is.
func (b *peerBook) noteCompared(p peer.ID, all []replica.ID, differ, gone map[replica.ID]bool, began bool) (news bool, same []replica.ID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.contacts[p]
	if c == nil {
		return false, nil
	}
	now := b.n.cfg.Now()
	daily := now.Sub(c.noted) >= sameEvery
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
		case gone[id] && !c.gone[id]: // the peer may hold it, and only not have known that this node does: now it does
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
		c.pause = b.n.cfg.SyncInterval
	} else {
		c.pause = min(2*c.pause, maxPause*b.n.cfg.SyncInterval)
	}
	c.due = now.Add(jitter(c.pause))
	if newlyGone {
		c.due = now.Add(jitter(firstRetry))
	}
	return news, same
}

// introduce asks a peer that has newly connected, and is not known to hold anything, for each of
// our replicas. A peer that does not hold one learns nothing from being asked. Only those nearby
// are asked: in the wide world most are there for other reasons, and whoever holds the same is
// found by other ways. A node that hosts replicas of others waits to be asked.
func (n *Node) introduce(ctx context.Context, p peer.ID) {
	const most = 256
	if n.cfg.Host != nil || !n.isNear(p) {
		return
	}
	count := 0
	for r, err := range n.Replicas.All(ctx) {
		if count++; err != nil || count > most {
			return
		}
		if _, err := n.syncWith(ctx, p, r.ID, nil); err != nil && !errors.Is(err, ErrNotShared) && !errors.Is(err, ErrBusy) {
			n.log.Debug("introduction", "peer", p, "error", err)
			return
		}
	}
}

// isFirm reports whether a peer is known, and no newcomer, for some replica.
func (b *peerBook) isFirm(p peer.ID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.contacts[p]
	return c != nil && c.firm
}

// tellTrust tells the network how much a peer counts, so that both say the same of it. Whatever
// makes a connected peer count for more calls it. The caller does not hold the lock.
func (b *peerBook) tellTrust(p peer.ID) {
	b.telling.Lock()
	defer b.telling.Unlock()
	if b.n.net != nil && b.isConnected(p) {
		b.n.net.Keep(p, b.trust(p))
	}
}

// trust says how much a connected peer counts.
func (b *peerBook) trust(p peer.ID) link.Trust {
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

// isNear reports it of a connected peer.
func (n *Node) isNear(p peer.ID) bool {
	return slices.ContainsFunc(n.net.Peers(), func(k link.Peer) bool { return k.ID == p && k.Near() })
}
