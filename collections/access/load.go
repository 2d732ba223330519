package access

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/skerry-sync/skerry/collections/capcert"
	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/value"
)

// Load takes over what others have put into the store meanwhile, drops what protects nothing any
// more, and notes what has become known of issuers. What cannot be read is left out, and tried
// again the next time; what is no list of its issuer is told by an error that is
// capcert.ErrRevocations.
func (r *Revocations) Load(ctx context.Context) error {
	unfit, missed := r.read(ctx)
	return errors.Join(
		unfit, missed, r.lookAtNamed(ctx), r.settleMarked(ctx), r.expire(ctx, r.now()),
	)
}

// read takes over what is in the store. unfit is of lists that will never count, of those whose
// content has not come from another server, and of notes; missed is of lists that may count and
// could not be read. One says nothing of the others.
func (r *Revocations) read(ctx context.Context) (unfit, missed error) {
	r.forgetLeft()
	rooms := maxRooms
	for after := ""; ; {
		keys, err := r.store.List(ctx, revocationsUnder, after, 1000)
		if err != nil {
			return unfit, errors.Join(missed, fmt.Errorf("revocations: %w", err))
		}
		for _, k := range keys {
			after = k
			if r.has(k) {
				continue
			}
			u, m := r.readOne(ctx, k, &rooms)
			if ctx.Err() != nil {
				return unfit, fmt.Errorf("revocations: %w", ctx.Err())
			}
			unfit, missed = told(unfit, u), told(missed, m)
		}
		if len(keys) < 1000 {
			return unfit, missed
		}
	}
}

// told returns the first error of many alike: a store that fails, fails for thousands.
func told(first, err error) error {
	if first != nil {
		return first
	}
	return err
}

// readOne takes over the list under a key.
func (r *Revocations) readOne(ctx context.Context, key string, rooms *int) (unfit, missed error) {
	o, err := r.store.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		err = fmt.Errorf("revocations: %s: %w", key, err)
		if errors.Is(err, store.ErrNotCome) { // as if the list itself had not come; it may be none
			return err, nil
		}
		return nil, err
	}
	l, err := parse(key, o.Body)
	if err != nil {
		return fmt.Errorf("revocations: %s: %w", key, err), nil
	}
	n, unfit := r.noted(ctx, l.Issuer) // without it the list counts all the same
	return unfit, r.takeStored(ctx, l, n, rooms)
}

// parse reads the list that lies under a key.
func parse(key string, b []byte) (*capcert.Revocations, error) {
	v, err := value.Parse(b, value.MaxDepth)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", capcert.ErrRevocations, err)
	}
	l, err := capcert.ParseRevocations(v)
	if err == nil && key != revocationsKey(l) {
		err = fmt.Errorf("%w: it is in the place of another", capcert.ErrRevocations)
	}
	return l, err
}

// has reports whether the list at a key need not be read: it or a later one of its issuer counts
// already, or there was no room for it lately.
func (r *Revocations) has(key string) bool {
	issuer, g, ok := parseKey(key)
	if !ok {
		return false
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	if left, is := r.left[issuer]; is && left >= g {
		return true
	}
	now := r.byIssuer[issuer]
	return now != nil && now.generation >= g
}

const (
	// maxRooms is how many lists of the store one Load may evict others for.
	maxRooms = 100
	// maxLeft is of how many lists it is remembered that there was no room for them, and leftFor how
	// long: their issuers may come to own something.
	maxLeft = 1 << 16
	leftFor = time.Hour
)

// leave remembers that there is no room for a list in the store.
func (r *Revocations) leave(issuer string, generation int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.leaveLocked(issuer, generation)
}

func (r *Revocations) leaveLocked(issuer string, generation int64) {
	if r.leftOut = true; len(r.left) < maxLeft {
		r.left[issuer] = max(generation, r.left[issuer])
	}
}

// forgetLeft has lists tried again that there was no room for some time ago.
func (r *Revocations) forgetLeft() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := r.now(); now.Sub(r.leftSince) >= leftFor {
		clear(r.left)
		r.leftSince = now
	}
}

// takeStored makes a list of the store count, if there is room for it or others make some, or its
// issuer is named. n is the note about it, nil if there is none. rooms is for how many lists others
// may still be evicted.
func (r *Revocations) takeStored(
	ctx context.Context, l *capcert.Revocations, n *note, rooms *int,
) error {
	x := &revoked{brought: r.notes != nil && r.notes == r.store}
	if n != nil {
		x.rank, x.source, x.since, x.presented = n.rank, n.from, n.since, n.presented
		x.brought, x.looked = x.brought || n.accepted, n.since
	}
	r.mu.RLock()
	now := r.byIssuer[l.Issuer]
	r.mu.RUnlock()
	grows := held{1, sizeOf(l)}
	if now != nil {
		grows = held{0, max(0, grows.bytes-now.size)}
	}
	if r.fits(grows.issuers, grows.bytes) {
		r.take(l, x)
		return nil
	}
	s, err := r.standing(ctx, l.Issuer)
	if err != nil {
		return err
	}
	s = n.raise(s, r.now())
	s.Since = earlier(s.Since, r.now())
	x.rank, x.since = s.Rank, s.Since
	var leave []leaving
	switch {
	case s.Rank == Named:
	case s.Rank == Stranger:
		r.leave(l.Issuer, l.Generation)
		return nil
	case *rooms == 0: // the next time
		return nil
	default:
		*rooms--
		n := &newcomer{issuer: l.Issuer, Standing: s, source: x.source, grows: grows}
		leave, err = r.makeRoom(ctx, n)
	}
	if errors.Is(err, ErrTooManyIssuers) {
		r.leave(l.Issuer, l.Generation)
		return nil
	}
	if err != nil {
		return err
	}
	r.take(l, x)
	for _, gone := range leave {
		r.forget(gone)
	}
	return nil
}
