package session

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/internal/fault"
	"github.com/skerry-sync/skerry/node/bundle"
	"github.com/skerry-sync/skerry/node/contacts"
	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/node/names"
	"github.com/skerry-sync/skerry/replica"
)

// The push protocol. One stream carries new entries of one replica to a peer that is known to hold
// it:
//
//	version u8 = 2, lookup[32] (see greet.go)
//	statements: count varint (at most 1,024), then each: length varint (at most 131,072), bytes; together at most 2 MiB
//	entries: likewise
//
// Nothing is answered: what is lost or refused is mended by the next session.
const (
	PushProtocol = "/skerry/push/2"
	PushVersion  = 2
	// maxOutbox is how many entries wait for a peer, and maxOutboxBytes how many bytes of keys;
	// when more do, they are dropped, and a session mends it.
	maxOutbox      = 8192
	maxOutboxBytes = 4 << 20
	// requestTime is how long a peer has for the head of a push, from the moment at which the stream
	// is open.
	requestTime = 30 * time.Second
)

// Spread brings entries that have just been stored to others who hold the replica: by gossip to
// those who listen to it, and directly to the other connected peers, but not back where they came
// from. Each peer has an outbox that one goroutine at a time empties, so that a slow peer holds up
// no other.
func (n *Syncer) Spread(ctx context.Context) {
	sub := n.replicas.SubscribeAll()
	defer sub.Close()
	idle := time.NewTicker(time.Minute)
	defer idle.Stop()
	for {
		select {
		case <-idle.C:
			n.restIdle()
		default:
		}
		waiting, cancel := context.WithTimeout(ctx, time.Minute)
		events, lost, err := sub.Next(waiting)
		cancel()
		if ctx.Err() != nil {
			return // the node closes
		}
		if err != nil {
			continue // nothing has happened for a minute
		}
		if lost > 0 {
			n.contacts.CompareSoon()
			n.cfg.GivenAnywhere()
		}
		received := map[replica.ID]bool{}
		// The others drop them by themselves.
		events = slices.DeleteFunc(events, func(e replica.Event) bool { return e.Dropped })
		for len(events) > 0 {
			k := 1
			for k < len(events) && events[k].Entry.Replica == events[0].Entry.Replica &&
				events[k].From == events[0].From {
				k++
			}
			if events[0].From != replica.Local {
				received[events[0].Entry.Replica] = true
			}
			n.spreadSome(ctx, events[:k])
			events = events[k:]
		}
		for id := range received {
			n.cfg.Given(n.contacts.ConnectedSharing(id)...)
		}
	}
}

// spreadSome spreads entries of one replica that came from one place.
func (n *Syncer) spreadSome(ctx context.Context, events []replica.Event) {
	id, from := events[0].Entry.Replica, events[0].From
	entries := make([]replica.Entry, len(events))
	for i := range events {
		entries[i] = events[i].Entry
	}
	if from.Spread {
		n.keepActive(id) // others go on by gossip as long as this node listens
	}
	sharing := n.contacts.ConnectedSharing(id)
	if len(sharing) == 0 || len(sharing) == 1 && sharing[0].String() == from.Peer {
		return // nobody else is here, as in a first sync
	}
	if n.worthATopic(len(sharing)) {
		n.keepActive(id)
	}
	told := map[peer.ID]bool{}
	if from.Spread {
		for _, p := range n.net.Listeners(names.Topic(id)) {
			told[p] = true // by whoever passed it on, or by this node, which has
		}
	} else {
		told = n.publish(ctx, id, entries)
	}
	for _, p := range sharing {
		if p.String() == from.Peer || told[p] {
			continue
		}
		o := n.outbox(p)
		for i := range entries {
			o.add(ctx, entries[i])
		}
	}
}

type outbox struct {
	n *Syncer
	p peer.ID

	mu      sync.Mutex
	entries []replica.Entry
	bytes   int // of their keys
	busy    bool
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

// DropOutbox drops what waits for a peer that has gone.
func (n *Syncer) DropOutbox(p peer.ID) {
	n.outboxMu.Lock()
	defer n.outboxMu.Unlock()
	delete(n.outboxes, p)
}

func (o *outbox) add(ctx context.Context, e replica.Entry) {
	o.mu.Lock()
	defer o.mu.Unlock()
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
		if err != nil {
			o.n.log.Debug("push", "peer", o.p, "replica", id.Short(), "error", err)
			o.n.contacts.CompareSoonWith(o.p)
		}
	}
}

