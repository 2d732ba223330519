package node

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/internal/fault"
	"github.com/skerry-sync/skerry/kv"
	"github.com/skerry-sync/skerry/node/content"
	"github.com/skerry-sync/skerry/replica"
)

// downloads fetches the content that entries point at, from connected peers that hold the replica:
// one worker for each peer, so that several peers share the work, and no blob is asked of two at a
// time.
type downloads struct {
	n *Node

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

// refusal notes that a peer did not have some content. It may be fetching it itself, so it is soon
// asked again, and then less and less often: content is found after at most twice the time in which
// it was not there, or lastRefusal later. A peer that comes, or turns out to hold a replica, is
// asked anew.
type refusal struct {
	until time.Time
	wait  time.Duration
	asked bool // the time is over, and a worker looks
}

const (
	downloadBatch = 512
	firstRefusal  = 200 * time.Millisecond
	lastRefusal   = 10 * time.Minute
	// batchBytes is how many bytes are claimed for a peer at a time, unless it is one piece of
	// content: what is behind it can be claimed for others.
	batchBytes = 256 << 20
	// leastBatch is how many pieces are claimed whatever they say of their sizes: what claims much may
	// be nowhere.
	leastBatch = 32
	// oldRefusal is how long a refusal is kept once the peer may be asked again; one that is here is
	// asked at once.
	oldRefusal = time.Minute
)

func newDownloads(n *Node) *downloads {
	return &downloads{
		n: n, busy: map[blobs.Hash]bool{}, failed: newRefusals(), active: map[peer.ID]work{},
		look: map[peer.ID]bool{}, bell: make(chan struct{}, 1),
	}
}

func (d *downloads) wake() {
	select {
	case d.bell <- struct{}{}:
	default:
	}
}

// lookAt has what these peers may give looked for.
func (d *downloads) lookAt(peers ...peer.ID) {
	d.mu.Lock()
	for _, p := range peers {
		d.look[p] = true
	}
	d.mu.Unlock()
	d.wake()
}

// lookEverywhere is lookAt for all peers.
func (d *downloads) lookEverywhere() {
	d.mu.Lock()
	d.all = true
	d.mu.Unlock()
	d.wake()
}

// run gives each peer that may have something to give a worker, whenever something may have become
// wanted or available.
func (d *downloads) run(ctx context.Context) {
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
				d.n.work.Go(func() { d.work(ctx, p) })
			}
		}
	}
}

// toLookAt takes the peers that are to be looked at: those that were named, and those that may be
// asked again for what they did not have.
func (d *downloads) toLookAt() (out []peer.ID) {
	now := d.n.cfg.Now()
	d.mu.Lock()
	look, all := d.look, d.all
	d.look, d.all = map[peer.ID]bool{}, false
	d.failed.due(now, func(p peer.ID) { look[p] = true })
	d.mu.Unlock()
	if all {
		return d.n.contacts.AllSharing()
	}
	for p := range look {
		if d.n.contacts.SharesAny(p) {
			out = append(out, p)
		}
	}
	return out
}

// untilDue is the time until some peer may be asked again.
func (d *downloads) untilDue() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return max(d.failed.untilDue(d.n.cfg.Now(), lastRefusal), 10*time.Millisecond)
}

// work fetches from p until it has nothing more that is wanted. If that fails, the timer tries
// again.
func (d *downloads) work(ctx context.Context, p peer.ID) {
	failed := false
	for !d.ends(p, failed || ctx.Err() != nil) {
		for ctx.Err() == nil {
			batch, err := d.claim(ctx, p)
			if failed = err != nil; failed {
				d.n.log.Error("downloads", "error", err)
				break
			}
			if len(batch) == 0 {
				break
			}
			batch, later, err := d.ration(ctx, p, batch)
			if err == nil {
				err = fault.Guard(d.n.log, "a download", func() error { return d.fetch(ctx, p, batch) }, "peer", p)
			}
			d.unclaim(later)
			d.release(ctx, p, batch)
			if failed = err != nil; failed {
				d.n.log.Info("download", "peer", p, "error", err)
				break
			}
			d.worked(p)
		}
		if failed {
			d.broke(p)
		}
	}
}

func (d *downloads) worked(p peer.ID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failed.worked(p)
}

// broke has the timer set for p, of which the worker ends before its time.
func (d *downloads) broke(p peer.ID) {
	d.mu.Lock()
	d.failed.broke(p, d.n.cfg.Now())
	d.mu.Unlock()
	d.wake()
}

