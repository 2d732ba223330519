package access

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/skerry-sync/skerry/collections/capcert"
	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/value"
)

var (
	// ErrStale reports a list of revocations whose generation is not above that of the one that counts.
	ErrStale = errors.New("there is a list of revocations of the same or a later generation")
	// ErrTooManyIssuers reports that lists of no more issuers are kept.
	ErrTooManyIssuers = errors.New("lists of too many issuers are kept")
	// ErrTooLong reports a list that is too long for an issuer who is not known for some time.
	ErrTooLong = errors.New("the list of revocations is too long")
	// ErrTooOften reports that the source of a request has brought too many lists, or too long ones.
	ErrTooOften = errors.New("too many lists of revocations come from there; try again later")
)

// maxIssuers is of how many issuers lists are kept, and maxListBytes how long they may be together.
const (
	maxIssuers   = 1 << 16
	maxListBytes = 64 << 20
)

// revocationsUnder is where a store keeps them: a list lies under the public key of its issuer, a slash and its generation of 16 digits, so that several servers put the same there or something
// else, and none is in another's place. Older servers have put an issuer's only list under its key alone.
const revocationsUnder = store.Internal + "revocations/"

func revocationsKey(l *capcert.Revocations) string {
	return fmt.Sprintf("%s%s/%016d", revocationsUnder, l.Issuer, l.Generation)
}

// CheckInternal returns an error that is capcert.ErrRevocations if a key is one of a list of revocations, and what lies there is none of that issuer.
func CheckInternal(key string, b []byte) error {
	issuer, is := strings.CutPrefix(key, revocationsUnder)
	if !is {
		return nil
	}
	_, err := parse(issuer, b)
	return err
}

// Revocations are the lists of revocations that issuers have published, kept in a store.
type Revocations struct {
	store store.Store // nil keeps nothing
	notes store.Store // nil keeps none

	mu       sync.RWMutex
	byIssuer map[string]*revoked
	bytes    int // of all lists

	// mostIssuers and mostBytes are maxIssuers and maxListBytes.
	mostIssuers, mostBytes int

	allowed allowances // of sources
	young   allowances // of sources, for issuers who own something here
	owners  allowances // of issuers who have owned something for some time

	// These belong to mu, too: who finds out ranks, whether a list was not taken over from the store,
	// as there was no room for it, and of which issuers more is known than is noted.
	judge   func(ctx context.Context, identity string) (Standing, error)
	leftOut bool
	marked  map[string]struct{}

	now func() time.Time

	// presentedMu guards presented, the issuers of whom certificates were presented, and since when.
	presentedMu sync.Mutex
	presented   *lru.LRU[string, time.Time]
}

type revoked struct {
	generation int64
	size       int                // bytes of the list
	certs      map[[2]string]bool // subject and nonce
	subjects   map[string]bool
	ends       int64     // of the last certificate; see endOf
	rank       Rank      // as it was found out last
	source     string    // that has brought it; "" if that is not known
	brought    bool      // this server, or another of its store, has accepted it, and may remove it
	since      time.Time // when the issuer was first known
	presented  time.Time // when one of its certificates was presented, to the day; zero if none was
	looked     time.Time // when it was taken, or its rank found out
}

// NewRevocations returns the lists in a store, or none if that is nil. Notes about them, from which
// addresses they have come and when, are kept in notes, for the servers that have accepted them
// alone; nil keeps none, and then such lists have no known source after a start.
func NewRevocations(ctx context.Context, s, notes store.Store) (*Revocations, error) {
	r := &Revocations{
		store: s, notes: notes, byIssuer: map[string]*revoked{}, marked: map[string]struct{}{},
		mostIssuers: maxIssuers, mostBytes: maxListBytes, now: time.Now,
	}
	if s == nil {
		return r, nil
	}
	err := r.Load(ctx)
	if errors.Is(err, capcert.ErrRevocations) { // which says nothing of the others
		err = nil
	}
	return r, err
}

// Load takes over what others have put into the store meanwhile, and notes what has become known of
// lists. What is no list of its issuer is left out, and told by an error that is
// capcert.ErrRevocations.
func (r *Revocations) Load(ctx context.Context) error {
	var none error
	rooms := maxRooms
	for after := ""; ; {
		keys, err := r.store.List(ctx, revocationsUnder, after, 1000)
		if err != nil {
			return fmt.Errorf("revocations: %w", err)
		}
		for _, k := range keys {
			if r.has(k) {
				after = k
				continue
			}
			o, err := r.store.Get(ctx, k)
			if errors.Is(err, store.ErrNotFound) {
				continue
			}
			if err != nil {
				return fmt.Errorf("revocations: %w", err)
			}
			after = k
			l, err := parse(strings.TrimPrefix(k, revocationsUnder), o.Body)
			if err != nil {
				none = errors.Join(none, fmt.Errorf("revocations: %s: %w", k, err))
				continue
			}
			if err := r.takeStored(ctx, l, &rooms); err != nil {
				return err
			}
		}
		if len(keys) < 1000 {
			return errors.Join(none, r.noteMarked(ctx), r.expire(ctx, r.now()))
		}
	}
}

