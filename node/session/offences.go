package session

import (
	"context"
	"errors"
	"fmt"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/node/bundle"
	"github.com/skerry-sync/skerry/reconcile"
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
// replica, in which it would hear. What is only beyond what is kept of a delegate is nobody's fault
// but the delegate's, who can have given one node others than another.
func (n *Syncer) passedOn(p peer.ID, id replica.ID, out replica.Stated) error {
	out.Refused = out.Void
	err := new(worthless).add(out, maxRefusedPush)
	if err == nil || n.blamed.Offended(p, id) > maxInGoodFaith {
		return err
	}
	n.contacts.CompareSoonWith(p)
	return errWorthless
}

// isRubbish reports entries or statements that nobody can have sent in good faith. That a grant is
// missing may be nobody's fault.
func isRubbish(err error) bool {
	for _, wrong := range []error{replica.ErrMalformed, replica.ErrMalformedGrant,
		replica.ErrMalformedRevocation, replica.ErrMalformedEpoch, replica.ErrMalformedKey,
		replica.ErrTooWide, replica.ErrOutOfTime, replica.ErrBadSignature, replica.ErrWrongReplica,
		replica.ErrKeyTooLong} {
		if errors.Is(err, wrong) {
			return true
		}
	}
	return false
}

// worthless counts the statements of a peer that this node has refused, since nothing comes of them
// (see replica.Stated). A peer that has not heard of a revocation yet, or has got other statements
// from a delegate than this node, sends some in good faith, but no more than a replica keeps of its
// delegates, for each epoch. What it gets in the same session makes it drop them.
type worthless struct {
	refused, taken int
	most           int // how many may be refused in a session, as far as it was looked up
}

// How many statements may be refused before the peer is, if it sends more of these than of others.
const (
	maxRefusedPush = bundle.Max / 2 // in a push or a message of gossip
	// keptOfOne is how many statements a replica keeps of one delegate in one epoch.
	keptOfOne = 2 * replica.MaxDelegated
	// In a session as many may be refused as a replica keeps of its delegates, fewDelegates at the
	// least, in all epochs; but no more than of maxShares of them in one epoch.
	fewDelegates = 4
	maxRefused   = fewDelegates * keptOfOne // of a replica with few delegates, before any epoch
	maxShares    = 1024
)

// maxRefusedEpochs is for how many epochs a peer may send as many.
const maxRefusedEpochs = 64

// mostRefused returns how many statements of a replica may be refused in a session, by what is
// known of it now.
func (n *Syncer) mostRefused(ctx context.Context, id replica.ID) (int, error) {
	r, err := n.replicas.Get(ctx, id)
	if err != nil {
		return 0, err
	}
	delegates, err := n.replicas.Delegates(ctx, id, maxShares)
	epochs := 1 + int(min(r.Least.Number, maxRefusedEpochs))
	return keptOfOne * min(max(delegates, fewDelegates)*epochs, maxShares), err
}

// addOf is add in a session of a replica.
func (w *worthless) addOf(ctx context.Context, n *Syncer, id replica.ID, out replica.Stated) error {
	w.most = max(w.most, maxRefused)
	err := w.add(out, w.most)
	if err == nil {
		return nil
	}
	var lookErr error
	if w.most, lookErr = n.mostRefused(ctx, id); lookErr != nil || w.refused > w.most {
		return errors.Join(lookErr, err)
	}
	return nil
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
