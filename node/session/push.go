package session

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

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
			n.dropRested()
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
	var told map[peer.ID]bool
	if from.Spread {
		told = n.toldByOthers(id, sharing)
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

// pushedBesides is to how many holders a node pushes what has come by gossip, although they
// listen, while others listen, too. Each holder that gets an entry passes it on in turn.
const pushedBesides = 6

// toldByOthers returns those of the peers that hold a replica that have what came by gossip: from
// whoever passed it on, or from this node, which has. Gossip passes a message on to a few of those
// who listen. Anybody can listen, and pass nothing on: as long as somebody does who has not shown
// to hold the replica, some holders are taken for not told.
func (n *Syncer) toldByOthers(id replica.ID, sharing []peer.ID) map[peer.ID]bool {
	listening, told, others := n.net.Listeners(names.Topic(id)), map[peer.ID]bool{}, 0
	for _, p := range listening {
		if slices.Contains(sharing, p) {
			told[p] = true
		} else {
			others++
		}
	}
	if others == 0 {
		return told
	}
	besides := 0
	for p := range told { // in no order
		if besides++; besides > pushedBesides {
			break
		}
		delete(told, p)
	}
	return told
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
	fresh, err := n.insertPushed(ctx, id, s.Remote(), statements, entries)
	if !fresh { // it has cost as much as if it were
		err = errors.Join(err, n.cfg.Limits.Worked(ctx, s, workOf(statements, entries)))
	}
	if err != nil {
		return err
	}
	n.contacts.Shares(s.Remote(), id)
	if n.worthATopic(len(n.contacts.ConnectedSharing(id))) {
		n.keepActive(id) // the next ones come by gossip
	}
	if !fresh {
		return nil
	}
	return n.replicas.Sync(ctx)
}

// insertPushed stores what a peer has pushed, and reports whether any of it is new here.
func (n *Syncer) insertPushed(
	ctx context.Context, id replica.ID, p peer.ID, statements, entries [][]byte,
) (fresh bool, err error) {
	out, err := n.InsertStatements(ctx, id, statements)
	fresh = out.Added > 0
	if len(entries) == 0 { // no node pushes statements alone: the peer has made them up
		out.Void = out.Refused
	}
	if err = errors.Join(err, n.passedOn(p, id, out)); err != nil {
		return fresh, n.blame(p, fmt.Errorf("push: %w", err))
	}
	in, err := n.insertEntries(ctx, id, entries, replica.Origin{Peer: p.String()})
	fresh = fresh || len(in.Added) > 0
	if errors.Is(err, replica.ErrNotGranted) {
		n.contacts.CompareSoonWith(p) // one of the two does not know all statements
	}
	return fresh, err
}
