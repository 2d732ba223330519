package versions

import (
	"context"
	"errors"
	"slices"

	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/versions/plan"
	"github.com/skerry-sync/skerry/versions/record"
)

// What a device must notice of itself. Its counters are made durable before they are used, so none
// is used twice, unless its directory was copied, or is an old copy: then versions come from
// elsewhere that it has not written, although they are its own. It then publishes what it has under
// a new author, beside what the other one wrote: its slots are its own again, and no context that
// speaks of the old counters can mean its versions.
//
//   - Its own versions with counters from before it was opened may come back: the end of what it
//     wrote can be lost with the power, after others had it. Those counters are not used again.
//   - One from elsewhere with a later counter was written by a copy, or by what the device was when
//     it was newer.
//   - A context that covers what the device wrote, and cannot have been written by somebody who has
//     seen it, speaks of a copy's versions, or lies. A new incarnation does for this.

// Arrived takes note of entries that have come from other peers, and returns the keys of items that
// may have changed, also with an error. An entry whose content was not here is to be given again
// when that has come. Without entries, all that were displaced or are void are looked at.
func (s *Set) Arrived(ctx context.Context, all []replica.Item) (keys [][]byte, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.arrived(ctx, all, s.first)
}

// LookAgain is Arrived for entries of which it is not known whether this device has written them,
// or how many were missed. So of its own it notices those alone that have counters which it has not
// used until now.
func (s *Set) LookAgain(ctx context.Context, all []replica.Item) (keys [][]byte, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.arrived(ctx, all, s.next)
}

// arrived takes note of entries. This device has written none of them with the counter unused or a
// later one. The caller holds the lock.
func (s *Set) arrived(
	ctx context.Context, all []replica.Item, unused uint64,
) (keys [][]byte, err error) {
	copied := false
	var claimed [][]byte // keys
	// A writer may have any number of manifests name the same keys.
	told := map[string]bool{}
	tell := func(more ...[]byte) {
		for _, key := range more {
			if !told[string(key)] {
				told[string(key)] = true
				keys = append(keys, key)
			}
		}
	}
	for i := range all {
		it := &all[i]
		if string(it.Key) == acknowledgementKey {
			if err := s.acknowledged(ctx, &it.Entry); err != nil {
				return keys, s.failed(err)
			}
			continue
		}
		if len(it.Key) > 0 && it.Key[0] == 0 {
			if first, ok := parseManifestKey(it.Key, it.Entry.Author); ok {
				more, err := s.becameWhole(ctx, it.Entry.Author, first)
				if err != nil {
					return keys, s.failed(err)
				}
				tell(more...)
			}
			continue
		}
		tell(it.Key)
		v, err := s.load(ctx, &it.Entry)
		if errors.Is(err, plan.ErrMissing) || errors.Is(err, record.ErrMalformed) {
			continue
		}
		if err != nil {
			return keys, s.failed(err)
		}
		s.acks.saw(v.Dot, s.device())
		if s.dev.Author != (replica.AuthorID{}) {
			if v.Dot.Device == s.device() && v.Dot.Counter >= unused {
				copied = true
			}
			falsely, err := s.claimsFalsely(ctx, it.Key, v)
			if err != nil {
				return keys, s.failed(err)
			}
			if falsely {
				claimed = append(claimed, it.Key)
			}
		}
		if v.Batch != nil && v.Batch.Parts > 1 {
			more, err := s.becameWhole(ctx, v.Author, v.Batch.FirstOf(v.Dot))
			if err != nil {
				return keys, s.failed(err)
			}
			tell(more...)
		}
	}
	look := keys
	if len(all) == 0 {
		look = [][]byte{nil}
		if err := s.tidyVoid(ctx); err != nil {
			return keys, s.failed(err)
		}
		if err := s.bringBack(ctx); err != nil {
			return keys, s.failed(err)
		}
	}
	for _, key := range look {
		more, err := s.checkDisplaced(ctx, key)
		if err != nil {
			return keys, s.failed(err)
		}
		copied = copied || more
	}
	switch {
	case copied:
		if err = s.noteCopied(ctx); err == nil {
			err = s.become(ctx)
		}
	case len(claimed) > 0:
		err = s.becomeAgain(ctx, claimed)
	}
	return keys, s.failed(err)
}

