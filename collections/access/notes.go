package access

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/value"
)

// standingUnder is where the notes are about issuers: what a server needs after a restart and the
// lists do not contain. There is one of each list that a server has accepted, and of each owner who
// has presented a certificate, who may bring a list from where a flood comes.
const standingUnder = store.Internal + "standing/"

// note is what is known of an issuer, under standingUnder and its public key:
//
//	{"v": 1, "from": source, "since": ms, "rank": 0..3, "presented": ms}
//
// from is what Source makes of the address that has brought its list, and left out if the server
// has accepted none; since is when the issuer was first known; presented is when one of its
// certificates last was, to the day, and left out if none was. Notes that cannot be read or are of
// another version are ignored.
type note struct {
	from             string
	accepted         bool // a list, from there
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
	if n.accepted {
		o.Set("from", n.from)
	}
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
	_, there := o.Get("from")
	since, ok := number("since", latest)
	rank, known := number("rank", int64(Named))
	if is != there || !ok || !known {
		return nil
	}
	n.accepted, n.from, n.since, n.rank = is, from, time.UnixMilli(since), Rank(rank)
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

// raise returns what an issuer matters with what a note tells, which may be nil.
func (n *note) raise(s Standing, now time.Time) Standing {
	if n != nil {
		s.Since = earlier(s.Since, n.since)
		if presentedLately(n.presented, now) {
			s.Rank = max(s.Rank, Presented)
		}
	}
	return s
}

// mark is what Load has to do about an issuer, beside bringing the note about it up to date.
type mark struct {
	older bool  // to remove lists that a later one has taken the place of
	gone  *note // to remove its lists, of which none counts any more; nil if it is not so
	until int64 // the last generation that is removed then
}

// removes reports whether there is something to remove, not only to note.
func (m mark) removes() bool { return m.older || m.gone != nil }

// and returns what there is to do for both marks.
func (m mark) and(was mark) mark {
	if m.older = m.older || was.older; m.gone == nil {
		m.gone = was.gone
	}
	m.until = max(m.until, was.until)
	return m
}

// Anybody can have issuers marked, by presenting their certificates; so maxNoted may be at a time
// of whom there is only something to note, and maxMarked in all.
const (
	maxMarked = 1 << 17
	maxNoted  = maxMarked / 2
)

// mark tells Load what to do. mu is held.
func (r *Revocations) mark(issuer string, m mark) {
	was, marked := r.marked[issuer]
	most := maxNoted
	if m.removes() {
		most = maxMarked
	}
	if marked || len(r.marked) < most {
		r.marked[issuer] = m.and(was)
	}
}

// settle does m about an issuer, and what it is marked for. It is marked for that if it fails.
func (r *Revocations) settle(ctx context.Context, issuer string, m mark) error {
	defer r.turn(issuer)()
	r.mu.Lock()
	m = m.and(r.marked[issuer])
	x := r.byIssuer[issuer]
	delete(r.marked, issuer)
	var generation int64
	if x != nil {
		generation = x.generation
	}
	r.mu.Unlock()
	var err error
	switch {
	case x == nil && m.gone != nil:
		err = r.remove(ctx, issuer, m)
	case x != nil && m.older:
		err = r.removeBelow(ctx, issuer, generation)
	}
	if m.gone == nil || x != nil {
		err = errors.Join(err, r.note(ctx, issuer))
	}
	if err != nil {
		r.mu.Lock()
		r.mark(issuer, m)
		r.mu.Unlock()
	}
	return err
}

// note keeps a note about a list that this server is in charge of, or about an owner without one.
func (r *Revocations) note(ctx context.Context, issuer string) error {
	if r.notes == nil {
		return nil
	}
	var n note
	r.mu.RLock()
	if x := r.byIssuer[issuer]; x != nil {
		n = note{x.source, x.brought, x.since, x.presented, x.rank}
	}
	r.mu.RUnlock()
	if !n.accepted {
		s, err := r.standing(ctx, issuer)
		if err != nil || s.Rank < Owner {
			return err
		}
		n = note{since: earlier(s.Since, r.now()), presented: r.seen(issuer).last, rank: s.Rank}
	}
	was, err := r.noted(ctx, issuer)
	if err != nil {
		return err
	}
	if was != nil { // perhaps another server's
		n.since = earlier(n.since, was.since)
		if was.presented.After(n.presented) {
			n.presented = was.presented
		}
		if n.accepted && n.from == "" {
			n.from = was.from
		}
		if bytes.Equal(was.bytes(), n.bytes()) {
			return nil
		}
	}
	return r.putNote(ctx, issuer, &n)
}

func (r *Revocations) putNote(ctx context.Context, issuer string, n *note) error {
	o := &store.Object{Body: n.bytes(), Type: config.JSON}
	if err := r.notes.Put(ctx, standingUnder+issuer, o, store.Whatever); err != nil {
		return fmt.Errorf("note about a list of revocations: %w", err)
	}
	return nil
}

// maxSettled is how many issuers one Load does something about that they are marked for.
const maxSettled = 100

// settleMarked does what there is to do about issuers, of some at a time, first of those of whom
// there is something to remove. One failure does not keep the others.
func (r *Revocations) settleMarked(ctx context.Context) (err error) {
	var all, noted []string
	r.mu.RLock()
	for issuer, m := range r.marked {
		switch {
		case m.removes():
			all = append(all, issuer)
		case len(noted) < maxSettled:
			noted = append(noted, issuer)
		}
		if len(all) == maxSettled {
			break
		}
	}
	r.mu.RUnlock()
	all = append(all, noted[:min(len(noted), maxSettled-len(all))]...)
	for _, issuer := range all {
		bad := r.settle(ctx, issuer, mark{})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		err = told(err, bad)
	}
	return err
}
