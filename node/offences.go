package node

import (
	"errors"

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
func (n *syncer) passedOn(p peer.ID, id replica.ID, out replica.Stated) error {
	err := new(worthless).add(out, maxRefusedPush)
	if err == nil || n.blamed.Offended(p, id) > maxInGoodFaith {
		return err
	}
	n.contacts.CompareSoonWith(p)
	return errWorthless
}