// checkDisplaced looks at the versions of a key, or of all for nil, whose slots have been taken by
// others of the same author, and forgets those that were superseded. It reports whether one of the
// others is of this device's author.
func (s *Set) checkDisplaced(ctx context.Context, key []byte) (copied bool, err error) {
	var superseded []replica.Item
	for it, err := range s.cfg.Slots.Displaced(ctx, key) {
		if err != nil {
			return false, err
		}
		v, err := s.load(ctx, &it.Entry)
		if errors.Is(err, plan.ErrMissing) || errors.Is(err, record.ErrMalformed) {
			superseded = append(superseded, it) // nothing can be done for it
			continue
		}
		if err != nil {
			return false, err
		}
		over, err := s.isSuperseded(ctx, it.Key, v)
		switch {
		case err != nil:
			return false, err
		case over:
			superseded = append(superseded, it)
		case v.Author == s.dev.Author:
			copied = true
		}
	}
	if len(superseded) == 0 {
		return copied, nil
	}
	return copied, s.cfg.Slots.Forget(ctx, superseded...)
}

// isSuperseded reports whether a version that is in a slot supersedes v: it names v, with its
// content, or it does not name all that it supersedes, and v is among that. But counters of this
// device that others have used mean nothing: a version of its own must be named.
func (s *Set) isSuperseded(ctx context.Context, key []byte, v *plan.Version) (bool, error) {
	all, err := s.slots(ctx, key)
	if err != nil {
		return false, err
	}
	var slots []*plan.Version
	for i := range all {
		w, err := s.load(ctx, &all[i].Entry)
		if errors.Is(err, plan.ErrMissing) || errors.Is(err, record.ErrMalformed) {
			continue
		}
		if err != nil {
			return false, err
		}
		slots = append(slots, w)
	}
	return s.namedBy(slots, v), nil
}

// namedBy is isSuperseded, of the versions that are in slots.
func (s *Set) namedBy(slots []*plan.Version, v *plan.Version) bool {
	own := s.device()
	return slices.ContainsFunc(slots, func(w *plan.Version) bool {
		clear := v.Author != s.dev.Author || w.Dot.Device == own && w.Dot.Counter < s.first
		return w.Names(v) || isCopy(w, v) || isResealed(w, v) || clear && w.Cut && w.Context.Covers(v.Dot)
	})
}

// claimsFalsely reports whether a version says that it supersedes what this device has written of a
// key, and whoever wrote it cannot have seen that: it covers a later counter, or it does not name
// the version among its ancestors, although it names all.
func (s *Set) claimsFalsely(ctx context.Context, key []byte, v *plan.Version) (bool, error) {
	tag := record.TagOf(s.dev.Author)
	if v.Author == s.dev.Author || !slices.ContainsFunc(v.Context, func(d record.Dot) bool {
		return d.Device.Author == tag
	}) {
		return false, nil
	}
	u, err := s.ownOf(ctx, key)
	if u == nil || err != nil {
		return false, err
	}
	switch c := v.Context.Of(u.Dot.Device); {
	case c < u.Dot.Counter, c == u.Dot.Counter && v.Cut:
		return false, nil
	}
	over, err := s.isSuperseded(ctx, key, u)
	return !over, err
}

// ownOf returns the version in this device's slot of a key; nil if there is none.
func (s *Set) ownOf(ctx context.Context, key []byte) (*plan.Version, error) {
	e, err := s.cfg.Slots.Entry(ctx, key, s.dev.Author)
	if errors.Is(err, replica.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	v, err := s.load(ctx, &e)
	if errors.Is(err, plan.ErrMissing) || errors.Is(err, record.ErrMalformed) {
		return nil, nil
	}
	return v, err
}
