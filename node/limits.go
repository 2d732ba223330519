package node

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/skerry-sync/skerry/node/link"

	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/time/rate"

	"github.com/skerry-sync/skerry/node/admission"
)

// Limits bound what a node gives to others and takes from them. Zero is no limit.
type Limits struct {
	Upload       uint64 // bytes a second, of blobs, to all peers together
	Download     uint64 // likewise, from all
	PeerUpload   uint64 // bytes a second to any one peer
	PeerDownload uint64
	Relay        uint64 // bytes a second that pass through this node between others; they count as Upload and Download, too
	Storage      uint64 // bytes of content the node holds; imports and downloads beyond it are refused
	PeerStorage  uint64 // bytes of replicas' content that is fetched from any one peer without a person's asking
}

// limitPiece is how many bytes pass between two looks at a limit.
const limitPiece = 64 << 10

// throttle is a limit of bytes a second that several goroutines share. Background work waits while
// other work is waiting.
type throttle struct {
	rate *rate.Limiter // nil without a limit

	mu      sync.Mutex
	waiting int           // of those that somebody waits for
	free    chan struct{} // closed when waiting is 0 again
}

func newThrottle(bytesPerSecond uint64) *throttle {
	t := &throttle{}
	if bytesPerSecond > 0 {
		// A burst of a tenth of a second, but never less than one piece, which must fit in it.
		t.rate = rate.NewLimiter(rate.Limit(bytesPerSecond), max(limitPiece, int(bytesPerSecond/10)))
	}
	return t
}

