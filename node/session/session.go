package session

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/internal/fault"
	"github.com/skerry-sync/skerry/node/contacts"
	"github.com/skerry-sync/skerry/node/holders"
	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/node/names"
	"github.com/skerry-sync/skerry/reconcile"
	"github.com/skerry-sync/skerry/replica"
)

// Stats describes one session.
type Stats struct {
	Peer            peer.ID
	Rounds          int // round trips of questions and answers, after the greeting
	Messages        int // both ways together
	BytesSent       uint64
	BytesReceived   uint64
	EntriesSent     uint64
	EntriesReceived uint64
	EntriesLater    int // not stored: too far ahead of this node's clock
	Lost            int // entries that the peer has had before and lacked now; see package holders
	Duration        time.Duration
}

// idleTimeout is how long a peer may take for the next byte.
const idleTimeout = 30 * time.Second

// sessionBuffer is that of what a session reads.
const sessionBuffer = 256 << 10

// asking says how a session is asked for.
type asking struct {
	prefix []byte
	is     holders.Standing // of the peer, for this replica
	proved func()           // told when the peer has proved that it holds the replica; may be nil
}

// newcomerTime is how long a session with a newcomer may take, however much progress it makes. The
// next one goes on from what this one brought.
const newcomerTime = 5 * time.Minute

// SyncWith runs a session with a connected peer, for the keys that begin with prefix.
func (n *Syncer) SyncWith(
	ctx context.Context, p peer.ID, id replica.ID, prefix []byte,
) (Stats, error) {
	return n.syncAs(ctx, p, id, asking{prefix: prefix, is: n.holders.Standing(ctx, id, p)})
}

// SyncAs runs a session with a connected peer that is of some standing for the replica.
func (n *Syncer) SyncAs(
	ctx context.Context, p peer.ID, id replica.ID, is holders.Standing,
) (Stats, error) {
	return n.syncAs(ctx, p, id, asking{is: is})
}

// syncAs runs a session with a connected peer. The peer has GreetTime or, as a newcomer, meetTime
// to prove that it holds the replica; only then does it take a place (see sessions).
func (n *Syncer) syncAs(
	ctx context.Context, p peer.ID, id replica.ID, a asking,
) (st Stats, err error) {
	start := time.Now()
	st.Peer = p
	defer func() {
		st.Duration = time.Since(start)
		n.counters.session(&n.counters.began, &st, st.Duration, err)
	}()
	var leavePlace func()
	defer func() { // also if the peer's own session is waited for, in vain, with a place
		if leavePlace != nil {
			leavePlace()
		}
	}()
	for {
		leave, err := n.sessions.Begin(ctx, id, p)
		if err != nil {
			return st, err
		}
		ran := false
		err = fault.Guard(n.log, "a session", func() (err error) {
			ran, err = n.trySession(ctx, p, id, a, &leavePlace, &st)
			return err
		}, "peer", p, "replica", id.Short())
		leave()
		if ran || err != nil {
			return st, err
		}
		// The peer has proved itself, and all places are taken. It is greeted again when one is
		// free: what was said of the statements may have changed.
		if leavePlace, err = n.sessions.Place(ctx, id, a.is); err != nil {
			return st, err
		}
	}
}

// trySession greets the peer, and runs the session if a place is free, or was taken before.
func (n *Syncer) trySession(
	ctx context.Context, p peer.ID, id replica.ID, a asking, leavePlace *func(), st *Stats,
) (ran bool, err error) {
	limit := GreetTime
	if a.is == holders.Newcomer {
		limit = meetTime
	}
	opening, cancel := context.WithTimeout(ctx, limit)
	raw, err := n.net.Open(opening, p, Protocol)
	cancel()
	if err != nil {
		return false, err
	}
	defer link.ResetAfterFault(raw)
	s := new(link.Patient)
	*s = link.Within(raw, limit).EndingIn(limit)
	stop := context.AfterFunc(ctx, func() { _ = raw.Reset() })
	defer stop()
	r := bufio.NewReaderSize(s, sessionBuffer)
	g, err := n.greet(ctx, s, r, id, a.prefix)
	if err != nil {
		return false, errors.Join(err, link.GiveUp(s))
	}
	if a.proved != nil {
		a.proved()
	}
	if *leavePlace == nil {
		var free bool
		if *leavePlace, free = n.sessions.TryPlace(id, a.is); !free {
			return false, link.GiveUp(s)
		}
	}
	*s = link.Within(raw, idleTimeout).Paced()
	if a.is == holders.Newcomer {
		*s = s.EndingIn(newcomerTime)
	}
	if err := g.confirm(s); err != nil {
		return false, errors.Join(err, link.GiveUp(s))
	}
	if err := n.session(ctx, s, bufio.NewReaderSize(&afterStatus{r: r}, sessionBuffer), g, true,
		st); err != nil {
		return false, errors.Join(err, link.GiveUp(s))
	}
	_ = s.Close() // both sides have said that they are done
	return true, nil
}

