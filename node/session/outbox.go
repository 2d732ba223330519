package session

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/internal/fault"
	"github.com/skerry-sync/skerry/node/bundle"
	"github.com/skerry-sync/skerry/replica"
)

const (
	// maxOutbox is how many entries wait for a peer, and maxOutboxBytes how many bytes of keys;
	// when more do, they are dropped, and a session mends it.
	maxOutbox      = 8192
	maxOutboxBytes = 4 << 20
	// firstRest is how long nothing is pushed to a peer that has let a push stall, and lastRest how
	// long at most when it goes on.
	firstRest = 30 * time.Second
	lastRest  = 10 * time.Minute
)

// outbox is what waits to be pushed to a peer.
type outbox struct {
	n *Syncer
	p peer.ID

	mu      sync.Mutex
	entries []replica.Entry
	bytes   int // of their keys
	busy    bool
	stalls  int       // pushes in a row that the peer has not taken in time
	rests   time.Time // until when nothing is pushed to it
}

func (n *Syncer) outbox(p peer.ID) *outbox {
	n.outboxMu.Lock()
	defer n.outboxMu.Unlock()
	o := n.outboxes[p]
	if o == nil {
		o = &outbox{n: n, p: p}
		n.outboxes[p] = o
	}
	return o
}

// DropOutbox drops what waits for a peer that has gone. That it has let pushes stall is remembered:
// it could come back at once.
func (n *Syncer) DropOutbox(p peer.ID) {
	n.outboxMu.Lock()
	defer n.outboxMu.Unlock()
	if o := n.outboxes[p]; o != nil && !o.clear() {
		delete(n.outboxes, p)
	}
}

// dropRested forgets those who have let pushes stall some time ago, and are not connected.
func (n *Syncer) dropRested() {
	n.outboxMu.Lock()
	defer n.outboxMu.Unlock()
	for p, o := range n.outboxes {
		if !n.contacts.IsConnected(p) && !o.needed() {
			delete(n.outboxes, p)
		}
	}
}

// clear drops what waits, and reports whether the outbox is still needed.
func (o *outbox) clear() bool {
	o.mu.Lock()
	o.entries, o.bytes = nil, 0
	o.mu.Unlock()
	return o.needed()
}

// needed reports whether a push is under way, whose end is to be noted, or one has stalled lately.
func (o *outbox) needed() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.busy || o.stalls > 0 && time.Since(o.rests) < lastRest
}

// pushed notes how a push has ended. To a peer that lets pushes stall nothing is pushed for a
// while, the longer the more often: each holds what waits for the peer, and a stream. It is given
// the entries in sessions, which have a least pace.
func (o *outbox) pushed(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err == nil {
		o.stalls = 0
	}
	var late interface{ Timeout() bool }
	if !errors.As(err, &late) || !late.Timeout() {
		return
	}
	o.rests = time.Now().Add(min(firstRest<<min(o.stalls, 8), lastRest))
	o.stalls++
	o.entries, o.bytes = nil, 0
}

func (o *outbox) add(ctx context.Context, e replica.Entry) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if time.Now().Before(o.rests) {
		o.n.contacts.CompareSoonWith(o.p)
		return
	}
	if len(o.entries) >= maxOutbox || o.bytes+len(e.Key) > maxOutboxBytes {
		o.entries, o.bytes = nil, 0
		o.n.contacts.CompareSoonWith(o.p)
	}
	o.entries, o.bytes = append(o.entries, e), o.bytes+len(e.Key)
	if !o.busy {
		o.busy = true
		o.n.cfg.Go(func() { o.run(ctx) })
	}
}

func (o *outbox) run(ctx context.Context) {
	for {
		o.mu.Lock()
		if len(o.entries) == 0 || ctx.Err() != nil {
			o.busy = false
			o.mu.Unlock()
			return
		}
		id := o.entries[0].Replica
		k, size := 1, len(o.entries[0].Key)
		for k < len(o.entries) && k < bundle.Max && o.entries[k].Replica == id &&
			size < bundle.MaxBytes/2 {
			size += len(o.entries[k].Key) + 256
			k++
		}
		batch := o.entries[:k:k]
		o.entries = o.entries[k:]
		for i := range batch {
			o.bytes -= len(batch[i].Key)
		}
		o.mu.Unlock()
		err := fault.Guard(o.n.log, "a push", func() error {
			return o.n.PushTo(ctx, o.p, id, batch)
		}, "peer", o.p, "replica", id.Short())
		o.pushed(err)
		if err != nil {
			o.n.log.Debug("push", "peer", o.p, "replica", id.Short(), "error", err)
			o.n.contacts.CompareSoonWith(o.p)
		}
	}
}
