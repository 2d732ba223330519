package access

import (
	"context"
	"errors"
	"fmt"
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
	// ErrTooOften reports that the source of a request has brought too many lists, or too long ones.
	ErrTooOften = errors.New("too many lists of revocations come from there; try again later")
)

// maxIssuers is of how many issuers lists are kept, and maxListBytes how long they may be together.
const (
	maxIssuers   = 1 << 16
	maxListBytes = 256 << 20
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

	mu       sync.RWMutex
	byIssuer map[string]*revoked
	bytes    int // of all lists

	// mostIssuers and mostBytes are maxIssuers and maxListBytes.
	mostIssuers, mostBytes int

	allowed allowances // of sources
	owners  allowances // of issuers who own something here

	// judge and leftOut belong to mu, too: who finds out ranks, and whether a list was not taken over
	// from the store, as there was no room for it.
	judge   func(ctx context.Context, identity string) (Rank, error)
	leftOut bool

	now func() time.Time

	// presentedMu guards presented, the issuers of whom certificates were presented.
	presentedMu sync.Mutex
	presented   *lru.LRU[string, struct{}]
}

type revoked struct {
	generation int64
	size       int                // bytes of the list
	certs      map[[2]string]bool // subject and nonce
	subjects   map[string]bool
	ends       int64     // of the last certificate; see endOf
	rank       Rank      // as it was found out last
	source     string    // that has brought it; "" if that is not known
	since      time.Time // when it was taken, or its rank found out
}

// NewRevocations returns the lists in a store, or none if that is nil.
func NewRevocations(ctx context.Context, s store.Store) (*Revocations, error) {
	r := &Revocations{store: s, byIssuer: map[string]*revoked{}, mostIssuers: maxIssuers, mostBytes: maxListBytes, now: time.Now}
	if s == nil {
		return r, nil
	}
	err := r.Load(ctx)
	if errors.Is(err, capcert.ErrRevocations) { // which says nothing of the others
		err = nil
	}
	return r, err
}

// Load takes over what others have put into the store meanwhile. What is no list of its issuer is left out, and told by an error that is capcert.ErrRevocations.
func (r *Revocations) Load(ctx context.Context) error {
	var none error
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
			if err := r.takeStored(ctx, l); err != nil {
				return err
			}
		}
		if len(keys) < 1000 {
			return errors.Join(none, r.expire(ctx, r.now()))
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

// takeStored makes a list of the store count, if there is room for it or it matters.
func (r *Revocations) takeStored(ctx context.Context, l *capcert.Revocations) error {
	r.mu.RLock()
	now := r.byIssuer[l.Issuer]
	r.mu.RUnlock()
	rank := Stranger
	if now == nil && !r.fits(1, sizeOf(l)) {
		var err error
		if rank, err = r.rank(ctx, l.Issuer); err != nil {
			return err
		}
		if rank < Owner {
			r.mu.Lock()
			r.leftOut = true
			r.mu.Unlock()
			return nil
		}
	}
	r.take(l, rank, "")
	return nil
}

// take makes a list count, unless there is a later one.
func (r *Revocations) take(l *capcert.Revocations, rank Rank, source string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := r.byIssuer[l.Issuer]; now != nil && now.generation >= l.Generation {
		return false
	}
	x := &revoked{
		generation: l.Generation, size: sizeOf(l), certs: map[[2]string]bool{}, subjects: map[string]bool{},
		ends: endOf(l), rank: rank, source: source, since: r.now(),
	}
	for _, c := range l.Certs {
		x.certs[[2]string{c.Subject, c.Nonce}] = true
	}
	for _, s := range l.Subjects {
		x.subjects[s] = true
	}
	if was := r.byIssuer[l.Issuer]; was != nil {
		r.bytes -= was.size
	}
	r.bytes += x.size
	r.byIssuer[l.Issuer] = x
	return true
}

func sizeOf(l *capcert.Revocations) int { return len(value.Append(nil, l.Object())) }

// Accept keeps a list, which ParseRevocations has checked. What lists of strangers take up is
// shared out by the source of ctx (see WithSource); an issuer who owns something here, or whom the
// configuration names, has a share of its own, and its list has room as long as there are lists
// that matter less. It returns an error that is ErrStale, ErrTooOften or ErrTooManyIssuers.
func (r *Revocations) Accept(ctx context.Context, l *capcert.Revocations) error {
	r.mu.RLock()
	now := r.byIssuer[l.Issuer]
	r.mu.RUnlock()
	more, grows := 1, sizeOf(l)
	if now != nil {
		if now.generation >= l.Generation {
			return fmt.Errorf("%w: %d", ErrStale, now.generation)
		}
		more, grows = 0, max(0, grows-now.size)
	}
	rank, err := r.rank(ctx, l.Issuer)
	if err != nil {
		return err
	}
	allowed := rank == Named
	switch rank {
	case Stranger, Presented:
		allowed = r.allowed.take(ctx, more, grows)
	case Owner: // whoever else sends from the same address takes nothing of it
		allowed = r.owners.take(context.WithValue(ctx, sourceKey{}, l.Issuer), more, grows)
	}
	if !allowed {
		return ErrTooOften
	}
	if err := r.makeRoom(ctx, l, rank, sourceOf(ctx), more, grows); err != nil {
		return err
	}
	if r.store != nil {
		o := &store.Object{Body: value.Append(nil, l.Object()), Type: "application/json"}
		if err := r.store.Put(ctx, revocationsKey(l), o, store.Whatever); err != nil {
			return fmt.Errorf("revocations: %w", err)
		}
	}
	if !r.take(l, rank, sourceOf(ctx)) {
		return ErrStale
	}
	return r.dropOlder(ctx, l)
}

// dropOlder removes the lists of an issuer that a later one takes the place of.
func (r *Revocations) dropOlder(ctx context.Context, l *capcert.Revocations) error {
	if r.store == nil {
		return nil
	}
	keys, err := r.store.List(ctx, revocationsUnder+l.Issuer, "", 1000)
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

// IsRevoked reports whether an issuer has revoked a certificate with a nonce, or all of its subject, which is "" for an audience.
func (r *Revocations) IsRevoked(issuer, subject, nonce string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	x := r.byIssuer[issuer]
	return x != nil && (x.certs[[2]string{subject, nonce}] || subject != "" && x.subjects[subject])
}
