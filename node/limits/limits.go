// Package limits decides how much a node gives to others and takes from them, and who goes first.
//
// What belongs here: limits of bytes a second (throttle.go), of work and of questions in vain, of
// each peer, of a network and of all (limits.go); places for who works at a time (gate.go); and
// that background work waits for people (turns.go). What never belongs here: a protocol, what is
// done within the limits, or how much memory peers hold, which is in package admission.
//
// Start at [Limiter].
package limits

import (
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/time/rate"

	"github.com/skerry-sync/skerry/node/link"
)

// Config bounds what a node gives to others and takes from them. Zero is no limit.
type Config struct {
	Upload       uint64 // bytes a second, of blobs, to all peers together
	Download     uint64 // likewise, from all
	PeerUpload   uint64 // bytes a second to any one peer
	PeerDownload uint64
	// Relay is in bytes a second that pass through this node between others; they count as Upload
	// and Download, too.
	Relay uint64
	// Storage is in bytes of content the node holds; imports and downloads beyond it are refused.
	Storage uint64
	// PeerStorage is in bytes of replicas' content that is fetched from any one peer without a
	// person's asking.
	PeerStorage uint64
}

// Rate is how much of something may be done: so much at once, and then so much a second.
type Rate struct {
	PerSecond float64
	AtOnce    int
}

func (r Rate) limiter() *rate.Limiter { return rate.NewLimiter(rate.Limit(r.PerSecond), r.AtOnce) }

func (r Rate) times(n int) Rate { return Rate{r.PerSecond * float64(n), r.AtOnce * n} }

// Figures are limits that nobody configures.
type Figures struct {
	// Work is what answers to one peer may cost. A unit is about one lookup in the store. Work that
	// yields content is free: the reader's link bounds it.
	Work Rate
	// What answers may cost to all strangers together; to all peers that have proved to know a
	// replica's id; and to all known peers that nobody has named. Anybody can be any number of these.
	Strangers, Proved, Unnamed Rate
	// Misses are lookups of replicas that are not held here, by one peer. A device that has just met
	// another asks for those that it holds. Who asks for more is not answered any more.
	Misses Rate
}

// DefaultFigures are those of a node.
func DefaultFigures() Figures {
	work := Rate{50_000, 1_000_000}
	return Figures{
		Work: work, Strangers: work, Proved: work.times(2), Unnamed: work.times(2),
		Misses: Rate{32, 4096},
	}
}

const (
	// YieldOfUnit is how many bytes of an answer pay for a unit of work.
	YieldOfUnit = 256
	// strangeMisses is how many times as many misses as one peer all strangers and proved peers
	// from one network may have together.
	strangeMisses = 4
	// maxServing and maxPeerServing are how many answers are worked on at a time: for all peers, and
	// for one. No place is held while a peer is waited for.
	maxServing     = 128
	maxPeerServing = 8
	// maxPeerLimits is how many peers and networks have limits of their own before those that are
	// not in use are dropped.
	maxPeerLimits = 1024
)

// Limiter holds the limits of a node. Its methods may be called at the same time from many
// goroutines.
type Limiter struct {
	// Turns are those of the node's fetches.
	Turns Turns

	cfg             Config
	up, down, relay *throttle
	serving         *Gate

	mu      sync.Mutex
	figures Figures
	peers   map[string]*peerLimits // of peers by their ids, and of networks
	pruned  time.Time

	strangers, proved, unnamed *rate.Limiter
}

// peerLimits are those of one peer, or of the strangers of a network.
type peerLimits struct {
	up, down *throttle
	serving  *Gate
	misses   *rate.Limiter
	work     *rate.Limiter
	stale    *rate.Limiter
	used     time.Time
}

// New returns the limits of a node.
func New(cfg Config, f Figures) *Limiter {
	return &Limiter{
		cfg: cfg, figures: f, peers: map[string]*peerLimits{}, serving: NewGate(maxServing),
		up: newThrottle(cfg.Upload), down: newThrottle(cfg.Download), relay: newThrottle(cfg.Relay),
		strangers: f.Strangers.limiter(), proved: f.Proved.limiter(), unnamed: f.Unnamed.limiter(),
	}
}

// Retune changes the figures of limits that are in use, and forgets what peers have spent. It is
// for tests, of which few can spend as much as the defaults allow.
func (l *Limiter) Retune(change func(*Figures)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change(&l.figures)
	clear(l.peers)
	f := &l.figures
	l.strangers, l.proved = f.Strangers.limiter(), f.Proved.limiter()
	l.unnamed = f.Unnamed.limiter()
}

func (l *Limiter) of(p peer.ID) *peerLimits {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.get(string(p), 1)
}

// ofNet returns the limits that all strangers from a network share.
func (l *Limiter) ofNet(net string) *peerLimits {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.get("net "+net, strangeMisses) // no peer id begins so
}

// get returns limits that are kept under a name; the caller holds the lock.
func (l *Limiter) get(name string, misses int) *peerLimits {
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
		// In no order: whoever makes so many identities gains nothing by new limits.
		for other := range l.peers {
			if len(l.peers) < 8*maxPeerLimits {
				break
			}
			delete(l.peers, other)
		}
		x = &peerLimits{
			up: newThrottle(l.cfg.PeerUpload), down: newThrottle(l.cfg.PeerDownload),
			serving: NewGate(maxPeerServing), work: l.figures.Work.limiter(),
			stale: l.figures.Work.limiter(), misses: l.figures.Misses.times(misses).limiter(),
		}
		l.peers[name] = x
	}
	x.used = time.Now()
	return x
}

