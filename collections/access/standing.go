package access

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	lru "github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/skerry-sync/skerry/collections/capcert"
	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/value"
)

// Rank is how much an issuer's list of revocations matters at a server. Keys cost nothing to make,
// and a list of one that nobody knows protects nothing; so lists that matter less make room for
// others (see room.gives).
type Rank int

// The ranks.
const (
	Stranger  Rank = iota // nobody has presented a certificate of the issuer
	Presented             // somebody has, in the last 30 days as far as that is known
	Owner                 // something is stored under the issuer's identity
	Named                 // the configuration names the issuer's identity
)

// Standing is how much an issuer matters, and since when it is known here. Whoever makes issuers in
// order to fill the room makes them late.
type Standing struct {
	Rank  Rank
	Since time.Time // zero if that is not known
}

// old is for how long an owner is known to whom what others do leaves a share of its own.
const old = 24 * time.Hour

// maxPresented is of how many issuers it is known that certificates of theirs have been presented.
const maxPresented = 1 << 16

// Judge has ranks above Presented found out by a function, of an issuer's identity. It is called
// before the first list is accepted.
func (r *Revocations) Judge(
	ctx context.Context, standing func(ctx context.Context, identity string) (Standing, error),
) error {
	r.mu.Lock()
	r.judge = standing
	again := r.leftOut
	r.mu.Unlock()
	if again { // of what was read before there was room for all that matters
		return r.Load(ctx)
	}
	return nil
}

