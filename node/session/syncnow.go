package session

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/internal/fault"
	"github.com/skerry-sync/skerry/node/contacts"
	"github.com/skerry-sync/skerry/node/discovery"
	"github.com/skerry-sync/skerry/node/holders"
	"github.com/skerry-sync/skerry/node/link"
	"github.com/skerry-sync/skerry/replica"
)

// Result is the outcome of one session that somebody asked for.
type Result struct {
	Stats
	Err error
}

const (
	// Patience is how long the peers that are known for a replica have to be reached before others are
	// looked for.
	Patience = time.Second
	// newcomerGrace is how long newcomers are waited for when all others have been synced with.
	newcomerGrace = 3 * time.Second
)

// SyncNow is Node.SyncNow. If anyone will do, peers that cannot be reached are waited for no longer
// than Patience once a session has succeeded; they are reported as failures.
func (n *Syncer) SyncNow(
	ctx context.Context, id replica.ID, only peer.ID, prefix []byte, anyone bool,
) (_ []Result, err error) {
	if n.net == nil {
		return nil, link.ErrOffline
	}
	ctx, done := n.cfg.Within(ctx)
	defer func() { err = done(err) }()
	peers, err := n.toSyncWith(ctx, id, only)
	if err != nil {
		return nil, err
	}
	if only != "" {
		ctx = link.Named(ctx)
	}
	w := &waiting{
		n: n, id: id, prefix: prefix, anyone: anyone, peers: peers,
		results: make([]Result, len(peers)), ended: make(chan int, len(peers)),
	}
	look := func() []Result {
		if only != "" || ctx.Err() != nil {
			return nil
		}
		found, err := n.FindHolders(ctx, id)
		if err != nil && !errors.Is(err, link.ErrNoTable) {
			n.log.Debug("looking for a replica", "replica", id.Short(), "error", err)
		}
		return found
	}
	found, good := w.wait(ctx, look)
	if len(found) == 0 && !good {
		found = look()
	}
	results := slices.DeleteFunc(w.results, func(r Result) bool {
		return only == "" && (errors.Is(r.Err, contacts.ErrNotShared) || len(found) > 0 && r.Err != nil)
	})
	return append(results, found...), ctx.Err()
}

// busyWait is how long a session waits at first before it asks a busy peer again.
const busyWait = 50 * time.Millisecond

// waiting is a SyncNow under way.
type waiting struct {
	n       *Syncer
	id      replica.ID
	prefix  []byte
	anyone  bool // one session is enough
	peers   []holders.Holder
	results []Result
	ended   chan int // the numbers of those that have ended
	// peers that have proved that they hold the replica, and with which the session has not failed
	hopes atomic.Int32
}

// wait runs all sessions until they have ended, and looks for other peers if none is soon reached.
// good tells that a session has succeeded.
func (w *waiting) wait(ctx context.Context, look func() []Result) (found []Result, good bool) {
	meeting, stop := context.WithCancel(ctx) // for those that have not proved themselves
	defer stop()
	patient, hurry := context.WithCancel(ctx) // for newcomers
	defer hurry()
	left, firm := len(w.peers), 0
	for i, p := range w.peers {
		if p.Is == holders.Known {
			firm++
			go w.run(meeting, link.Named(ctx), 0, i)
		} else {
			go w.run(meeting, patient, discovery.ClaimTime, i)
		}
	}
	impatient, over := time.After(Patience), false
	var grace <-chan time.Time
	for left > 0 {
		if w.anyone && good && over {
			stop()
		}
		if good && firm == 0 && grace == nil {
			grace = time.After(newcomerGrace)
		}
		select {
		case i := <-w.ended:
			left--
			good = good || w.results[i].Err == nil
			if w.peers[i].Is == holders.Known {
				firm--
			}
		case <-impatient:
			over = true
			if w.hopes.Load() > 0 || w.anyone && good {
				break
			}
			if found = look(); len(found) > 0 {
				good = true
				stop() // those that cannot be reached need not be waited for
			}
		case <-grace:
			hurry()
		}
	}
	return found, good
}

