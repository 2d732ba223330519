package access

import (
	"context"
	"time"

	lru "github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/skerry-sync/skerry/collections/capcert"
)

// Rank is how much an issuer's list of revocations matters at a server. Keys cost nothing to make,
// and a list of one that nobody knows protects nothing; so lists that matter less make room for
// others (see room.gives).
type Rank int

// The ranks.
const (
	Stranger  Rank = iota // nobody has presented a certificate of the issuer
	Presented             // somebody has, in the last 30 days, as far as that is known
	Owner                 // something is stored under the issuer's identity
	Named                 // the configuration names the issuer's identity
)

// Standing is how much an issuer matters, and since when it is known here. Whoever makes issuers in
// order to fill the room makes them late.
type Standing struct {
	Rank  Rank
	Since time.Time // zero if that is not known
}

// old is how long an owner must be known to get an allowance of its own, beside a flood.
const old = 24 * time.Hour

// maxPresented is how many presented issuers the server remembers.
const maxPresented = 1 << 16

// seen is what is remembered of an issuer of whom certificates were presented.
type seen struct {
	first, last time.Time
	marked      time.Time // when Load was last told to look whether there is something to note
}

// lately reports whether a certificate was presented in the last 30 days.
func (s seen) lately(now time.Time) bool { return presentedLately(s.last, now) }

func presentedLately(last, now time.Time) bool {
	return !last.IsZero() && now.Sub(last) <= strangerKept
}

// Judge has ranks above Presented found out by a function, of an issuer's identity, and looks again
// at what was read before. It is called before the first list is accepted. Lists count also if it
// fails; Load tries again.
func (r *Revocations) Judge(
	ctx context.Context, rank func(ctx context.Context, identity string) (Rank, error),
) error {
	r.mu.Lock()
	r.judge = rank
	again := r.leftOut
	clear(r.left)
	r.mu.Unlock()
	if again { // of what was read before there was room for all that matters
		return r.Load(ctx)
	}
	return r.lookAtNamed(ctx)
}

// lookAtNamed finds out whether the configuration still names those whom it has named, also before
// a start: their lists take no room of others.
func (r *Revocations) lookAtNamed(ctx context.Context) (err error) {
	var named []string
	r.mu.RLock()
	if r.judge != nil {
		for issuer, x := range r.byIssuer {
			if x.rank == Named {
				named = append(named, issuer)
			}
		}
	}
	r.mu.RUnlock()
	for _, issuer := range named {
		_, bad := r.look(ctx, issuer)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		err = told(err, bad)
	}
	return err
}

// Present tells that somebody has presented a certificate of an issuer, with a right signature.
func (r *Revocations) Present(issuer string) {
	now := r.now()
	r.presentedMu.Lock()
	if r.presented == nil {
		r.presented, _ = lru.NewLRU[string, seen](maxPresented, nil) // fails only without room
	}
	s, known := r.presented.Get(issuer)
	if !known {
		s.first = now
	}
	s.last = now
	due := now.Sub(s.marked) >= old
	if due {
		s.marked = now
	}
	r.presented.Add(issuer, s)
	r.presentedMu.Unlock()

	// A list keeps the mark, and a note of it, though others present more than the memory is for.
	r.mu.RLock()
	x := r.byIssuer[issuer]
	fresh := x != nil && now.Sub(x.presented) < old || x == nil && !due
	r.mu.RUnlock()
	if fresh {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.left, issuer) // as it may matter more than before
	if x := r.byIssuer[issuer]; x != nil {
		x.presented = now
	}
	r.mark(issuer, mark{})
}

// seen returns what is remembered of an issuer of whom certificates were presented.
func (r *Revocations) seen(issuer string) seen {
	r.presentedMu.Lock()
	defer r.presentedMu.Unlock()
	if r.presented == nil {
		return seen{}
	}
	s, _ := r.presented.Peek(issuer)
	return s
}

// standing finds out how much a list of an issuer matters now.
func (r *Revocations) standing(ctx context.Context, issuer string) (s Standing, err error) {
	r.mu.RLock()
	judge := r.judge
	var since, presented time.Time
	if x := r.byIssuer[issuer]; x != nil {
		since, presented = x.since, x.presented
	}
	r.mu.RUnlock()
	if judge != nil {
		id, err := capcert.UserID(issuer)
		if err != nil {
			return s, nil // ParseRevocations lets no such issuer in
		}
		if s.Rank, err = judge(ctx, id); err != nil {
			return s, err
		}
	}
	now, seen := r.now(), r.seen(issuer)
	if presentedLately(presented, now) || seen.lately(now) {
		s.Rank = max(s.Rank, Presented)
	}
	s.Since = earlier(since, seen.first)
	return s, nil
}

// look finds out how much a list matters that is kept, and remembers it. Before it says that nobody
// has presented a certificate, it looks at what another server of the store has noted.
func (r *Revocations) look(ctx context.Context, issuer string) (Standing, error) {
	s, err := r.standing(ctx, issuer)
	if err != nil {
		return s, err
	}
	var presented time.Time
	if s.Rank == Stranger {
		note, err := r.noted(ctx, issuer)
		if err != nil {
			return s, err
		}
		if note != nil {
			presented = note.presented
		}
		if presentedLately(presented, r.now()) {
			s.Rank = Presented
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if x := r.byIssuer[issuer]; x != nil {
		if presented.After(x.presented) {
			x.presented = presented
		}
		if x.rank != s.Rank {
			r.mark(issuer, mark{})
		}
		r.count(x, held.without)
		x.rank, x.since = s.Rank, earlier(x.since, s.Since)
		r.count(x, held.with)
	}
	return s, nil
}

// earlier returns the earlier of two times, of which the zero one is unknown.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