// parse reads the list that lies at a place, which is what of its key follows revocationsUnder.
func parse(place string, b []byte) (*capcert.Revocations, error) {
	v, err := value.Parse(b, value.MaxDepth)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", capcert.ErrRevocations, err)
	}
	l, err := capcert.ParseRevocations(v)
	if err == nil && place != l.Issuer && revocationsUnder+place != revocationsKey(l) {
		err = fmt.Errorf("%w: it is in the place of another", capcert.ErrRevocations)
	}
	return l, err
}

// has reports whether the list at a key, or a later one of its issuer, counts already.
func (r *Revocations) has(key string) bool {
	issuer, generation, ok := strings.Cut(strings.TrimPrefix(key, revocationsUnder), "/")
	g, err := strconv.ParseInt(generation, 10, 64)
	if !ok || err != nil {
		return false
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	now := r.byIssuer[issuer]
	return now != nil && now.generation >= g
}

// maxRooms is for how many lists of the store room is made at a time, of those that there is none
// for.
const maxRooms = 100

// takeStored makes a list of the store count, if there is room for it, or its issuer owns
// something. rooms is for how many room may still be made.
func (r *Revocations) takeStored(ctx context.Context, l *capcert.Revocations, rooms *int) error {
	x := &revoked{brought: r.notes != nil && r.notes == r.store}
	n, err := r.noted(ctx, l.Issuer)
	if err != nil {
		return err
	}
	if n != nil {
		*x = revoked{rank: n.rank, source: n.from, brought: true, since: n.since, presented: n.presented}
	}
	r.mu.RLock()
	now := r.byIssuer[l.Issuer]
	r.mu.RUnlock()
	grows := held{1, sizeOf(l)}
	if now == nil && !r.fits(grows.issuers, grows.bytes) { // a later one of an issuer always counts
		s, err := r.standing(ctx, l.Issuer)
		if err != nil {
			return err
		}
		if n != nil && !n.presented.IsZero() && r.now().Sub(n.presented) <= strangerKept {
			s.Rank = max(s.Rank, Presented)
		}
		s.Since = earlier(earlier(s.Since, x.since), r.now())
		x.rank, x.since = s.Rank, s.Since
		switch {
		case s.Rank >= Owner:
		case s.Rank == Stranger || *rooms == 0:
			err = ErrTooManyIssuers
		default:
			*rooms--
			n := &newcomer{issuer: l.Issuer, Standing: s, source: x.source, grows: grows, stored: true}
			err = r.makeRoom(ctx, n)
		}
		if errors.Is(err, ErrTooManyIssuers) {
			r.mu.Lock()
			r.leftOut = true
			r.mu.Unlock()
			return nil
		}
		if err != nil {
			return err
		}
	}
	r.take(l, x)
	return nil
}

// take makes a list count of which x says where it comes from, unless there is a later one.
func (r *Revocations) take(l *capcert.Revocations, x *revoked) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	was := r.byIssuer[l.Issuer]
	if was != nil && was.generation >= l.Generation {
		return false
	}
	x.generation, x.size, x.ends, x.looked = l.Generation, sizeOf(l), endOf(l), r.now()
	if x.since = earlier(x.since, x.looked); was != nil {
		x.since = earlier(was.since, x.since)
		x.brought = x.brought || was.brought
		if was.presented.After(x.presented) {
			x.presented = was.presented
		}
		r.bytes -= was.size
	}
	x.certs, x.subjects = map[[2]string]bool{}, map[string]bool{}
	for _, c := range l.Certs {
		x.certs[[2]string{c.Subject, c.Nonce}] = true
	}
	for _, s := range l.Subjects {
		x.subjects[s] = true
	}
	r.bytes += x.size
	r.byIssuer[l.Issuer] = x
	return true
}

func sizeOf(l *capcert.Revocations) int { return len(value.Append(nil, l.Object())) }

// maxUnknown is how long a list may be, in bytes, of an issuer who is not known for some time: of
// several hundred certificates.
const maxUnknown = 64 << 10

