// Package downloads fetches the content that the entries of a node want, in the background.
//
// What belongs here: whom to ask for what and when, by one worker for each peer (downloads.go),
// what it claims of all that is wanted (claim.go), what peers did not have (refusals.go), how much
// each may give (ration.go), and what changes with a download policy (policy.go). What never
// belongs here: the records of what is wanted (package wanted), how it is fetched (package
// content), and who holds what (package contacts).
//
// Start at [Workers].
package downloads

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/internal/fault"
	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/node/content"
	"github.com/skerry-sync/skerry/node/wanted"
	"github.com/skerry-sync/skerry/replica"
)

// Contacts knows what the connected peers hold.
type Contacts interface {
	// AllSharing returns the peers that hold any replica of this node, and SharesAny says whether a
	// peer is one of them.
	AllSharing() []peer.ID
	SharesAny(p peer.ID) bool
	// Holds reports whether a peer holds a replica, and ConnectedSharing returns all that do.
	Holds(p peer.ID, id replica.ID) bool
	ConnectedSharing(id replica.ID) []peer.ID
	// Holders returns the peers that hold any of some replicas.
	Holders(ids map[replica.ID]bool) []peer.ID
}

// Fetcher fetches content from peers.
type Fetcher interface {
	FetchClaims(ctx context.Context, c content.Claims) (content.Outcome, error)
}

// Replicas are those of the node, of which policies are set.
type Replicas interface {
	Get(ctx context.Context, id replica.ID) (replica.Replica, error)
	Plain(ctx context.Context, id replica.ID) (*replica.Plain, error)
	Entries(
		ctx context.Context, id replica.ID, q replica.Query,
	) iter.Seq2[replica.Entry, error]
}

// Config is what Workers need. All fields but PeerStorage must be set.
type Config struct {
	// Ctx ends when the node closes.
	Ctx      context.Context
	Store    kv.Store
	Wanted   *wanted.List
	Replicas Replicas
	Contacts Contacts
	Content  Fetcher
	// PeerStorage is how many bytes of content one peer may make this node fetch in all; 0 is without
	// a limit.
	PeerStorage uint64
	Now         func() time.Time
	Log         *slog.Logger
	// Go runs a function in a goroutine that the node waits for when it closes.
	Go func(func())
}

// Workers fetch the content that entries point at, from connected peers that hold the replica: one
// worker for each peer, so that several peers share the work, and no blob is asked of two at a
// time. The methods may be called from many goroutines.
type Workers struct {
	cfg Config

	mu     sync.Mutex
	busy   map[blobs.Hash]bool // asked of some peer right now
	failed refusals
	active map[peer.ID]work // has a worker
	look   map[peer.ID]bool // may have something to give: a worker is to look
	all    bool             // all are to look
	bell   chan struct{}
}

// work is the state of a peer's worker.
type work int

const (
	atWork   work = 1
	lookOnce work = 2 // something has changed since it last looked: look once more before it ends
)

// New returns Workers that do nothing until Run.
func New(cfg Config) *Workers {
	return &Workers{
		cfg: cfg, busy: map[blobs.Hash]bool{}, failed: newRefusals(), active: map[peer.ID]work{},
		look: map[peer.ID]bool{}, bell: make(chan struct{}, 1),
	}
}

func (d *Workers) wake() {
	select {
	case d.bell <- struct{}{}:
	default:
	}
}

// LookAt has what these peers may give looked for.
func (d *Workers) LookAt(peers ...peer.ID) {
	d.mu.Lock()
	for _, p := range peers {
		d.look[p] = true
	}
	d.mu.Unlock()
	d.wake()
}

// LookEverywhere is LookAt for all peers.
func (d *Workers) LookEverywhere() {
	d.mu.Lock()
	d.all = true
	d.mu.Unlock()
	d.wake()
}

// Run gives each peer that may have something to give a worker, whenever something may have become
// wanted or available, until ctx ends.
func (d *Workers) Run(ctx context.Context) {
	again := time.NewTimer(lastRefusal)
	defer again.Stop()
	for {
		again.Reset(d.untilDue())
		select {
		case <-ctx.Done():
			return
		case <-d.bell:
		case <-again.C:
		}
		for _, p := range d.toLookAt() {
			d.mu.Lock()
			start := d.active[p] == 0
			d.active[p] = lookOnce
			d.mu.Unlock()
			if start {
				d.cfg.Go(func() { d.work(ctx, p) })
			}
		}
	}
}

// toLookAt takes the peers that are to be looked at: those that were named, and those that may be
// asked again for what they did not have.
func (d *Workers) toLookAt() (out []peer.ID) {
	now := d.cfg.Now()
	d.mu.Lock()
	look, all := d.look, d.all
	d.look, d.all = map[peer.ID]bool{}, false
	d.failed.due(now, func(p peer.ID) { look[p] = true })
	d.mu.Unlock()
	if all {
		return d.cfg.Contacts.AllSharing()
	}
	for p := range look {
		if d.cfg.Contacts.SharesAny(p) {
			out = append(out, p)
		}
	}
	return out
}

// untilDue is the time until some peer may be asked again.
func (d *Workers) untilDue() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return max(d.failed.untilDue(d.cfg.Now(), lastRefusal), 10*time.Millisecond)
}

