package node

import (
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/blobs"
)

// refusals remembers what peers did not have of what was asked of them.
//
// Whoever may write can name any amount of content that is nowhere, and any number of peers can say
// that they lack it. So no more than maxRefusals are remembered of a peer one by one, and
// maxAllRefusals of all. A peer that lacks more is asked in rounds: for all that is wanted, in its
// order, and then for nothing until a time that is in proportion to that of the round. So what
// comes last in the order is asked for, too, however much stands before it.
//
// The caller guards it with a lock.
type refusals struct {
	of     map[peer.ID]map[blobs.Hash]refusal
	rounds map[peer.ID]*round
	total  int // in of

	most, mostAll int // maxRefusals and maxAllRefusals, but in tests
}

const (
	maxRefusals    = 1 << 14
	maxAllRefusals = 1 << 19
	// roundShare is how much longer than a round the rest after it is, roundRest how long at least,
	// and lastRefusal at most.
	roundShare = 20
	roundRest  = time.Second
)

// round is where a peer is that is asked in rounds.
type round struct {
	next    []byte    // the key of what is asked for next; nil in the rest after it
	began   time.Time // the round
	seen    time.Time // when it last went on
	until   time.Time // the end of the rest
	asked   bool      // the rest is over, and a worker looks
	refused int       // in this round
}

func newRefusals() refusals {
	return refusals{of: map[peer.ID]map[blobs.Hash]refusal{}, rounds: map[peer.ID]*round{},
		most: maxRefusals, mostAll: maxAllRefusals}
}

// waits reports whether p is not to be asked for some content yet.
func (r *refusals) waits(p peer.ID, h blobs.Hash, now time.Time) bool {
	return now.Before(r.of[p][h].until)
}

// note notes that p did not have some content.
func (r *refusals) note(p peer.ID, h blobs.Hash, now time.Time) {
	if in := r.rounds[p]; in != nil {
		in.refused++
		return
	}
	all := r.of[p]
	old, before := all[h]
	if !before && (len(all) >= r.most || r.total >= r.mostAll) {
		r.again(p)
		r.rounds[p] = &round{next: []byte(keyWanted), began: now, seen: now, refused: 1}
		return
	}
	if all == nil {
		all = map[blobs.Hash]refusal{}
		r.of[p] = all
	}
	if !before {
		r.total++
	}
	wait := min(max(2*old.wait, firstRefusal), lastRefusal)
	all[h] = refusal{until: now.Add(wait), wait: wait}
}

// gave notes that p had some content.
func (r *refusals) gave(p peer.ID, h blobs.Hash) {
	if _, ok := r.of[p][h]; ok {
		r.drop(p, h)
	}
}

func (r *refusals) drop(p peer.ID, h blobs.Hash) {
	delete(r.of[p], h)
	r.total--
	if len(r.of[p]) == 0 {
		delete(r.of, p)
	}
}

// again forgets all that p did not have.
func (r *refusals) again(p peer.ID) {
	r.total -= len(r.of[p])
	delete(r.of, p)
	delete(r.rounds, p)
}

// from returns the key from which what is wanted is looked through for p; nil if not now.
func (r *refusals) from(p peer.ID, now time.Time) []byte {
	in := r.rounds[p]
	switch {
	case in == nil:
		return []byte(keyWanted)
	case in.next != nil:
	case now.Before(in.until):
		return nil
	case in.refused <= r.most/2: // few enough to remember them
		r.again(p)
		return []byte(keyWanted)
	default:
		*in = round{next: []byte(keyWanted), began: now}
	}
	in.seen = now
	return in.next
}

// walked notes up to where it has been looked through; nil is the end.
func (r *refusals) walked(p peer.ID, next []byte, now time.Time) {
	in := r.rounds[p]
	if in == nil {
		return
	}
	in.next, in.seen = next, now
	if next == nil {
		in.until = now.Add(min(max(roundRest, roundShare*now.Sub(in.began)), lastRefusal))
	}
}

// due takes the peers that may be asked again.
func (r *refusals) due(now time.Time, take func(peer.ID)) {
	for p, all := range r.of {
		for h, x := range all {
			if !x.asked && !x.until.After(now) {
				x.asked = true
				all[h] = x
				take(p)
			}
		}
	}
	for p, in := range r.rounds {
		if in.next == nil && !in.asked && !in.until.After(now) {
			in.asked = true
			take(p)
		}
	}
}

// untilDue is the time until due takes another one, at most so long.
func (r *refusals) untilDue(now time.Time, most time.Duration) time.Duration {
	for _, all := range r.of {
		for _, x := range all {
			if !x.asked {
				most = min(most, x.until.Sub(now))
			}
		}
	}
	for _, in := range r.rounds {
		if in.next == nil && !in.asked {
			most = min(most, in.until.Sub(now))
		}
	}
	return most
}

// prune forgets what is of long ago.
func (r *refusals) prune(now time.Time) {
	for p, all := range r.of {
		for h, x := range all {
			if now.After(x.until.Add(oldRefusal)) {
				r.drop(p, h)
			}
		}
	}
	for p, in := range r.rounds {
		if last := in.seen.Add(lastRefusal); now.After(last) && now.After(in.until.Add(oldRefusal)) {
			delete(r.rounds, p)
		}
	}
}
