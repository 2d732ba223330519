package downloads

import (
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/node/wanted"
)

// refusals remembers what peers did not have of what was asked of them.
//
// A writer can name any amount of content that does not exist, and any number of peers can say that
// they lack it. So no more than maxRefusals are remembered of a peer one by one, and
// maxAllRefusals of all. A peer that lacks more is asked in rounds: for all that is wanted, in its
// order, and then for nothing until a time that is in proportion to that of the round. So what
// comes last in the order is asked for, too, however much stands before it.
//
// The caller guards it with a lock.
type refusals struct {
	of     map[peer.ID]*lacking
	rounds map[peer.ID]*round
	broken map[peer.ID]refusal // asking them failed: they are asked again, from where it was
	total  int                 // in of
	pruned time.Time           // when what is of long ago was last looked for

	most, mostAll, least int // maxRefusals, maxAllRefusals and leastRefusals, but in tests
}

// refusal notes that a peer did not have some content. It may be fetching it itself, so it is soon
// asked again, and then less and less often: content is found after at most twice the time in which
// it was not there, or lastRefusal later. A peer that comes, or turns out to hold a replica, is
// asked anew.
type refusal struct {
	until time.Time
	wait  time.Duration
	asked bool // the time is over, and a worker looks
}

// lacking is what a peer did not have.
type lacking struct {
	by map[blobs.Hash]refusal
	// No refusal that nobody looks at ends before next; zero if there is none.
	next time.Time
}

const (
	firstRefusal = 200 * time.Millisecond
	lastRefusal  = 10 * time.Minute
	// oldRefusal is how long a refusal is kept once the peer may be asked again; one that is here is
	// asked at once.
	oldRefusal     = time.Minute
	maxRefusals    = 1 << 14
	maxAllRefusals = 1 << 19
	// leastRefusals are remembered of each peer also when maxAllRefusals are of others.
	leastRefusals = 64
	// lastBroken is at most how long after a failed attempt a peer is asked again.
	lastBroken = 10 * time.Second
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
	return refusals{
		of: map[peer.ID]*lacking{}, rounds: map[peer.ID]*round{}, broken: map[peer.ID]refusal{},
		most: maxRefusals, mostAll: maxAllRefusals, least: leastRefusals,
	}
}

// waits reports whether p is not to be asked for some content yet.
func (r *refusals) waits(p peer.ID, h blobs.Hash, now time.Time) bool {
	all := r.of[p]
	return all != nil && now.Before(all.by[h].until)
}

// note notes that p did not have some content.
func (r *refusals) note(p peer.ID, h blobs.Hash, now time.Time) {
	if in := r.rounds[p]; in != nil {
		in.refused++
		return
	}
	all := r.of[p]
	if all == nil {
		all = &lacking{by: map[blobs.Hash]refusal{}}
		r.of[p] = all
	}
	old, before := all.by[h]
	full := len(all.by) >= r.most || r.total >= r.mostAll && len(all.by) >= r.least
	if !before && full {
		r.again(p)
		r.rounds[p] = &round{next: wanted.First(), began: now, seen: now, refused: 1}
		return
	}
	if !before {
		r.total++
	}
	x := old.next(now, lastRefusal)
	all.by[h] = x
	if all.next.IsZero() || x.until.Before(all.next) {
		all.next = x.until
	}
}

// passTime is how long others may claim what a peer was too slow to give.
const passTime = 5 * time.Second

// pass has others asked for some content before p is asked again.
func (r *refusals) pass(p peer.ID, h blobs.Hash, now time.Time) {
	all := r.of[p]
	if r.rounds[p] != nil || all == nil && r.total >= r.mostAll {
		return
	}
	if all == nil {
		all = &lacking{by: map[blobs.Hash]refusal{}}
		r.of[p] = all
	}
	old, before := all.by[h]
	if !before && len(all.by) >= r.most {
		return
	}
	if !before {
		r.total++
	}
	x := refusal{until: now.Add(passTime), wait: old.wait}
	all.by[h] = x
	if all.next.IsZero() || x.until.Before(all.next) {
		all.next = x.until
	}
}

