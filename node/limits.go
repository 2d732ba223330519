package node

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/time/rate"
)

// Limits bound what a node gives to others and takes from them. Zero is no limit.
type Limits struct {
	Upload       uint64 // bytes a second, of blobs, to all peers together
	Download     uint64 // likewise, from all
	PeerUpload   uint64 // bytes a second to any one peer
	PeerDownload uint64
	Storage      uint64 // bytes of content the node holds; imports and downloads beyond it are refused
	PeerStorage  uint64 // bytes of replicas' content that is fetched from any one peer without a person's asking
}

// limitPiece is how many bytes pass between two looks at a limit.
const limitPiece = 64 << 10

// throttle is a limit of bytes a second that several goroutines share. Background work waits while other work is waiting.
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

// pass waits for the rate alone. The limiter gives up at once if it sees that ctx will have ended by then; that is no other failure.
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
	cfg      Limits
	up, down *throttle

	mu     sync.Mutex
	peers  map[peer.ID]*peerLimits
	pruned time.Time
}

type peerLimits struct {
	up, down *throttle
	serving  *gate
	misses   *rate.Limiter // lookups of what is not here
	streams  atomic.Int32  // being served
	used     time.Time
}

// maxPeerStreams is how many blob streams one peer may have open: each may hold a window of requests that are not read yet.
const maxPeerStreams = 32

// admit counts a stream until the function it returns is called, or refuses it.
func (x *peerLimits) admit(p peer.ID) (leave func(), err error) {
	if x.streams.Add(1) > maxPeerStreams {
		x.streams.Add(-1)
		return nil, fmt.Errorf("peer %s has more than %d streams open", p, maxPeerStreams)
	}
	return func() { x.streams.Add(-1) }, nil
}

// mayAsk refuses a peer that has asked for too much that is not here: for anything, so that it learns nothing.
func (x *peerLimits) mayAsk(p peer.ID) error {
	if x.misses.Tokens() < 1 {
		return fmt.Errorf("peer %s has asked for too many replicas that are not held here", p)
	}
	return nil
}

// missed counts a lookup of what is not here.
func (n *Node) missed(p peer.ID) {
	n.counters.misses.Add(1)
	n.limits.of(p).misses.Allow()
}

// How many items are answered at a time: for all peers, and for one, so that a few slow readers do not keep the others waiting.
const (
	maxServing     = 128
	maxPeerServing = 8
)

func newLimiter(cfg Limits) *limiter {
	return &limiter{cfg: cfg, up: newThrottle(cfg.Upload), down: newThrottle(cfg.Download), peers: map[peer.ID]*peerLimits{}}
}

const maxPeerLimits = 1024

// A peer that asks for more replicas than this that are not held here is not answered any more. A device that has just met another asks for those that it holds.
const (
	missesPerSecond = 32
	missesAtOnce    = 4096
)

func (l *limiter) of(p peer.ID) *peerLimits {
	l.mu.Lock()
	defer l.mu.Unlock()
	x := l.peers[p]
	if x == nil {
		if len(l.peers) >= maxPeerLimits && time.Since(l.pruned) > time.Minute {
			l.pruned = time.Now()
			for q, old := range l.peers {
				if old.streams.Load() == 0 && time.Since(old.used) > time.Minute { // its tokens are full again by now
					delete(l.peers, q)
				}
			}
		}
		x = &peerLimits{up: newThrottle(l.cfg.PeerUpload), down: newThrottle(l.cfg.PeerDownload), serving: newGate(maxPeerServing), misses: rate.NewLimiter(missesPerSecond, missesAtOnce)}
		l.peers[p] = x
	}
	x.used = time.Now()
	return x
}

func (l *limiter) upload(p peer.ID) throttles   { return throttles{l.up, l.of(p).up} }
func (l *limiter) download(p peer.ID) throttles { return throttles{l.down, l.of(p).down} }

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
	w          patient
	limits     throttles
	background bool
	count      *atomic.Uint64 // of bytes
}

func (l limitedWriter) Write(b []byte) (total int, err error) {
	defer func() { l.count.Add(uint64(total)) }()
	if !l.limits.limited() {
		return l.w.Write(b)
	}
	for len(b) > 0 {
		piece := b[:min(len(b), limitPiece)]
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

// limitedReader reads no faster than its throttles allow. What is not read stays with the sender, who waits.
type limitedReader struct {
	ctx        context.Context
	r          patient
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

// gate lets so many through at a time, those that somebody waits for before the others.
type gate struct {
	mu      sync.Mutex
	free    int
	waiting [2][]chan struct{} // [0] somebody waits, [1] background
}

func newGate(n int) *gate { return &gate{free: n} }

// enter waits for its turn; the function it returns must be called at the end.
func (g *gate) enter(ctx context.Context, background bool) (leave func(), err error) {
	class := 0
	if background {
		class = 1
	}
	g.mu.Lock()
	if g.free > 0 {
		g.free--
		g.mu.Unlock()
		return g.leave, nil
	}
	turn := make(chan struct{})
	g.waiting[class] = append(g.waiting[class], turn)
	g.mu.Unlock()
	select {
	case <-turn:
		return g.leave, nil
	case <-ctx.Done():
	}
	g.mu.Lock()
	for i, w := range g.waiting[class] {
		if w == turn {
			g.waiting[class] = append(g.waiting[class][:i], g.waiting[class][i+1:]...)
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