// run runs the session with one of the peers.
func (w *waiting) run(meeting, ctx context.Context, limit time.Duration, i int) {
	p, hoping := w.peers[i], false
	a := asking{prefix: w.prefix, is: p.Is, proved: func() {
		if !hoping {
			hoping = true
			w.hopes.Add(1)
		}
	}}
	var st Stats
	err := fault.Guard(w.n.log, "a session", func() (err error) {
		st, err = w.n.meetAndSync(meeting, ctx, limit, p.AddrInfo, w.id, a)
		return err
	}, "peer", p.ID, "replica", w.id.Short())
	st.Peer = p.ID // of a session that a fault has ended, too
	if err != nil && hoping {
		w.hopes.Add(-1)
	}
	w.results[i] = Result{st, err}
	w.ended <- i
}

// toSyncWith returns the peers of SyncNow.
func (n *Syncer) toSyncWith(
	ctx context.Context, id replica.ID, only peer.ID,
) ([]holders.Holder, error) {
	peers, err := n.holders.Of(ctx, id)
	if err != nil {
		return nil, err
	}
	for _, p := range n.net.Peers() {
		if (only != "" || p.Near()) && !slices.ContainsFunc(peers,
			func(k holders.Holder) bool { return k.ID == p.ID }) {
			peers = append(peers, holders.Holder{AddrInfo: peer.AddrInfo{ID: p.ID}})
		}
	}
	if only != "" {
		peers = slices.DeleteFunc(peers, func(p holders.Holder) bool { return p.ID != only })
		if len(peers) == 0 {
			return nil, &link.UnreachableError{Peer: only,
				Err: errors.New("it is neither connected nor remembered for this replica")}
		}
		peers[0].Is = holders.Known // somebody asks for it by name
	}
	return peers, nil
}

// meetAndSync connects to a peer and runs a session with it. The peer has until meeting ends, and
// no longer than limit unless that is 0, to be reached and to prove that it holds the replica; ctx
// is for all of it. An *UnreachableError reports a peer that was not waited for.
func (n *Syncer) meetAndSync(
	meeting, ctx context.Context, limit time.Duration, p peer.AddrInfo, id replica.ID, a asking,
) (st Stats, err error) {
	if limit > 0 {
		var cancel context.CancelFunc
		meeting, cancel = context.WithTimeout(meeting, limit)
		defer cancel()
	}
	run, end := context.WithCancel(ctx)
	defer end()
	stop := context.AfterFunc(meeting, end)
	defer stop()
	told := a.proved
	a.proved = func() {
		stop()
		if told != nil {
			told()
		}
	}
	start := time.Now()
	st.Peer = p.ID
	if err = n.net.Connect(run, p); err == nil {
		st, err = n.syncAs(run, p.ID, id, a)
	}
	// The peer's own session goes on, and begin waits for its end; or the peer has not noticed yet
	// that an earlier one is over, such as that of a command that has just ended.
	for busy, wait := time.Now(), busyWait; errors.Is(err, contacts.ErrBusy) &&
		time.Since(busy) < GreetTime; wait *= 2 {
		select {
		case <-time.After(min(wait, time.Second)):
		case <-run.Done():
		}
		st, err = n.syncAs(run, p.ID, id, a)
	}
	if err != nil && run.Err() != nil {
		waited := max(time.Since(start).Round(100*time.Millisecond), 100*time.Millisecond)
		err = &link.UnreachableError{Peer: p.ID, Addrs: p.Addrs, Timeout: waited,
			Err: errors.Join(run.Err(), err)}
	}
	return st, err
}

// Meet connects to a newcomer and runs a session with it. The peer has until meeting ends, and no
// longer than limit unless that is 0, to be reached and to prove that it holds the replica; ctx is
// for all of it.
func (n *Syncer) Meet(
	meeting, ctx context.Context, limit time.Duration, p peer.AddrInfo, id replica.ID,
) (Stats, error) {
	return n.meetAndSync(meeting, ctx, limit, p, id, asking{})
}

// FindHolders looks for holders of a replica in the hash table and runs sessions with some. It
// returns those that succeeded.
func (n *Syncer) FindHolders(ctx context.Context, id replica.ID) (done []Result, err error) {
	var mu sync.Mutex
	err = n.discovery.Find(ctx, id, func(
		proving, session context.Context, limit time.Duration, p peer.AddrInfo, id replica.ID,
	) error {
		st, err := n.Meet(proving, session, limit, p, id)
		if err == nil {
			mu.Lock()
			defer mu.Unlock()
			done = append(done, Result{Stats: st})
		}
		return err
	})
	return done, err
}