// wait returns when n bytes, at most limitPiece, may pass.
func (t *throttle) wait(ctx context.Context, n int, background bool) error {
	if t == nil || t.rate == nil {
		return nil
	}
	if background {
		for {
			t.mu.Lock()
			busy := t.free
			t.mu.Unlock()
			if busy == nil {
				break
			}
			select {
			case <-busy:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return t.pass(ctx, n)
	}
	t.mu.Lock()
	if t.waiting++; t.free == nil {
		t.free = make(chan struct{})
	}
	t.mu.Unlock()
	err := t.pass(ctx, n)
	t.mu.Lock()
	if t.waiting--; t.waiting == 0 {
		close(t.free)
		t.free = nil
	}
	t.mu.Unlock()
	return err
}

// pass waits for the rate alone. The limiter gives up at once if it sees that ctx will have ended
// by then; that is no other failure.
func (t *throttle) pass(ctx context.Context, n int) error {
	if t.rate.WaitN(ctx, n) == nil {
		return nil
	}
	<-ctx.Done()
	return ctx.Err()
}

// throttles are the limits of one direction: of all peers together, and of each.
type throttles []*throttle

func (ts throttles) wait(ctx context.Context, n int, background bool) error {
	for _, t := range ts {
		if err := t.wait(ctx, n, background); err != nil {
			return err
		}
	}
	return nil
}

// limiter holds the throttles of a node.
type limiter struct {
	cfg             Limits
	up, down, relay *throttle

	mu     sync.Mutex
	peers  map[string]*peerLimits // of peers by their ids, and of networks
	pruned time.Time

	// work for all strangers together, for all proved peers, and for all known peers that nobody has
	// named
	strangers, proved, unnamed *rate.Limiter
}

type peerLimits struct {
	up, down *throttle
	serving  *gate
	misses   *rate.Limiter // lookups of what is not here
	work     *rate.Limiter // what answers cost; see worked
	used     time.Time
}

// mayAsk refuses a peer that has asked for too much that is not here: for anything, so that it
// learns nothing.
func (x *peerLimits) mayAsk(p peer.ID) error {
	if x.misses.Tokens() < 1 {
		return fmt.Errorf("peer %s has asked for too many replicas that are not held here", p)
	}
	return nil
}

// mayAsk is for the peer of a stream and, if it is not known, for all others from its network that
// are not.
func (n *Node) mayAsk(s link.Stream) error {
	err := n.limits.of(s.Remote()).mayAsk(s.Remote())
	if err == nil && !link.VisitOf(s).Who().Known {
		err = n.limits.ofNet(link.OriginOf(s)).mayAsk(s.Remote())
	}
	return err
}

// missed counts a lookup of what is not here.
func (n *Node) missed(s link.Stream) {
	n.counters.misses.Add(1)
	n.limits.of(s.Remote()).misses.Allow()
	if !link.VisitOf(s).Who().Known {
		n.limits.ofNet(link.OriginOf(s)).misses.Allow()
	}
}

// How many answers are worked on at a time: for all peers, and for one. No place is held while a
// peer is waited for.
const (
	maxServing     = 128
	maxPeerServing = 8
)

func newLimiter(cfg Limits) *limiter {
	return &limiter{
		cfg: cfg, up: newThrottle(cfg.Upload), down: newThrottle(cfg.Download), relay: newThrottle(cfg.Relay),
		peers: map[string]*peerLimits{}, strangers: rate.NewLimiter(workPerSecond, workAtOnce),
		proved: rate.NewLimiter(
			workShare*workPerSecond, workShare*workAtOnce,
		), unnamed: rate.NewLimiter(workShare*workPerSecond, workShare*workAtOnce),
	}
}

// maxPeerLimits is how many peers and networks have limits of their own before those that are not
// in use are dropped.
const maxPeerLimits = 1024

// A peer that asks for more replicas than this that are not held here is not answered any more. A
// device that has just met another asks for those that it holds. Strangers and proved peers from
// one network may together ask for strangeMisses times as many.
const (
	missesPerSecond = 32
	missesAtOnce    = 4096
	strangeMisses   = 4
)

// A unit of work is about one lookup in the store. Work that yields content is free: the reader's
// link bounds it.
const (
	workPerSecond = 50_000
	workAtOnce    = 1_000_000
	// workShare: all proved peers together may cause as much work as so many peers, and so may all
	// known peers that nobody has named. Anybody can be any number of these.
	workShare = 2
)

func (l *limiter) of(p peer.ID) *peerLimits {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.get(string(p), 1)
}

// ofNet returns the limits that all strangers from a network share.
func (l *limiter) ofNet(net string) *peerLimits {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.get("net "+net, strangeMisses) // no peer id begins so
}

// get returns limits that are kept under a name; the caller holds the lock.
func (l *limiter) get(name string, misses int) *peerLimits {
	x := l.peers[name]
	if x == nil {
		if len(l.peers) >= maxPeerLimits && time.Since(l.pruned) > time.Minute {
			l.pruned = time.Now()
			for other, old := range l.peers {
				if time.Since(old.used) > time.Minute { // its tokens are full again by now
					delete(l.peers, other)
				}
			}
		}
		for other := range l.peers { // in no order: whoever makes so many identities gains nothing by new limits
			if len(l.peers) < 8*maxPeerLimits {
				break
			}
			delete(l.peers, other)
		}
		x = &peerLimits{
			up: newThrottle(l.cfg.PeerUpload), down: newThrottle(l.cfg.PeerDownload), serving: newGate(maxPeerServing),
			misses: rate.NewLimiter(rate.Limit(missesPerSecond*misses), missesAtOnce*misses),
			work:   rate.NewLimiter(workPerSecond, workAtOnce),
		}
		l.peers[name] = x
	}
	x.used = time.Now()
	return x
}

func (l *limiter) upload(p peer.ID) throttles   { return throttles{l.up, l.of(p).up} }
func (l *limiter) download(p peer.ID) throttles { return throttles{l.down, l.of(p).down} }

// relayed returns when n bytes, at most limitPiece, may pass through this node between others. They
// wait while the node's own transfers do.
func (l *limiter) relayed(ctx context.Context, n int) error {
	return throttles{l.relay, l.up, l.down}.wait(ctx, n, true)
}

// PassUpload returns when n bytes of content may go to somebody who is no peer, such as a browser.
func (n *Node) PassUpload(ctx context.Context, size int) error {
	for ; size > 0; size -= limitPiece {
		if err := n.limits.up.wait(ctx, min(size, limitPiece), false); err != nil {
			return err
		}
	}
	return nil
}

// limited reports whether any throttle of a direction has a limit.
func (ts throttles) limited() bool {
	for _, t := range ts {
		if t.rate != nil {
			return true
		}
	}
	return false
}

// limitedWriter writes no faster than its throttles allow.
type limitedWriter struct {
	ctx        context.Context
	w          io.Writer
	limits     throttles
	background bool
	count      *atomic.Uint64 // of bytes
	piece      int            // bytes between two looks at the limits; 0 is limitPiece
}

// entryPiece is how many bytes of a session pass between two looks at a limit: little, so that the
// peer sees progress under a low one, too.
const entryPiece = 4 << 10

// uploading returns w with the limits of what is uploaded to p. It is for entries, which people
// wait for.
func (n *Node) uploading(ctx context.Context, p peer.ID, w io.Writer) io.Writer {
	return limitedWriter{ctx: ctx, w: w, limits: n.limits.upload(p), count: new(atomic.Uint64), piece: entryPiece}
}

func (l limitedWriter) Write(b []byte) (total int, err error) {
	defer func() { l.count.Add(uint64(total)) }()
	if !l.limits.limited() {
		return l.w.Write(b)
	}
	for len(b) > 0 {
		piece := b[:min(len(b), cmp.Or(l.piece, limitPiece))]
		if err := l.limits.wait(l.ctx, len(piece), l.background); err != nil {
			return total, err
		}
		n, err := l.w.Write(piece)
		if total += n; err != nil {
			return total, err
		}
		b = b[n:]
	}
	return total, nil
}

// limitedReader reads no faster than its throttles allow. What is not read stays with the sender,
// who waits.
type limitedReader struct {
	ctx        context.Context
	r          link.Patient
	limits     throttles
	background func() bool
	count      *atomic.Uint64 // of bytes
}

func (l limitedReader) Read(b []byte) (n int, err error) {
	defer func() { l.count.Add(uint64(n)) }()
	if !l.limits.limited() {
		return l.r.Read(b)
	}
	n, err = l.r.Read(b[:min(len(b), limitPiece)])
	if n > 0 {
		if waitErr := l.limits.wait(l.ctx, n, l.background()); waitErr != nil {
			return n, waitErr
		}
	}
	return n, err
}

// rank is who goes first at a gate.
type rank int

// Whom a person has named goes before who has a history, and that before who has proved to know a
// replica's id, and that before strangers. What somebody waits for goes before background work.
const (
	rankNamed rank = iota
	rankKnown
	rankProved
	rankStrange
	rankNamedLater
	rankKnownLater
	rankProvedLater
	rankStrangeLater
	ranks
)

func rankOf(who admission.Party, inBackground bool) rank {
	r := rankStrange
	switch {
	case who.Known && who.Named:
		r = rankNamed
	case who.Known:
		r = rankKnown
	case who.Proved:
		r = rankProved
	}
	if inBackground {
		r += rankNamedLater
	}
	return r
}

// gate lets so many through at a time, those of the first rank before the others.
type gate struct {
	mu      sync.Mutex
	free    int
	waiting [ranks][]chan struct{}
}

func newGate(n int) *gate { return &gate{free: n} }

// enter waits for its turn; the function it returns must be called at the end.
func (g *gate) enter(ctx context.Context, as rank) (leave func(), err error) {
	g.mu.Lock()
	if g.free > 0 {
		g.free--
		g.mu.Unlock()
		return g.leave, nil
	}
	turn := make(chan struct{})
	g.waiting[as] = append(g.waiting[as], turn)
	g.mu.Unlock()
	select {
	case <-turn:
		return g.leave, nil
	case <-ctx.Done():
	}
	g.mu.Lock()
	for i, w := range g.waiting[as] {
		if w == turn {
			g.waiting[as] = append(g.waiting[as][:i], g.waiting[as][i+1:]...)
			g.mu.Unlock()
			return nil, ctx.Err()
		}
	}
	g.mu.Unlock()
	g.leave() // the turn came at the same moment
	return nil, ctx.Err()
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for class := range g.waiting {
		if len(g.waiting[class]) > 0 {
			close(g.waiting[class][0])
			g.waiting[class] = g.waiting[class][1:]
			return
		}
	}
	g.free++
}

// turns let background fetches wait for those that a person waits for.
type turns struct {
	mu     sync.Mutex
	waited int           // fetches that somebody waits for
	nobody chan struct{} // closed when there is none any more
}

// working notes a fetch, until the function it returns is called.
func (n *Node) working(background bool) (leave func()) {
	if background {
		return func() {}
	}
	t := &n.turns
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.waited++; t.nobody == nil {
		t.nobody = make(chan struct{})
	}
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.waited--; t.waited == 0 {
			close(t.nobody)
			t.nobody = nil
		}
	}
}

// trickle is how long a background fetch waits for its next block while others are under way.
const trickle = 500 * time.Millisecond

// turn returns when a fetch may ask for its next block.
func (n *Node) turn(ctx context.Context, background bool) error {
	if !background {
		return ctx.Err()
	}
	n.turns.mu.Lock()
	nobody := n.turns.nobody
	n.turns.mu.Unlock()
	if nobody == nil {
		return ctx.Err()
	}
	select {
	case <-nobody:
	case <-time.After(trickle):
	case <-ctx.Done():
	}
	return ctx.Err()
}
