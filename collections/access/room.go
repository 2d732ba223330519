package access

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	lru "github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/skerry-sync/skerry/collections/capcert"
)

// Rank is how much an issuer's list of revocations matters at a server. Keys cost nothing to make,
// and a list of one that nobody knows protects nothing; so lists that matter less make room for
// others.
type Rank int

// The ranks.
const (
	Stranger  Rank = iota // nobody has presented a certificate of the issuer
	Presented             // somebody has, since the start
	Owner                 // something is stored under the issuer's identity
	Named                 // the configuration names the issuer's identity
)

const (
	// maxPresented is of how many issuers it is known that certificates of theirs have been presented.
	maxPresented = 1 << 16
	// strangerKept is how long a list is kept of an issuer who has remained a stranger since.
	strangerKept = 30 * 24 * time.Hour
	// maxJudged is how many lists are looked at to make room for one.
	maxJudged = 256
)

// Judge has ranks above Presented found out by a function, of an issuer's identity. It is called
// before the first list is accepted.
func (r *Revocations) Judge(ctx context.Context, rank func(ctx context.Context, identity string) (Rank, error)) error {
	r.mu.Lock()
	r.judge = rank
	again := r.leftOut
	r.mu.Unlock()
	if again { // of what was read before there was room for all that matters
		return r.Load(ctx)
	}
	return nil
}

// Present tells that somebody has presented a certificate of an issuer, with a right signature.
func (r *Revocations) Present(issuer string) {
	r.presentedMu.Lock()
	defer r.presentedMu.Unlock()
	if r.presented == nil {
		r.presented, _ = lru.NewLRU[string, struct{}](maxPresented, nil) // fails only without room
	}
	r.presented.Add(issuer, struct{}{})
}

// rank finds out how much a list of an issuer matters now.
func (r *Revocations) rank(ctx context.Context, issuer string) (Rank, error) {
	r.mu.RLock()
	judge := r.judge
	r.mu.RUnlock()
	if judge != nil {
		id, err := capcert.UserID(issuer)
		if err != nil {
			return Stranger, nil // ParseRevocations lets no such issuer in
		}
		if rank, err := judge(ctx, id); err != nil || rank > Presented {
			return rank, err
		}
	}
	r.presentedMu.Lock()
	defer r.presentedMu.Unlock()
	if r.presented != nil && r.presented.Contains(issuer) {
		return Presented, nil
	}
	return Stranger, nil
}

// fits reports whether there is room for more issuers and bytes.
func (r *Revocations) fits(issuers, bytes int) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.byIssuer)+issuers <= r.mostIssuers && r.bytes+bytes <= r.mostBytes
}

// candidate is a list that may have to go.
type candidate struct {
	issuer string
	source string
	rank   Rank // as it was known last
	since  time.Time
	same   int // lists of its source
}

// candidates returns the lists of all issuers but one, those that are to go first first: of a low
// rank, of a source that has brought many, and old. Where a list has come from is not known after a
// start; each such list is one of a source of its own.
func (r *Revocations) candidates(but string) (all []candidate, bySource map[string]int) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	bySource = map[string]int{}
	for _, x := range r.byIssuer {
		bySource[x.source]++
	}
	delete(bySource, "")
	for issuer, x := range r.byIssuer {
		if issuer != but {
			all = append(all, candidate{issuer, x.source, x.rank, x.since, max(1, bySource[x.source])})
		}
	}
	slices.SortFunc(all, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(b.same, a.same), a.since.Compare(b.since))
	})
	return all, bySource
}

// makeRoom removes lists for one of a rank from a source, until there is room for more issuers and
// bytes. It returns ErrTooManyIssuers if those that are kept matter as much. For what the
// configuration names there is always room.
func (r *Revocations) makeRoom(ctx context.Context, l *capcert.Revocations, rank Rank, source string, issuers, bytes int) error {
	if r.fits(issuers, bytes) {
		return nil
	}
	all, bySource := r.candidates(l.Issuer)
	mine := bySource[source] + issuers
	judged := 0
	for _, c := range all {
		if r.fits(issuers, bytes) {
			return nil
		}
		// Of equal lists the ones go of whoever has brought more.
		lower := func(of Rank) bool { return of < rank || of == rank && bySource[c.source] > mine }
		if !lower(c.rank) {
			continue
		}
		if judged++; judged > maxJudged {
			break
		}
		now, err := r.rank(ctx, c.issuer)
		if err != nil {
			return err
		}
		if !lower(now) {
			r.note(c.issuer, now)
			continue
		}
		if err := r.drop(ctx, c.issuer); err != nil {
			return err
		}
		bySource[c.source]--
	}
	if rank == Named || r.fits(issuers, bytes) {
		return nil
	}
	return ErrTooManyIssuers
}

// note remembers the rank of a list.
func (r *Revocations) note(issuer string, rank Rank) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if x := r.byIssuer[issuer]; x != nil {
		x.rank = rank
	}
}

// drop forgets the list of an issuer, also in the store.
func (r *Revocations) drop(ctx context.Context, issuer string) error {
	r.mu.Lock()
	if x := r.byIssuer[issuer]; x != nil {
		r.bytes -= x.size
		delete(r.byIssuer, issuer)
	}
	r.mu.Unlock()
	if r.store == nil {
		return nil
	}
	keys, err := r.store.List(ctx, revocationsUnder+issuer, "", 1000)
	for _, k := range keys {
		if err == nil {
			err = r.store.Delete(ctx, k)
		}
	}
	if err != nil {
		return fmt.Errorf("revocations: %w", err)
	}
	return nil
}

// expire drops lists that protect nothing any more, of issuers who neither own anything nor are
// named by the configuration: those of certificates that are over, and those of strangers after
// some time.
func (r *Revocations) expire(ctx context.Context, now time.Time) error {
	var old []string
	r.mu.RLock()
	judge := r.judge
	for issuer, x := range r.byIssuer {
		if x.ends < now.Unix()-capcert.Skew || now.Sub(x.since) > strangerKept {
			old = append(old, issuer)
		}
	}
	r.mu.RUnlock()
	if judge == nil { // it is not known who matters
		return nil
	}
	for _, issuer := range old[:min(len(old), maxJudged)] {
		rank, err := r.rank(ctx, issuer)
		if err != nil {
			return err
		}
		r.mu.Lock()
		x := r.byIssuer[issuer]
		gone := x != nil && (x.ends < now.Unix()-capcert.Skew && rank <= Presented || rank == Stranger)
		if x != nil && !gone {
			x.rank, x.since = rank, now // and is looked at again after as long
		}
		r.mu.Unlock()
		if gone {
			if err := r.drop(ctx, issuer); err != nil {
				return err
			}
		}
	}
	return nil
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
