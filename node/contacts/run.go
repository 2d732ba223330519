package contacts

import (
	"context"
	"errors"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/internal/fault"
	"github.com/skerry-sync/skerry/node/holders"
	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/replica"
)

func (b *Agenda) wake() {
	select {
	case b.wakeUp <- struct{}{}:
	default:
	}
}

// CompareSoon makes the overviews with all connected peers due, because something has been missed.
func (b *Agenda) CompareSoon() {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.cfg.Now()
	for _, c := range b.contacts {
		if c.connected {
			c.dueBy(now.Add(link.Jitter(time.Second)))
		}
	}
}

// CompareSoonWith is compareSoon for one peer.
func (b *Agenda) CompareSoonWith(p peer.ID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c := b.contacts[p]; c != nil && c.connected {
		c.dueBy(b.cfg.Now().Add(link.Jitter(time.Second)))
	}
}

// Run starts what is due, until ctx ends. All peers share one timer.
func (b *Agenda) Run(ctx context.Context) {
	t := time.NewTicker(tick)
	defer t.Stop()
	// A monotonic clock may stand still while the machine sleeps.
	wall := func() time.Time { return time.Now().Round(0) }
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
func (b *Agenda) wakeUpFrom(pause time.Duration) {
	b.cfg.Log.Info("this node has slept, and connects anew", "for", pause.Round(time.Second))
	b.mu.Lock()
	b.awake = time.Now()
	now := b.cfg.Now()
	for _, c := range b.contacts {
		if c.retry = 0; !c.connected {
			c.due = now
		}
	}
	b.mu.Unlock()
	b.net.Drop()
}

func (b *Agenda) start(ctx context.Context) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.cfg.Now()
	for p, c := range b.contacts {
		if b.cfg.Refused(p) {
			continue
		}
		b.startSessions(ctx, p, c, now)
		if c.busy {
			continue
		}
		switch {
		case c.connected && c.stranger:
			c.stranger = false
			b.busyWith(c, p, func() { b.cfg.Does.Introduce(ctx, p) })
		case !c.known || c.due.After(now):
		case c.connected && len(c.shared) == 0:
			// What is remembered of it is being read, or it holds nothing any more.
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
func (b *Agenda) busyWith(c *contact, p peer.ID, do func()) {
	c.busy = true
	b.cfg.Go(func() {
		err := fault.Guard(b.cfg.Log, "work with a peer", func() error { do(); return nil }, "peer", p)
		b.mu.Lock()
		if c.busy = false; err != nil {
			c.retry = min(max(2*c.retry, firstRetry), lastRetry)
			c.due = b.cfg.Now().Add(link.Jitter(c.retry))
		}
		b.mu.Unlock()
		b.wake()
	})
}

// startSessions starts the sessions with a peer that are due, as far as there is room.
func (b *Agenda) startSessions(ctx context.Context, p peer.ID, c *contact, now time.Time) {
	if !c.connected {
		return
	}
	for id, d := range c.sessions {
		is := holders.Newcomer
		if s := c.shared[id]; s != nil {
			is = s.is
		}
		// One that would have to wait for others begins later, and takes no room meanwhile.
		if d.running || d.next.After(now) || !b.running.room(id, is, c.named, c.from) ||
			!b.cfg.Sessions.idle(id, p, is) {
			continue
		}
		d.running = true
		from := c.from
		b.running.begin(id, is, from)
		b.cfg.Go(func() {
			ended, long := false, false // guarded by b.mu
			lasts := time.AfterFunc(longSession, func() {
				b.mu.Lock()
				long = !ended && b.running.lasts(is)
				b.mu.Unlock()
				b.wake()
			})
			err := fault.Guard(b.cfg.Log, "a session", func() error {
				return b.cfg.Does.Sync(ctx, p, id, is)
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
func (b *Agenda) done(p peer.ID, id replica.ID, err error) {
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
	d.next = b.cfg.Now().Add(link.Jitter(max(d.retry, firstRetry)))
	b.cfg.Log.Debug("session failed", "peer", p, "replica", id.Short(), "retry", d.retry, "error", err)
}

// dial connects to a peer that is gone. One that is not remembered any more is forgotten; and one
// that has long been gone, by a node that hosts others' replicas, whose devices come by themselves.
func (b *Agenda) dial(ctx context.Context, p peer.ID) {
	to := peer.AddrInfo{ID: p, Addrs: b.cfg.Holders.AddrsOf(ctx, p)}
	known, _, _, err := b.cfg.Holders.ReplicasOf(ctx, p, 1)
	unknown := err == nil && len(known) == 0
	if b.IsFirm(p) { // what strangers had this node dial in vain does not count against it
		ctx = link.Named(ctx)
	}
	if err == nil && !unknown {
		err = b.net.Connect(ctx, to)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.contacts[p]
	if c == nil || c.connected {
		return
	}
	if unknown || b.cfg.Hosts && c.retry == lastRetry {
		delete(b.contacts, p)
		return
	}
	c.retry = min(max(2*c.retry, firstRetry), lastRetry)
	c.due = b.cfg.Now().Add(link.Jitter(c.retry))
	if err != nil {
		b.cfg.Log.Debug("a peer cannot be reached", "peer", p, "retry", c.retry, "error", err)
	}
}

// compare runs an overview with a connected peer.
func (b *Agenda) compare(ctx context.Context, p peer.ID) {
	err := b.cfg.Does.Compare(ctx, p)
	if err == nil {
		return // compared has set the next time
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if c := b.contacts[p]; c != nil {
		c.retry = min(max(2*c.retry, firstRetry), lastRetry)
		c.due = b.cfg.Now().Add(link.Jitter(c.retry))
		b.cfg.Log.Debug("overview failed", "peer", p, "retry", c.retry, "error", err)
	}
}
