package access

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

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

	allowed allowances
}

type revoked struct {
	generation int64
	size       int                // bytes of the list
	certs      map[[2]string]bool // subject and nonce
	subjects   map[string]bool
}

// NewRevocations returns the lists in a store, or none if that is nil.
func NewRevocations(ctx context.Context, s store.Store) (*Revocations, error) {
	r := &Revocations{store: s, byIssuer: map[string]*revoked{}, mostIssuers: maxIssuers, mostBytes: maxListBytes}
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
			r.take(l)
		}
		if len(keys) < 1000 {
			return none
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

// take makes a list count, unless there is a later one.
func (r *Revocations) take(l *capcert.Revocations) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := r.byIssuer[l.Issuer]; now != nil && now.generation >= l.Generation {
		return false
	}
	x := &revoked{l.Generation, sizeOf(l), map[[2]string]bool{}, map[string]bool{}}
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

// Accept keeps a list, which ParseRevocations has checked. What lists take up is shared out by the source
// of ctx (see WithSource). It returns an error that is ErrStale, ErrTooOften or ErrTooManyIssuers.
func (r *Revocations) Accept(ctx context.Context, l *capcert.Revocations) error {
	r.mu.RLock()
	now, issuers, bytes := r.byIssuer[l.Issuer], len(r.byIssuer), r.bytes
	r.mu.RUnlock()
	more, grows := 1, sizeOf(l)
	if now != nil {
		if now.generation >= l.Generation {
			return fmt.Errorf("%w: %d", ErrStale, now.generation)
		}
		more, grows = 0, max(0, grows-now.size)
	}
	if issuers+more > r.mostIssuers || bytes+grows > r.mostBytes {
		return ErrTooManyIssuers
	}
	if !r.allowed.take(ctx, more, grows) {
		return ErrTooOften
	}
	if r.store != nil {
		o := &store.Object{Body: value.Append(nil, l.Object()), Type: "application/json"}
		if err := r.store.Put(ctx, revocationsKey(l), o, store.Whatever); err != nil {
			return fmt.Errorf("revocations: %w", err)
		}
	}
	if !r.take(l) {
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