// ends decides, in one step with being asked to look again, whether the worker of p ends.
func (d *downloads) ends(p peer.ID, must bool) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if must || d.active[p] != lookOnce {
		delete(d.active, p)
		return true
	}
	d.active[p] = atWork
	return false
}

func (d *downloads) unclaim(batch []wantedContent) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, w := range batch {
		delete(d.busy, w.hash)
	}
}

// largeContent is the size in bytes from which content is fetched from all peers that hold it
// together; less is not worth asking several.
const largeContent = 4 << 20

// ration returns the part of a batch that the limit of what p may make this node fetch leaves room
// for, and what is to be looked at again after that: of the first part, not all may come. What
// there is no room for at all counts as not given; it is in the batch that comes with an error, or
// is noted here.
func (d *downloads) ration(ctx context.Context, p peer.ID, batch []wantedContent) (now, later []wantedContent, err error) {
	limit := d.n.cfg.Limits.PeerStorage
	if limit == 0 {
		return batch, nil, nil
	}
	now, later, never := affordable(batch, limit, d.n.taken(ctx, p))
	if len(now) == 0 {
		return batch, nil, fmt.Errorf("content fetched from peer %s has reached the limit of %d bytes", p, limit)
	}
	if len(never) > 0 {
		d.release(ctx, p, never)
	}
	return now, later, nil
}

func (d *downloads) fetch(ctx context.Context, p peer.ID, batch []wantedContent) error {
	replicas, large := map[replica.ID]bool{}, map[replica.ID]bool{}
	for _, w := range batch {
		replicas[w.replica] = true
		if w.size >= largeContent {
			large[w.replica] = true
		}
	}
	helpers := func(of map[replica.ID]bool) []peer.ID {
		return slices.DeleteFunc(d.n.contacts.Holders(of), func(q peer.ID) bool {
			return q != p && !d.n.mayGive(ctx, q, batch)
		})
	}
	claims := make([]content.Claim, len(batch))
	for i, w := range batch {
		claims[i] = content.Claim{Hash: w.hash, Size: w.size}
	}
	out, err := d.n.content.FetchClaims(ctx, content.Claims{
		Claims: claims, Lead: p, Others: helpers(large),
		// All workers pass over what is asked of p. If p stalls, this fetch asks the others.
		Relief: func() []peer.ID { return helpers(replicas) },
	})
	for i := range batch {
		batch[i].proved, batch[i].refuted = out.Wrong[i]
		batch[i].untried = out.Untried[i]
	}
	for q, bytes := range out.Gave {
		d.n.addTaken(q, bytes)
	}
	var missing *content.MissingError
	if errors.As(err, &missing) && len(missing.Causes) == 0 {
		return nil // release notes what did not come
	}
	return err
}

// affordable returns the part of a batch that, by its claims, stays within a limit of bytes of
// which some are taken; what would do so without that part; and the rest. More than is claimed does
// not come.
func affordable(batch []wantedContent, limit, taken uint64) (now, later, never []wantedContent) {
	room := limit - min(taken, limit)
	left := room
	for _, w := range batch {
		switch {
		case w.size > 0 && w.size <= left:
			left -= w.size
			now = append(now, w)
		case w.size > 0 && w.size <= room:
			later = append(later, w)
		default:
			never = append(never, w)
		}
	}
	return now, later, never
}

// What a peer has given in the background is counted:
//
//	n q peer-id   bytes of content fetched from the peer in the background, u64
const keyTaken = "nq"

// mayGive reports whether the limit of what a peer may make this node fetch leaves room for a batch
// that is fetched from another one, if this peer gives all of it.
func (n *Node) mayGive(ctx context.Context, p peer.ID, batch []wantedContent) bool {
	limit := n.cfg.Limits.PeerStorage
	if limit == 0 {
		return true
	}
	now, _, _ := affordable(batch, limit, n.taken(ctx, p))
	return len(now) == len(batch)
}

// taken returns how many bytes of content have been fetched from p in the background.
func (n *Node) taken(ctx context.Context, p peer.ID) (bytes uint64) {
	err := n.kv.View(ctx, func(r kv.Reader) (err error) {
		bytes, err = takenIn(r, p)
		return err
	})
	if err != nil {
		n.log.Warn("bytes taken from a peer", "peer", p, "error", err)
	}
	return bytes
}

func takenIn(r kv.Reader, p peer.ID) (bytes uint64, err error) {
	err = r.Peek(append([]byte(keyTaken), p...), func(v []byte) error {
		if len(v) == 8 {
			bytes = binary.BigEndian.Uint64(v)
		}
		return nil
	})
	if errors.Is(err, kv.ErrNotFound) {
		return 0, nil
	}
	return bytes, err
}

