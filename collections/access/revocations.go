package access

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"strconv"
	"strings"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/skerry-sync/skerry/collections/capcert"
	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/value"
)

var (
	// ErrStale reports a list of revocations whose generation is not above that of the one that
	// counts.
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

// revocationsUnder is where a store keeps them: a list lies under the public key of its issuer, a
// slash and its generation of 16 digits, so that several servers put the same there or something
// else, and none is in another's place.
const revocationsUnder = store.Internal + "revocations/"

func revocationsKey(l *capcert.Revocations) string { return keyOf(l.Issuer, l.Generation) }

func keyOf(issuer string, generation int64) string {
	return fmt.Sprintf("%s%s/%016d", revocationsUnder, issuer, generation)
}

// parseKey returns whose list lies under a key, and its generation.
func parseKey(key string) (issuer string, generation int64, ok bool) {
	rest, _ := strings.CutPrefix(key, revocationsUnder)
	issuer, digits, _ := strings.Cut(rest, "/")
	generation, err := strconv.ParseInt(digits, 10, 64)
	return issuer, generation, err == nil && key == keyOf(issuer, generation)
}

// CheckInternal returns an error that is capcert.ErrRevocations if a key is one of a list of
// revocations, and what lies there is not that list.
func CheckInternal(key string, b []byte) error {
	if !strings.HasPrefix(key, revocationsUnder) {
		return nil
	}
	_, err := parse(key, b)
	return err
}

// Revocations are the lists of revocations that issuers have published, kept in a store.
type Revocations struct {
	store store.Store // nil keeps nothing
	notes store.Store // nil keeps none

	mu       sync.RWMutex
	byIssuer map[string]*revoked
	all      held // what lists take up, but those of whom the configuration names

	// mostIssuers and mostBytes are maxIssuers and maxListBytes.
	mostIssuers, mostBytes int

	allowed allowances // of sources
	young   allowances // of sources, for issuers who own something here
	around  allowances // of networks, of what comes under allowed
	owners  allowances // of issuers who have owned something for some time

	// These belong to mu, too. judge finds out ranks. left has the generations of lists in the store
	// that there was no room for since leftSince, and leftOut is whether there were any. marked has
	// what Load is to do about issuers.
	judge     func(ctx context.Context, identity string) (Rank, error)
	leftOut   bool
	left      map[string]int64
	leftSince time.Time
	marked    map[string]mark

	now func() time.Time

	// turns are taken for what is done to an issuer's lists in the store, so that none is removed
	// that is just accepted. Whoever has one takes no other.
	turns [64]sync.Mutex

	// presentedMu guards presented, the issuers of whom certificates were presented.
	presentedMu sync.Mutex
	presented   *lru.LRU[string, seen]
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
	looked     time.Time // when its issuer was first known, or its rank found out
}

// NewRevocations returns the lists in a store, or none if that is nil. Notes about them, from which
// addresses they have come and when, are kept in notes, for the servers that have accepted them
// alone; nil keeps none, and then such lists have no known source after a start. It fails if lists
// that count cannot be read: the server would accept what they revoke. Lists whose content has not
// come from other servers are left to Load, as are those that have not come at all.
func NewRevocations(ctx context.Context, s, notes store.Store) (*Revocations, error) {
	r := &Revocations{
		store: s, notes: notes, byIssuer: map[string]*revoked{}, marked: map[string]mark{},
		left: map[string]int64{}, mostIssuers: maxIssuers, mostBytes: maxListBytes, now: time.Now,
		around: allowances{shares: networkShares},
	}
	if s == nil {
		return r, nil
	}
	_, missed := r.read(ctx) // what will never count says nothing of the others
	return r, missed
}

// take makes a list count of which x says where it comes from, unless there is a later one.
func (r *Revocations) take(l *capcert.Revocations, x *revoked) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	was := r.byIssuer[l.Issuer]
	if was != nil && was.generation >= l.Generation {
		return false
	}
	x.generation, x.size, x.ends = l.Generation, sizeOf(l), endOf(l)
	if x.looked.IsZero() {
		x.looked = r.now()
	}
	if x.since = earlier(x.since, x.looked); was != nil {
		x.since = earlier(was.since, x.since)
		x.brought = x.brought || was.brought
		if was.presented.After(x.presented) {
			x.presented = was.presented
		}
		r.count(was, held.without)
	}
	x.certs, x.subjects = map[[2]string]bool{}, map[string]bool{}
	for _, c := range l.Certs {
		x.certs[[2]string{c.Subject, c.Nonce}] = true
	}
	for _, s := range l.Subjects {
		x.subjects[s] = true
	}
	r.count(x, held.with)
	r.byIssuer[l.Issuer] = x
	return true
}