// mayAsk refuses a peer that has asked for too much that is not here: for anything, so that it
// learns nothing.
func (x *peerLimits) mayAsk(p peer.ID) error {
	if x.misses.Tokens() < 1 {
		return fmt.Errorf("peer %s has asked for too many replicas that are not held here", p)
	}
	return nil
}

// MayAsk refuses the peer of a stream if it has asked for too many replicas that are not here. It
// also refuses one that is not known if all such peers from its network together have.
func (l *Limiter) MayAsk(s link.Stream) error {
	err := l.of(s.Remote()).mayAsk(s.Remote())
	if err == nil && !link.VisitOf(s).Who().Known {
		err = l.ofNet(link.OriginOf(s)).mayAsk(s.Remote())
	}
	return err
}

// Missed counts a lookup of what is not here.
func (l *Limiter) Missed(s link.Stream) {
	l.of(s.Remote()).misses.Allow()
	if !link.VisitOf(s).Who().Known {
		l.ofNet(link.OriginOf(s)).misses.Allow()
	}
}

// Worked counts work for the peer of a stream, and waits if that has caused too much: of strangers,
// all together; of others that nobody has named, each by itself and all together. What this node
// has asked for itself is free.
func (l *Limiter) Worked(ctx context.Context, s link.Stream, units int) error {
	v := link.VisitOf(s)
	if v == nil {
		return nil
	}
	own := l.of(s.Remote()).work
	l.mu.Lock()
	all := l.strangers
	switch who := v.Who(); {
	case who.Named:
		all = nil
	case who.Known:
		all = l.unnamed
	case who.Proved:
		all = l.proved
	default:
		own = nil
	}
	l.mu.Unlock()
	for _, limit := range []*rate.Limiter{own, all} {
		for left := units; limit != nil && left > 0; {
			some := min(left, limit.Burst())
			if err := limit.WaitN(ctx, some); err != nil {
				return err
			}
			left -= some
		}
	}
	return nil
}

// Stale counts work that a peer has caused by bringing what is known here. It is apart from what
// answers to the peer may cost: an honest peer passes on what somebody else has made, who can have
// brought the same here in other words.
func (l *Limiter) Stale(p peer.ID, units int) {
	own := l.of(p).stale
	now := time.Now()
	// More than there is puts the peer in no debt: it would have to pay for all that others make.
	own.AllowN(now, min(units, int(max(own.TokensAt(now), 0))))
}

// Hears reports whether a peer may bring more of what nobody has asked for.
func (l *Limiter) Hears(p peer.ID) bool { return l.of(p).stale.Tokens() >= 1 }

// WorkLeft returns how many units of work a peer may cause at once by now.
func (l *Limiter) WorkLeft(p peer.ID) float64 { return l.of(p).work.Tokens() }

// Place is one of those that have a part in answering. The zero value is none.
type Place struct{ peer, all *Gate }

// Enter waits for a place to work on an answer to the peer of a stream.
func (l *Limiter) Enter(ctx context.Context, s link.Stream, background bool) (p Place, err error) {
	rank := RankOf(link.VisitOf(s).Who(), background)
	own := l.of(s.Remote()).serving
	if err := own.Enter(ctx, rank); err != nil {
		return p, err
	}
	if err := l.serving.Enter(ctx, rank); err != nil {
		own.Leave()
		return p, err
	}
	return Place{own, l.serving}, nil
}

// Held reports whether it is a place.
func (p Place) Held() bool { return p.all != nil }

// Leave gives the place back, if it is one.
func (p Place) Leave() {
	if p.Held() {
		p.all.Leave()
		p.peer.Leave()
	}
}

// Serving returns how many answers are worked on, and how many wait for a place.
func (l *Limiter) Serving() (working, waiting int) { return l.serving.Load() }

// Upload returns the limits of what goes to a peer.
func (l *Limiter) Upload(p peer.ID) Throttles { return Throttles{l.up, l.of(p).up} }

// Download returns the limits of what comes from a peer.
func (l *Limiter) Download(p peer.ID) Throttles { return Throttles{l.down, l.of(p).down} }

// PassRelayed returns when n bytes may pass through this node between others. They wait while the
// node's own transfers do.
func (l *Limiter) PassRelayed(ctx context.Context, n int) error {
	return Throttles{l.relay, l.up, l.down}.Wait(ctx, n, true)
}

// PassUpload returns when n bytes may go to somebody who is no peer, such as a browser.
func (l *Limiter) PassUpload(ctx context.Context, n int) error {
	return Throttles{l.up}.Wait(ctx, n, false)
}

// Uploaded returns how many bytes have gone out while there was a limit for that.
func (l *Limiter) Uploaded() uint64 { return l.up.passed.Load() }

// entryPiece is how many bytes of a session pass between two looks at a limit: little, so that the
// peer sees progress under a low one, too.
const entryPiece = 4 << 10

// Entries returns w, to which entries for p are written, with the limits of what is uploaded to p.
// People wait for entries.
func (l *Limiter) Entries(ctx context.Context, p peer.ID, w io.Writer) io.Writer {
	t := Transfer{Limits: l.Upload(p), Count: new(atomic.Uint64), piece: entryPiece}
	return limitedWriter{t, ctx, w}
}