// addTaken counts what p has given. Several fetches may take something from it at the same time.
func (n *Node) addTaken(p peer.ID, bytes uint64) {
	if bytes == 0 || n.cfg.Limits.PeerStorage == 0 {
		return
	}
	err := n.kv.Update(context.WithoutCancel(n.ctx), func(tx kv.Txn) error {
		before, err := takenIn(tx, p)
		if err != nil {
			return err
		}
		total := binary.BigEndian.AppendUint64(nil, before+bytes)
		return tx.Set(append([]byte(keyTaken), p...), total)
	})
	if err != nil {
		n.log.Warn("bytes taken from a peer", "peer", p, "error", err)
	}
}

// release takes what has arrived off the list of wanted content, makes it durable, and remembers
// what p did not give.
func (d *downloads) release(ctx context.Context, p peer.ID, batch []wantedContent) {
	d.unclaim(batch)
	ctx = context.WithoutCancel(ctx) // also when the node closes: what has arrived has arrived
	var done [][]byte
	var wrong []wantedContent
	others := map[replica.ID]bool{} // replicas of which others may have what p did not give: their workers passed over what was asked of p
	states := contentStates{n: d.n}
	for _, w := range batch {
		if w.refuted {
			wrong = append(wrong, w)
			continue
		}
		state, err := states.of(ctx, w.hash, w.size)
		if err != nil {
			d.n.log.Error("downloads", "error", err)
			return
		}
		if state == ContentComplete {
			done = append(done, w.key)
			d.mu.Lock()
			d.failed.gave(p, w.hash)
			d.mu.Unlock()
			continue
		}
		d.mu.Lock()
		switch w.untried {
		case content.Unasked:
		case content.TooSlow:
			d.failed.pass(p, w.hash, d.n.cfg.Now())
		default:
			d.failed.note(p, w.hash, d.n.cfg.Now())
		}
		d.mu.Unlock()
		others[w.replica] = true
	}
	d.mu.Lock()
	d.failed.prune(d.n.cfg.Now())
	d.mu.Unlock()
	for id := range others {
		d.lookAt(slices.DeleteFunc(d.n.contacts.ConnectedSharing(id), func(q peer.ID) bool { return q == p })...) // and the timer is set
	}
	if err := d.n.refute(ctx, wrong); err != nil {
		d.n.log.Error("downloads", "error", err)
		return
	}
	if len(done) == 0 {
		return
	}
	if err := errors.Join(d.n.Blobs.Sync(ctx), d.n.dropKeys(ctx, done)); err != nil {
		d.n.log.Error("downloads", "error", err)
		return
	}
	d.n.arrived.publish()
}

// dueAgain lets p be asked again for everything: it may have got it meanwhile.
func (d *downloads) dueAgain(p peer.ID) {
	d.mu.Lock()
	d.failed.again(p)
	d.mu.Unlock()
	d.lookAt(p)
}

// arrivals tells those who wait for content that some has come.
type arrivals struct {
	mu   sync.Mutex
	next chan struct{}
}

func (a *arrivals) publish() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.next != nil {
		close(a.next)
		a.next = nil
	}
}

// wait returns a channel that is closed when the next content has come.
func (a *arrivals) wait() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.next == nil {
		a.next = make(chan struct{})
	}
	return a.next
}

// WaitContent waits until the content that somebody names by hash and size is all here, or ctx
// ends. It returns a *content.SizeError if what is here of it shows that the size is wrong.
func (n *Node) WaitContent(ctx context.Context, h blobs.Hash, size uint64) error {
	return n.waitContent(ctx, func() (ContentState, error) { return n.ContentState(ctx, h, size) }, func() error {
		info, err := n.Blobs.Stat(ctx, h)
		return errors.Join(&content.SizeError{Hash: h, Want: size, Have: info.Size}, err)
	})
}

// WaitEntry waits until the content of an entry is all here, or ctx ends. It returns a
// *content.SizeError if the size that the entry gives turns out to be wrong.
func (n *Node) WaitEntry(ctx context.Context, e *replica.Entry) error {
	state := func() (ContentState, error) { return n.ContentOf(ctx, e) }
	return n.waitContent(ctx, state, func() error { return n.wrongSize(ctx, e) })
}

func (n *Node) waitContent(
	ctx context.Context, look func() (ContentState, error), wrong func() error,
) (err error) {
	ctx, done := n.within(ctx)
	defer func() { err = done(err) }()
	for {
		wait := n.arrived.wait()
		switch state, err := look(); {
		case err != nil || state == ContentComplete:
			return err
		case state == ContentRefuted:
			return wrong()
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
