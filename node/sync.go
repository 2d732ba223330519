package node

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/internal/fault"
	"github.com/skerry-sync/skerry/node/bundle"
	"github.com/skerry-sync/skerry/node/contacts"
	"github.com/skerry-sync/skerry/node/holders"
	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/node/names"
	"github.com/skerry-sync/skerry/reconcile"
	"github.com/skerry-sync/skerry/replica"
)

// SyncStats describes one session.
type SyncStats struct {
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

// syncWith runs a session with a connected peer, for the keys that begin with prefix.
func (n *syncer) syncWith(ctx context.Context, p peer.ID, id replica.ID, prefix []byte) (SyncStats, error) {
	return n.syncAs(ctx, p, id, asking{prefix: prefix, is: n.holders.Standing(ctx, id, p)})
}

// syncAs runs a session with a connected peer. The peer has greetTime or, as a newcomer, meetTime
// to prove that it holds the replica; only then does it take a place (see sessions).
func (n *syncer) syncAs(ctx context.Context, p peer.ID, id replica.ID, a asking) (st SyncStats, err error) {
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
func (n *syncer) trySession(ctx context.Context, p peer.ID, id replica.ID, a asking, leavePlace *func(), st *SyncStats) (ran bool, err error) {
	limit := greetTime
	if a.is == holders.Newcomer {
		limit = meetTime
	}
	opening, cancel := context.WithTimeout(ctx, limit)
	raw, err := n.net.Open(opening, p, syncProtocol)
	cancel()
	if err != nil {
		return false, err
	}
	defer resetAfterFault(raw)
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
	if err := n.session(ctx, s, bufio.NewReaderSize(&afterStatus{r: r}, sessionBuffer), g, true, st); err != nil {
		return false, errors.Join(err, link.GiveUp(s))
	}
	_ = s.Close() // both sides have said that they are done
	return true, nil
}

var resetAfterFault = link.ResetAfterFault

// serveSync is the responder's part.
func (n *syncer) serveSync(s link.Stream) {
	start, st := time.Now(), SyncStats{Peer: s.Remote()}
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

func (n *syncer) answerSync(ctx context.Context, s link.Stream, st *SyncStats) error {
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	defer stop()
	// Until the peer has proved that it knows the replica, it gets neither time nor memory.
	greeting := link.Within(s, idleTimeout).EndingIn(greetTime)
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
func (n *syncer) session(
	ctx context.Context, s link.Stream, r *bufio.Reader, g greeting, initiator bool, st *SyncStats,
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
		most, err := n.mostRefused(ctx, g.id)
		if err != nil {
			return err
		}
		statements, err = reconcile.Run(ctx, r, out, abort, reconcile.Config{
			Guard: fault.Call,
			Set:   work.of(n.Replicas.StatementSet(g.id)), Key: names.Keyed(g.key, []byte("statements")),
			Initiator: initiator, Budget: link.VisitOf(s),
			Insert: func(ctx context.Context, items [][]byte) error {
				got, err := n.insertStatements(ctx, g.id, items)
				return errors.Join(err, worth.add(got, most))
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
		if w, err = n.holders.Watch(ctx, n.Replicas, g.id, s.Remote()); err != nil {
			return err
		}
		sent = w.Sent
	}
	x := n.Replicas.NewInserter(ctx, g.id, replica.Origin{Peer: s.Remote().String()})
	entries, err := reconcile.Run(ctx, r, out, abort, reconcile.Config{
		Guard: fault.Call,
		Set:   work.of(n.Replicas.EntrySet(g.id)), Range: replica.PrefixRange(g.prefix),
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
		return n.Replicas.Sync(ctx)
	}
	return nil
}

// blame remembers a peer that has broken the protocol or sent entries that are wrong; sessions with
// it are refused for a while.
func (n *syncer) blame(p peer.ID, err error) error {
	var protocol *reconcile.ProtocolError
	if errors.As(err, &protocol) || isRubbish(err) {
		n.counters.wrongEntries.Add(1)
		n.blamed.Rubbish(p, err)
	}
	return fault.Report(n.log, err, "a session", "peer", p)
}

// isRubbish reports entries or statements that nobody can have sent in good faith. That a grant is
// missing may be nobody's fault.
func isRubbish(err error) bool {
	for _, wrong := range []error{replica.ErrMalformed, replica.ErrMalformedGrant, replica.ErrMalformedRevocation, replica.ErrMalformedEpoch, replica.ErrMalformedKey, replica.ErrTooWide, replica.ErrOutOfTime, replica.ErrBadSignature, replica.ErrWrongReplica, replica.ErrKeyTooLong} {
		if errors.Is(err, wrong) {
			return true
		}
	}
	return false
}

// worthless counts the statements of a peer that this node has refused, since nothing comes of them
// (see replica.Stated). A peer that has not heard of a revocation yet sends some in good faith, but
// no more than a replica keeps of a few delegates, for each epoch. What it gets in the same session
// makes it drop them.
type worthless struct{ refused, taken int }

// How many statements may be refused before the peer is, if it sends more of these than of others.
const (
	maxRefused     = 4 * 2 * replica.MaxDelegated // in a session: all of four delegates
	maxRefusedPush = bundle.Max / 2               // in a push or a message of gossip
)

// maxRefusedEpochs is for how many epochs a peer may send as many.
const maxRefusedEpochs = 64

// mostRefused returns how many statements of a replica may be refused in a session.
func (n *syncer) mostRefused(ctx context.Context, id replica.ID) (int, error) {
	r, err := n.Replicas.Get(ctx, id)
	return maxRefused * (1 + int(min(r.Least.Number, maxRefusedEpochs))), err
}

// add returns a *reconcile.ProtocolError if a peer has sent too many.
func (w *worthless) add(out replica.Stated, most int) error {
	w.refused += out.Refused
	w.taken += out.Added + out.Known
	if w.refused > most && w.refused > w.taken {
		reason := fmt.Sprintf("%d statements without authority, beside %d others", w.refused, w.taken)
		return &reconcile.ProtocolError{Reason: reason}
	}
	return nil
}

// insertStatements stores statements that came from a peer. Revocations and epochs soon go on to
// the others: entries take the grants along that they need, but who is revoked has none to take
// them.
func (n *syncer) insertStatements(ctx context.Context, id replica.ID, items [][]byte) (out replica.Stated, err error) {
	statements, later := make([]replica.Statement, 0, len(items)), 0
	for _, b := range items {
		st, err := replica.ParseStatement(b)
		if errors.Is(err, replica.ErrUnknownStatement) {
			later++ // of a later version; the others count all the same
			continue
		}
		if err != nil {
			return out, err
		}
		statements = append(statements, st)
	}
	if later > 0 && n.laterTold.now(n.cfg.Now()) {
		n.log.Warn("statements of a later version are passed over: use a newer skerry",
			"replica", id.Short(), "count", later)
	}
	out, err = n.Replicas.InsertStatements(ctx, id, statements)
	out.Refused += later // a peer that sends nothing else is a nuisance
	if out.Added == 0 {
		return out, err
	}
	var revokes, keys bool
	for _, st := range statements {
		switch st.(type) {
		case *replica.Revocation:
			revokes = true
		case *replica.Epoch, *replica.WrappedKey:
			keys = true
		}
	}
	if revokes {
		begun, rotateErr := n.Replicas.RotateIfDue(ctx, id)
		keys = keys || begun
		err = errors.Join(err, rotateErr)
	}
	if keys {
		err = errors.Join(err, n.cfg.KeysChanged(ctx, id))
	}
	if revokes || keys {
		n.contacts.CompareSoon()
	}
	return out, err
}

// renewGrants makes grants anew that this node has made as a delegate, when a new read key has
// come. Each session that brings statements tries, so what keeps failing is told now and then.
func (n *syncer) renewGrants(ctx context.Context, id replica.ID) {
	made, err := n.Replicas.Renew(ctx, id)
	if err != nil && ctx.Err() == nil && n.renewTold.now(n.cfg.Now()) {
		n.log.Warn("grants for prefixes are not all renewed for a new read key",
			"replica", id.Short(), "error", err)
	}
	if made > 0 {
		n.contacts.CompareSoon()
	}
}

func (n *syncer) insertEntries(ctx context.Context, id replica.ID, items [][]byte, from replica.Origin) error {
	entries := make([]replica.Entry, 0, len(items))
	var bad error
	for _, b := range items {
		e, err := replica.ParseEntry(b)
		if err != nil {
			bad = err
			continue // the good ones among its neighbours are kept
		}
		entries = append(entries, e)
	}
	_, err := n.Replicas.Insert(ctx, id, entries, from)
	return errors.Join(err, bad)
}