// Present tells that somebody has presented a certificate of an issuer, with a right signature.
func (r *Revocations) Present(issuer string) {
	now := r.now()
	r.presentedMu.Lock()
	if r.presented == nil {
		r.presented, _ = lru.NewLRU[string, time.Time](maxPresented, nil) // fails only without room
	}
	if _, known := r.presented.Get(issuer); !known {
		r.presented.Add(issuer, now)
	}
	r.presentedMu.Unlock()

	// A list keeps the mark, and a note of it, though others present more than the memory is for.
	r.mu.RLock()
	x := r.byIssuer[issuer]
	fresh := x == nil || now.Sub(x.presented) < old
	r.mu.RUnlock()
	if fresh {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if x := r.byIssuer[issuer]; x != nil {
		x.presented = now
		r.marked[issuer] = struct{}{}
	}
}

// wasPresented reports whether it is remembered that a certificate of an issuer was presented.
func (r *Revocations) wasPresented(issuer string) bool {
	r.presentedMu.Lock()
	defer r.presentedMu.Unlock()
	return r.presented != nil && r.presented.Contains(issuer)
}

// standing finds out how much a list of an issuer matters now.
func (r *Revocations) standing(ctx context.Context, issuer string) (s Standing, err error) {
	r.mu.RLock()
	judge := r.judge
	x := r.byIssuer[issuer]
	var since, presented time.Time
	if x != nil {
		since, presented = x.since, x.presented
	}
	r.mu.RUnlock()
	if judge != nil {
		id, err := capcert.UserID(issuer)
		if err != nil {
			return s, nil // ParseRevocations lets no such issuer in
		}
		if s, err = judge(ctx, id); err != nil {
			return s, err
		}
	}
	s.Since = earlier(s.Since, since)
	now := r.now()
	if !presented.IsZero() && now.Sub(presented) <= strangerKept {
		s.Rank = max(s.Rank, Presented)
	}
	r.presentedMu.Lock()
	defer r.presentedMu.Unlock()
	if r.presented != nil {
		if first, is := r.presented.Peek(issuer); is {
			s.Rank, s.Since = max(s.Rank, Presented), earlier(s.Since, first)
		}
	}
	return s, nil
}

// look finds out how much a list matters that is kept, and remembers it. Before it says that nobody
// has presented a certificate, it looks at what another server of the store has noted.
func (r *Revocations) look(ctx context.Context, issuer string) (Standing, error) {
	s, err := r.standing(ctx, issuer)
	if err != nil {
		return s, err
	}
	if s.Rank == Stranger {
		note, err := r.noted(ctx, issuer)
		if err != nil {
			return s, err
		}
		if note != nil && r.now().Sub(note.presented) <= strangerKept {
			s.Rank = Presented
		}
		r.mu.Lock()
		if x := r.byIssuer[issuer]; x != nil && note != nil && note.presented.After(x.presented) {
			x.presented = note.presented
		}
		r.mu.Unlock()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if x := r.byIssuer[issuer]; x != nil {
		if x.rank != s.Rank {
			r.marked[issuer] = struct{}{}
		}
		x.rank, x.since = s.Rank, earlier(x.since, s.Since)
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

// standingUnder is where the notes are about lists that a server has accepted: what the list itself
// does not tell, and a server that starts must know in order to share out the room.
const standingUnder = store.Internal + "standing/"

// note is what is known of a list, under standingUnder and the public key of its issuer:
//
//	{"v": 1, "from": source, "since": ms, "rank": 0..3, "presented": ms}
//
// from is what Source makes of the address that has brought it; since is when the issuer was first
// known; presented is when one of its certificates last was, to the day, and left out if none was.
// A note that cannot be read, or is of another version, is as none.
type note struct {
	from             string
	since, presented time.Time
	rank             Rank
}

// noteVersion is that of notes; maxNote is how long one may be.
const (
	noteVersion = 1
	maxNote     = 1024
)

func (n *note) bytes() []byte {
	o := value.NewObject(value.Member{Key: "v", Value: float64(noteVersion)})
	o.Set("from", n.from)
	o.Set("since", float64(n.since.UnixMilli()))
	o.Set("rank", float64(n.rank))
	if !n.presented.IsZero() {
		o.Set("presented", float64(n.presented.UnixMilli()))
	}
	return value.Append(nil, o)
}

// parseNote returns nil for what is no note.
func parseNote(b []byte) *note {
	if len(b) > maxNote {
		return nil
	}
	o, err := value.ParseObject(b, 2)
	if err != nil {
		return nil
	}
	number := func(key string, most int64) (int64, bool) {
		v, _ := o.Get(key)
		f, ok := v.(float64)
		return int64(f), ok && f >= 0 && f <= float64(most) && f == float64(int64(f))
	}
	const latest = 1 << 53
	v, ok := number("v", latest)
	if !ok || v != noteVersion {
		return nil
	}
	var n note
	from, is := o.String("from")
	since, ok := number("since", latest)
	rank, known := number("rank", int64(Named))
	if !is || !ok || !known {
		return nil
	}
	n.from, n.since, n.rank = from, time.UnixMilli(since), Rank(rank)
	if presented, ok := number("presented", latest); ok {
		n.presented = time.UnixMilli(presented)
	}
	return &n
}

// noted returns the note about the list of an issuer, nil if there is none.
func (r *Revocations) noted(ctx context.Context, issuer string) (*note, error) {
	if r.notes == nil {
		return nil, nil
	}
	o, err := r.notes.Get(ctx, standingUnder+issuer)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("note about a list of revocations: %w", err)
	}
	return parseNote(o.Body), nil
}

// note keeps a note about a list that this server is in charge of.
func (r *Revocations) note(ctx context.Context, issuer string) error {
	r.mu.Lock()
	x := r.byIssuer[issuer]
	delete(r.marked, issuer)
	if x == nil || !x.brought || r.notes == nil {
		r.mu.Unlock()
		return nil
	}
	n := note{x.source, x.since, x.presented, x.rank}
	r.mu.Unlock()
	was, err := r.noted(ctx, issuer)
	if err != nil {
		return err
	}
	if was != nil { // perhaps another server's
		n.since = earlier(n.since, was.since)
		if was.presented.After(n.presented) {
			n.presented = was.presented
		}
		if bytes.Equal(was.bytes(), n.bytes()) {
			return nil
		}
	}
	o := &store.Object{Body: n.bytes(), Type: "application/json"}
	if err := r.notes.Put(ctx, standingUnder+issuer, o, store.Whatever); err != nil {
		return fmt.Errorf("note about a list of revocations: %w", err)
	}
	return nil
}

// maxNoted is how many notes are brought up to date at a time.
const maxNoted = 1000

// noteMarked keeps notes of what has become known of lists since the last time.
func (r *Revocations) noteMarked(ctx context.Context) error {
	var all []string
	r.mu.RLock()
	for issuer := range r.marked {
		if all = append(all, issuer); len(all) == maxNoted {
			break
		}
	}
	r.mu.RUnlock()
	for _, issuer := range all {
		if err := r.note(ctx, issuer); err != nil {
			return err
		}
	}
	return nil
}