// count adds a list to what all take up, or takes it from that. mu is held.
func (r *Revocations) count(x *revoked, how func(held, held) held) {
	if x.rank != Named {
		r.all = how(r.all, held{1, x.size})
	}
}

func sizeOf(l *capcert.Revocations) int { return len(value.Append(nil, l.Object())) }

// maxUnknown is how long a list may be, in bytes, of an issuer who is not known for some time: of
// several hundred certificates.
const maxUnknown = 64 << 10

// Accept keeps a list, which ParseRevocations has checked. What lists take up is shared out by the
// source of ctx (see WithSource); an owner who is known here for some time has a share of its own,
// and whom the configuration names has no limit. Lists make room as room.gives says. It returns an
// error that is ErrStale, ErrTooLong, ErrTooOften or ErrTooManyIssuers, and then, or if the list
// cannot be stored, no other list has gone for it. A list that is stored counts.
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
	if now == nil { // an owner has a note without a list; if it cannot be read, one is new
		note, _ := r.noted(ctx, l.Issuer)
		s = note.raise(s, r.now())
	}
	n := &newcomer{issuer: l.Issuer, Standing: s, source: SourceOf(ctx), grows: grows}
	n.Since = earlier(n.Since, r.now())
	known := s.Rank == Owner && r.now().Sub(n.Since) >= old
	if !known && s.Rank != Named && sizeOf(l) > maxUnknown {
		return fmt.Errorf("%w: %d bytes at most", ErrTooLong, maxUnknown)
	}
	if !r.allows(ctx, n, sizeOf(l), known) {
		return ErrTooOften
	}
	leave, err := r.makeRoom(ctx, n)
	if err != nil {
		return err
	}
	if err := r.keep(ctx, l, n); err != nil {
		return err
	}
	// The list counts. What fails from here on is marked, and Load tries it again and reports it.
	for _, gone := range leave {
		_ = r.drop(ctx, gone)
	}
	_ = r.settle(ctx, l.Issuer, mark{older: true})
	return nil
}

// keep stores a list, and makes it count.
func (r *Revocations) keep(ctx context.Context, l *capcert.Revocations, n *newcomer) error {
	defer r.turn(l.Issuer)()
	if r.store != nil {
		o := &store.Object{Body: value.Append(nil, l.Object()), Type: config.JSON}
		if err := r.store.Put(ctx, revocationsKey(l), o, store.Whatever); err != nil {
			return fmt.Errorf("revocations: %w", err)
		}
	}
	x := &revoked{rank: n.Rank, source: n.source, brought: true, since: n.Since}
	if seen := r.seen(l.Issuer); seen.lately(r.now()) { // which the note says after a start
		x.presented = r.now()
	}
	if !r.take(l, x) {
		return ErrStale
	}
	return nil
}

// turn takes the turn of an issuer, and returns what gives it back.
func (r *Revocations) turn(issuer string) (done func()) {
	h := fnv.New32a()
	_, _ = h.Write([]byte(issuer))
	m := &r.turns[h.Sum32()%uint32(len(r.turns))]
	m.Lock()
	return m.Unlock
}

// allows takes what a list of some bytes costs from the allowance that it comes under. One that
// takes the place of another costs as much: a replica keeps a trace of each, and its bytes for some
// time. Only of an owner who is known for some time no more bytes count than its list has grown by.
func (r *Revocations) allows(ctx context.Context, n *newcomer, size int, known bool) bool {
	if known { // whoever else sends from the same address takes nothing of it
		own := context.WithValue(ctx, sourceKey{}, n.issuer)
		if size = n.grows.bytes; r.owners.take(own, 1, size) {
			return true
		}
	}
	switch n.Rank {
	case Named:
		return true
	case Owner:
		return r.young.take(ctx, 1, size)
	default:
		if !r.allowed.take(ctx, 1, size) {
			return false
		}
		network := Network(n.source)
		if network == "" { // behind a proxy of this machine, which is one source
			return true
		}
		return r.around.take(context.WithValue(ctx, sourceKey{}, network), 1, size)
	}
}

// removeBelow removes an issuer's lists from the store whose generation is below one. It looks at
// no other issuer's.
func (r *Revocations) removeBelow(ctx context.Context, issuer string, generation int64) error {
	if r.store == nil {
		return nil
	}
	keys, err := r.store.List(ctx, revocationsUnder+issuer+"/", "", 1000)
	for _, k := range keys {
		if _, g, ok := parseKey(k); err == nil && ok && g < generation {
			err = r.store.Delete(ctx, k)
		}
	}
	if err != nil {
		return fmt.Errorf("revocations: %w", err)
	}
	return nil
}

// IsRevoked reports whether an issuer has revoked a certificate with a nonce, or all of its
// subject, which is "" for an audience.
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