// Accept keeps a list, which ParseRevocations has checked. What lists take up is shared out by the
// source of ctx (see WithSource); an issuer who has owned something here for some time has a share
// of its own, and whom the configuration names has no limit. Lists make room as room.gives says. It
// returns an error that is ErrStale, ErrTooLong, ErrTooOften or ErrTooManyIssuers.
func (r *Revocations) Accept(ctx context.Context, l *capcert.Revocations) error {
	r.mu.RLock()
	now := r.byIssuer[l.Issuer]
	r.mu.RUnlock()
	grows := held{1, sizeOf(l)}
	if now != nil {
		if now.generation >= l.Generation {
			return fmt.Errorf("%w: %d", ErrStale, now.generation)
		}
		grows = held{0, max(0, grows.bytes-now.size)}
	}
	s, err := r.standing(ctx, l.Issuer)
	if err != nil {
		return err
	}
	n := &newcomer{issuer: l.Issuer, Standing: s, source: sourceOf(ctx), grows: grows}
	n.Since = earlier(n.Since, r.now())
	known := s.Rank == Owner && r.now().Sub(n.Since) >= old
	if !known && s.Rank != Named && sizeOf(l) > maxUnknown {
		return fmt.Errorf("%w: %d bytes at most", ErrTooLong, maxUnknown)
	}
	if !r.allows(ctx, n, known) {
		return ErrTooOften
	}
	if err := r.makeRoom(ctx, n); err != nil {
		return err
	}
	if r.store != nil {
		o := &store.Object{Body: value.Append(nil, l.Object()), Type: "application/json"}
		if err := r.store.Put(ctx, revocationsKey(l), o, store.Whatever); err != nil {
			return fmt.Errorf("revocations: %w", err)
		}
	}
	x := &revoked{rank: s.Rank, source: n.source, brought: true, since: n.Since}
	if r.wasPresented(l.Issuer) { // which the note says after a start
		x.presented = r.now()
	}
	if !r.take(l, x) {
		return ErrStale
	}
	return errors.Join(r.dropOlder(ctx, l), r.note(ctx, l.Issuer))
}

// allows takes what a list takes up from the allowance that it comes under.
func (r *Revocations) allows(ctx context.Context, n *newcomer, known bool) bool {
	issuers, bytes := n.grows.issuers, n.grows.bytes
	if known { // whoever else sends from the same address takes nothing of it
		own := context.WithValue(ctx, sourceKey{}, n.issuer)
		if r.owners.take(own, issuers, bytes) {
			return true
		}
	}
	switch n.Rank {
	case Named:
		return true
	case Owner:
		return r.young.take(ctx, issuers, bytes)
	default:
		return r.allowed.take(ctx, issuers, bytes)
	}
}

// dropOlder removes the lists of an issuer that a later one takes the place of.
func (r *Revocations) dropOlder(ctx context.Context, l *capcert.Revocations) error {
	if r.store == nil {
		return nil
	}
	keys, err := r.keysOf(ctx, l.Issuer)
	for _, k := range keys {
		if err == nil && k < revocationsKey(l) {
			err = r.store.Delete(ctx, k)
		}
	}
	if err != nil {
		return fmt.Errorf("revocations: %w", err)
	}
	return nil
}

// keysOf returns the keys of an issuer's lists in the store, also that of an older server. It looks
// at no other issuer's, as a list of all keys that begin so would.
func (r *Revocations) keysOf(ctx context.Context, issuer string) ([]string, error) {
	keys, err := r.store.List(ctx, revocationsUnder+issuer+"/", "", 1000)
	if err != nil {
		return nil, err
	}
	switch _, err := r.store.Get(ctx, revocationsUnder+issuer); {
	case err == nil:
		keys = append(keys, revocationsUnder+issuer)
	case !errors.Is(err, store.ErrNotFound):
		return nil, err
	}
	return keys, nil
}

// IsRevoked reports whether an issuer has revoked a certificate with a nonce, or all of its subject, which is "" for an audience.
func (r *Revocations) IsRevoked(issuer, subject, nonce string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	x := r.byIssuer[issuer]
	return x != nil && (x.certs[[2]string{subject, nonce}] || subject != "" && x.subjects[subject])
}

// endOf returns when the last certificate is over that a list names, in Unix seconds; what names a
// subject, or a certificate without an end, never is.
func endOf(l *capcert.Revocations) (end int64) {
	end = math.MinInt64
	for _, s := range l.Subjects {
		if s != "" {
			return math.MaxInt64
		}
	}
	for _, c := range l.Certs {
		if c.Expires == 0 {
			return math.MaxInt64
		}
		end = max(end, c.Expires)
	}
	return end
}