// next is the refusal after r.
func (r refusal) next(now time.Time, most time.Duration) refusal {
	wait := min(max(2*r.wait, firstRefusal), most)
	return refusal{until: now.Add(wait), wait: wait}
}

// gave notes that p had some content.
func (r *refusals) gave(p peer.ID, h blobs.Hash) {
	if all := r.of[p]; all != nil {
		if _, ok := all.by[h]; ok {
			r.drop(p, h)
		}
	}
}

func (r *refusals) drop(p peer.ID, h blobs.Hash) {
	all := r.of[p]
	delete(all.by, h)
	r.total--
	if len(all.by) == 0 {
		delete(r.of, p)
	}
}

// broke notes that asking p has failed, so that its worker ends although more may be wanted.
func (r *refusals) broke(p peer.ID, now time.Time) {
	r.broken[p] = r.broken[p].next(now, lastBroken)
}

// worked notes that asking p has not failed.
func (r *refusals) worked(p peer.ID) { delete(r.broken, p) }

// again forgets all that p did not have.
func (r *refusals) again(p peer.ID) {
	if all := r.of[p]; all != nil {
		r.total -= len(all.by)
	}
	delete(r.of, p)
	delete(r.rounds, p)
}

// from returns the key from which what is wanted is looked through for p; nil if not now.
func (r *refusals) from(p peer.ID, now time.Time) []byte {
	in := r.rounds[p]
	switch {
	case in == nil:
		return wanted.First()
	case in.next != nil:
	case now.Before(in.until):
		return nil
	case in.refused <= r.most/2: // few enough to remember them
		r.again(p)
		return wanted.First()
	default:
		*in = round{next: wanted.First(), began: now}
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
		if all.next.IsZero() || all.next.After(now) {
			continue
		}
		any := false
		all.next = time.Time{}
		for h, x := range all.by {
			switch {
			case x.asked:
			case !x.until.After(now):
				x.asked, any = true, true
				all.by[h] = x
			case all.next.IsZero() || x.until.Before(all.next):
				all.next = x.until
			}
		}
		if any {
			take(p)
		}
	}
	for p, in := range r.rounds {
		if in.next == nil && !in.asked && !in.until.After(now) {
			in.asked = true
			take(p)
		}
	}
	for p, x := range r.broken {
		if !x.asked && !x.until.After(now) {
			x.asked = true
			r.broken[p] = x
			take(p)
		}
	}
}

// untilDue is the time until due may take another one, at most so long.
func (r *refusals) untilDue(now time.Time, most time.Duration) time.Duration {
	for _, all := range r.of {
		if !all.next.IsZero() {
			most = min(most, all.next.Sub(now))
		}
	}
	for _, in := range r.rounds {
		if in.next == nil && !in.asked {
			most = min(most, in.until.Sub(now))
		}
	}
	for _, x := range r.broken {
		if !x.asked {
			most = min(most, x.until.Sub(now))
		}
	}
	return most
}

// prune forgets what is of long ago. It looks for that at most once in the time of oldRefusal, as
// there may be very much.
func (r *refusals) prune(now time.Time) {
	if now.Sub(r.pruned) < oldRefusal {
		return
	}
	r.pruned = now
	old := func(x refusal) bool { return now.After(x.until.Add(oldRefusal)) }
	for p, all := range r.of {
		for h, x := range all.by {
			if old(x) {
				r.drop(p, h)
			}
		}
	}
	for p, in := range r.rounds {
		if last := in.seen.Add(lastRefusal); now.After(last) && now.After(in.until.Add(oldRefusal)) {
			delete(r.rounds, p)
		}
	}
	for p, x := range r.broken {
		if old(x) {
			delete(r.broken, p)
		}
	}
}