func (n *Syncer) PushTo(
	ctx context.Context, p peer.ID, id replica.ID, entries []replica.Entry,
) error {
	statements, items, err := n.marshalPush(ctx, id, entries)
	if err != nil {
		return err
	}
	lookup := names.Lookup(id, p, names.Day(n.cfg.Now()))
	b := bundle.Append(bundle.Append(append([]byte{PushVersion}, lookup[:]...), statements), items)
	// Before the stream is opened: the peer gives it a time.
	if err := n.cfg.Limits.Upload(p).Wait(ctx, len(b), false); err != nil {
		return err
	}
	raw, err := n.net.Open(ctx, p, PushProtocol)
	if err != nil {
		return err
	}
	defer link.ResetAfterFault(raw)
	s := link.Within(raw, idleTimeout)
	if _, err := s.Write(b); err != nil {
		return errors.Join(err, link.GiveUp(s))
	}
	return s.Close()
}

// marshalPush gives the bytes of entries, and of the statements that decide about them.
func (n *Syncer) marshalPush(
	ctx context.Context, id replica.ID, entries []replica.Entry,
) (statements, items [][]byte, err error) {
	if statements, err = n.replicas.StatementsFor(ctx, id, entries); err != nil {
		return nil, nil, err
	}
	statements = bundle.Few(statements)
	for i := range entries {
		raw, err := entries[i].AppendBinary(nil)
		if err != nil {
			return nil, nil, err
		}
		items = append(items, raw)
	}
	return statements, items, nil
}

// readPushHead reads what comes before the items of a push: the lookup.
func readPushHead(r *bufio.Reader) (lookup [32]byte, err error) {
	version, err := r.ReadByte()
	if err != nil {
		return lookup, link.NoEOF(err)
	}
	if version != PushVersion {
		return lookup, fmt.Errorf("push of version %d, expected %d", version, PushVersion)
	}
	_, err = io.ReadFull(r, lookup[:])
	return lookup, link.NoEOF(err)
}

func (n *Syncer) ServePush(s link.Stream) {
	if err := n.takePush(n.ctx, s); err != nil {
		level := slog.LevelInfo
		if errors.Is(err, contacts.ErrNotShared) || n.ctx.Err() != nil {
			level = slog.LevelDebug // it was shared until lately, or this node is closing
		}
		n.log.Log(n.ctx, level, "push refused", "peer", s.Remote(), "error", err)
		_ = s.Reset()
		return
	}
	_ = s.Close()
}

func (n *Syncer) takePush(ctx context.Context, s link.Stream) error {
	if n.blamed.Refused(s.Remote()) {
		return contacts.ErrNotShared
	}
	// Whoever does not know the replica is not listened to, and so costs no memory.
	r := bufio.NewReader(link.Within(s, idleTimeout).EndingIn(requestTime))
	lookup, err := readPushHead(r)
	if err != nil {
		return err
	}
	if err := n.cfg.Limits.MayAsk(s); err != nil {
		return err
	}
	id, err := n.lookups.Find(ctx, lookup)
	if errors.Is(err, contacts.ErrNotShared) {
		n.cfg.Missed(s)
	}
	if err != nil {
		return err
	}
	v := link.VisitOf(s)
	if err := v.Proved(); err != nil {
		return err
	}
	items := bufio.NewReader(unread(r, link.Within(s, idleTimeout).Paced()))
	statements, err := bundle.Read(items, v)
	if err != nil {
		return err
	}
	entries, err := bundle.Read(items, v)
	if err != nil {
		return err
	}
	out, err := n.InsertStatements(ctx, id, statements)
	if err = errors.Join(err, n.passedOn(s.Remote(), id, out)); err != nil {
		return n.blame(s.Remote(), fmt.Errorf("push: %w", err))
	}
	err = n.insertEntries(ctx, id, entries, replica.Origin{Peer: s.Remote().String()})
	if errors.Is(err, replica.ErrNotGranted) {
		n.contacts.CompareSoonWith(s.Remote()) // one of the two does not know all statements
	}
	if err != nil {
		return err
	}
	n.contacts.Shares(s.Remote(), id)
	if n.worthATopic(len(n.contacts.ConnectedSharing(id))) {
		n.keepActive(id) // the next ones come by gossip
	}
	return n.replicas.Sync(ctx)
}