// ServeSync is the responder's part.
func (n *Syncer) ServeSync(s link.Stream) {
	start, st := time.Now(), Stats{Peer: s.Remote()}
	err := n.answerSync(n.ctx, s, &st)
	n.counters.session(&n.counters.asked, &st, time.Since(start), err)
	if errors.Is(err, contacts.ErrBusy) {
		_ = s.Close() // not a reset, which could overtake the status
		return
	}
	if err != nil {
		n.log.Debug("serving a session", "peer", s.Remote(), "error", err)
		_ = s.Reset()
		return
	}
	_ = s.Close()
}

func (n *Syncer) answerSync(ctx context.Context, s link.Stream, st *Stats) error {
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	defer stop()
	// Until the peer has proved that it knows the replica, it gets neither time nor memory.
	greeting := link.Within(s, idleTimeout).EndingIn(GreetTime)
	small := bufio.NewReader(greeting)
	g, err := n.welcome(ctx, greeting, small)
	if err != nil {
		return err
	}
	v := link.VisitOf(s)
	if err := errors.Join(v.Proved(), v.Take(sessionBuffer)); err != nil {
		return err
	}
	s = link.Within(s, idleTimeout).Paced()
	r := bufio.NewReaderSize(unread(small, s), sessionBuffer)
	leave, ok := n.sessions.Accept(g.id, s.Remote(), n.id)
	if !ok {
		_, err := s.Write([]byte{statusBusy})
		return errors.Join(contacts.ErrBusy, err, s.CloseWrite())
	}
	defer leave()
	if _, err := s.Write([]byte{statusGoOn}); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	return n.session(ctx, s, r, g, false, st)
}

// unread reads what a reader has buffered and then goes on with s.
func unread(r *bufio.Reader, s io.Reader) io.Reader {
	return io.MultiReader(io.LimitReader(r, int64(r.Buffered())), s)
}

// session reconciles the statements and then the entries, and makes what came durable.
func (n *Syncer) session(
	ctx context.Context, s link.Stream, r *bufio.Reader, g greeting, initiator bool, st *Stats,
) (err error) {
	abort := func() { _ = s.Reset() }
	work := &bill{limits: n.cfg.Limits, s: s}
	defer func() { err = errors.Join(err, work.settle(ctx)) }()
	out := work.payingBy(n.cfg.Limits.Entries(ctx, s.Remote(), s))
	add := func(x reconcile.Stats) {
		st.Rounds += x.Rounds
		st.Messages += x.Messages
		st.BytesSent += x.BytesSent
		st.BytesReceived += x.BytesReceived
	}
	var statements reconcile.Stats
	if !g.sameStatements {
		var worth worthless
		statements, err = reconcile.Run(ctx, r, out, abort, reconcile.Config{
			Guard: fault.Call,
			Set:   work.of(n.replicas.StatementSet(g.id)), Key: names.Keyed(g.key, []byte("statements")),
			Initiator: initiator, Budget: link.VisitOf(s),
			Insert: func(ctx context.Context, items [][]byte) error {
				got, err := n.InsertStatements(ctx, g.id, items)
				return errors.Join(err, worth.addOf(ctx, n, g.id, got))
			},
		})
		add(statements)
		if err != nil {
			return n.blame(s.Remote(), fmt.Errorf("sync statements: %w", err))
		}
		if statements.ItemsReceived > 0 {
			n.renewGrants(ctx, g.id)
		}
	}
	n.blamed.Agreed(s.Remote(), g.id)
	var w *holders.Watch
	var sent func(*reconcile.Item)
	if len(g.prefix) == 0 {
		var err error
		if w, err = n.holders.Watch(ctx, n.replicas, g.id, s.Remote()); err != nil {
			return err
		}
		sent = w.Sent
	}
	x := n.replicas.NewInserter(ctx, g.id, replica.Origin{Peer: s.Remote().String()})
	entries, err := reconcile.Run(ctx, r, out, abort, reconcile.Config{
		Guard: fault.Call,
		Set:   work.of(n.replicas.EntrySet(g.id)), Range: replica.PrefixRange(g.prefix),
		Key: names.Keyed(g.key, []byte("entries")), Initiator: initiator, Budget: link.VisitOf(s),
		Insert: func(_ context.Context, items [][]byte) error { return x.Add(items) },
		Flush:  func(context.Context) error { return x.Flush() },
		Sent:   n.cfg.Sending(s.Remote(), sent),
	})
	stored, bad := x.Close()
	add(entries)
	st.EntriesLater = stored.Later
	st.EntriesSent, st.EntriesReceived = entries.ItemsSent, entries.ItemsReceived
	if err = errors.Join(err, bad); err != nil {
		return n.blame(s.Remote(), fmt.Errorf("sync entries: %w", err))
	}
	n.contacts.Shares(s.Remote(), g.id) // before what it has had is noted: of the remembered alone
	if w != nil {
		if st.Lost, err = w.End(ctx); err != nil {
			return err
		}
	}
	if entries.ItemsReceived > 0 || statements.ItemsReceived > 0 {
		return n.replicas.Sync(ctx)
	}
	return nil
}

// blame remembers a peer that has broken the protocol or sent entries that are wrong; sessions with
// it are refused for a while.
func (n *Syncer) blame(p peer.ID, err error) error {
	var protocol *reconcile.ProtocolError
	if errors.As(err, &protocol) || isRubbish(err) {
		n.counters.wrongEntries.Add(1)
		n.blamed.Rubbish(p, err)
	}
	return fault.Report(n.log, err, "a session", "peer", p)
}
