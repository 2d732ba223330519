package node

import (
	"errors"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/replica"
)

// maxInGoodFaith is how many pushes and messages of gossip with too many worthless statements of a
// replica a peer may bring before a session of it, and in the time for which peers are refused.
const maxInGoodFaith = 16

// errWorthless reports statements of which nothing comes, and for which the peer is not blamed.
var errWorthless = errors.New(
	"statements without authority: the peer may not have heard of a revocation",
)

// passedOn looks at what became of the statements of a push, or of a message of gossip. A peer that
// has not heard of a revocation yet passes on what the revoked author sends it, in good faith, and
// must not be kept from hearing of it: it is blamed only if it goes on without a session of the
// replica, in which it would hear.
func (n *Node) passedOn(p peer.ID, id replica.ID, out replica.Stated) error {
	err := new(worthless).add(out, maxRefusedPush)
	if err == nil || n.peers.offended(p, id) > maxInGoodFaith {
		return err
	}
	n.peers.compareSoonWith(p)
	return errWorthless
}

// offender is a peer that brings worthless statements of a replica.
type offender struct {
	p  peer.ID
	id replica.ID
}

// offence is what it has brought. A session is not enough to begin anew: whoever floods can run one
// whenever it likes. So it takes a session and time. What is noted outlasts the connection.
type offence struct {
	count int
	since time.Time // when it brought the first
	heard bool      // a session since then has made the statements the same on both sides
}

// offended notes that a peer has brought too many worthless statements of a replica, and returns
// how often it has.
func (b *peerBook) offended(p peer.ID, id replica.ID) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	by, now := offender{p, id}, b.n.cfg.Now()
	o := b.offences[by]
	if o == nil || o.heard && !now.Before(o.since.Add(rubbishMemory)) {
		o = &offence{since: now}
		b.makeRoomForOffence()
		b.offences[by] = o
	}
	o.count++
	return o.count
}

// makeRoomForOffence forgets the oldest offence if there are maxBlamed; the caller holds the lock.
func (b *peerBook) makeRoomForOffence() {
	if len(b.offences) < maxBlamed {
		return
	}
	var oldest offender
	var first *offence
	for by, o := range b.offences {
		if first == nil || o.since.Before(first.since) {
			oldest, first = by, o
		}
	}
	delete(b.offences, oldest)
}

// agreed notes that the statements of a replica are the same at a peer, after a session.
func (b *peerBook) agreed(p peer.ID, id replica.ID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if o := b.offences[offender{p, id}]; o != nil {
		o.heard = true
	}
}