// work fetches from p until it has nothing more that is wanted. If that fails, the timer tries
// again.
func (d *Workers) work(ctx context.Context, p peer.ID) {
	failed := false
	for !d.ends(p, failed || ctx.Err() != nil) {
		for ctx.Err() == nil {
			batch, err := d.claim(ctx, p)
			if failed = err != nil; failed {
				d.cfg.Log.Error("downloads", "error", err)
				break
			}
			if len(batch) == 0 {
				break
			}
			batch, later, err := d.ration(ctx, p, batch)
			if err == nil {
				err = fault.Guard(d.cfg.Log, "a download", func() error {
					return d.fetch(ctx, p, batch)
				}, "peer", p)
			}
			d.unclaim(later)
			d.release(ctx, p, batch)
			if failed = err != nil; failed {
				d.cfg.Log.Info("download", "peer", p, "error", err)
				break
			}
			d.worked(p)
		}
		if failed {
			d.broke(p)
		}
	}
}

func (d *Workers) worked(p peer.ID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failed.worked(p)
}

// broke has the timer set for p, of which the worker ends before its time.
func (d *Workers) broke(p peer.ID) {
	d.mu.Lock()
	d.failed.broke(p, d.cfg.Now())
	d.mu.Unlock()
	d.wake()
}

// ends decides, in one step with being asked to look again, whether the worker of p ends.
func (d *Workers) ends(p peer.ID, must bool) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if must || d.active[p] != lookOnce {
		delete(d.active, p)
		return true
	}
	d.active[p] = atWork
	return false
}

func (d *Workers) unclaim(batch []piece) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, w := range batch {
		delete(d.busy, w.Hash)
	}
}

// largeContent is the size in bytes from which content is fetched from all peers that hold it
// together; less is not worth asking several.
const largeContent = 4 << 20

func (d *Workers) fetch(ctx context.Context, p peer.ID, batch []piece) error {
	replicas, large := map[replica.ID]bool{}, map[replica.ID]bool{}
	for _, w := range batch {
		replicas[w.Replica] = true
		if w.Size >= largeContent {
			large[w.Replica] = true
		}
	}
	helpers := func(of map[replica.ID]bool) []peer.ID {
		return slices.DeleteFunc(d.cfg.Contacts.Holders(of), func(q peer.ID) bool {
			return q != p && !d.mayGive(ctx, q, batch)
		})
	}
	claims := make([]content.Claim, len(batch))
	for i, w := range batch {
		claims[i] = content.Claim{Hash: w.Hash, Size: w.Size}
	}
	out, err := d.cfg.Content.FetchClaims(ctx, content.Claims{
		Claims: claims, Lead: p, Others: helpers(large),
		// All workers pass over what is asked of p. If p stalls, this fetch asks the others.
		Relief: func() []peer.ID { return helpers(replicas) },
	})
	for i := range batch {
		batch[i].Proved, batch[i].Refuted = out.Wrong[i]
		batch[i].untried = out.Untried[i]
	}
	for q, bytes := range out.Gave {
		d.addTaken(q, bytes)
	}
	var missing *content.MissingError
	if errors.As(err, &missing) && len(missing.Causes) == 0 {
		return nil // release notes what did not come
	}
	return err
}

// release takes what has arrived off the list of wanted content, makes it durable, and remembers
// what p did not give.
func (d *Workers) release(ctx context.Context, p peer.ID, batch []piece) {
	d.unclaim(batch)
	ctx = context.WithoutCancel(ctx) // also when the node closes: what has arrived has arrived
	var done [][]byte
	var wrong []wanted.Content
	// Replicas of which others may have what p did not give: their workers passed over what was asked
	// of p.
	others := map[replica.ID]bool{}
	states := d.cfg.Wanted.States()
	for _, w := range batch {
		if w.Refuted {
			wrong = append(wrong, w.Content)
			continue
		}
		state, err := states.OfContent(ctx, w.Hash, w.Size)
		if err != nil {
			d.cfg.Log.Error("downloads", "error", err)
			return
		}
		if state == wanted.Complete {
			done = append(done, w.Record)
			d.mu.Lock()
			d.failed.gave(p, w.Hash)
			d.mu.Unlock()
			continue
		}
		d.mu.Lock()
		switch w.untried {
		case content.Unasked:
		case content.TooSlow:
			d.failed.pass(p, w.Hash, d.cfg.Now())
		default:
			d.failed.note(p, w.Hash, d.cfg.Now())
		}
		d.mu.Unlock()
		others[w.Replica] = true
	}
	d.mu.Lock()
	d.failed.prune(d.cfg.Now())
	d.mu.Unlock()
	for id := range others { // LookAt has the timer set, too
		sharing := d.cfg.Contacts.ConnectedSharing(id)
		d.LookAt(slices.DeleteFunc(sharing, func(q peer.ID) bool { return q == p })...)
	}
	if err := d.cfg.Wanted.Refute(ctx, wrong); err != nil {
		d.cfg.Log.Error("downloads", "error", err)
		return
	}
	if len(done) == 0 {
		return
	}
	if err := d.cfg.Wanted.Came(ctx, done); err != nil {
		d.cfg.Log.Error("downloads", "error", err)
	}
}

// DueAgain lets p be asked again for everything: it may have got it meanwhile.
func (d *Workers) DueAgain(p peer.ID) {
	d.mu.Lock()
	d.failed.again(p)
	d.mu.Unlock()
	d.LookAt(p)
}

// Stats are what Workers have to do.
type Stats struct {
	Fetching int // pieces of content that are asked of a peer right now
	Refused  int // refusals that are remembered
	Rounds   int // peers that lack too much to remember
}

// Stats returns what there is to do now.
func (d *Workers) Stats() Stats {
	d.mu.Lock()
	defer d.mu.Unlock()
	return Stats{Fetching: len(d.busy), Refused: d.failed.total, Rounds: len(d.failed.rounds)}
}

// Retune changes how many refusals are remembered of each peer, and how many at least when all
// peers together have many. It is for tests.
func (d *Workers) Retune(most, least int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failed.most, d.failed.least = most, least
}
