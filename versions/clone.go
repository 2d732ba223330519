package versions

import (
	"context"
	"errors"
	"slices"

	"lukechampine.com/blake3"

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
	var claimed [][]byte      // keys
	over := map[string]bool{} // by the key of this device's version that is claimed: it is superseded
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
		s.seen.earn(it.Entry.Author)
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
			falsely, err := s.claimsFalsely(ctx, it.Key, v, over)
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
		if key == nil && len(all) > 0 {
			key = []byte{}
		}
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
	if key != nil {
		superseded, copied, err = s.lookAtDisplaced(ctx, key)
	} else {
		looked := map[[32]byte]bool{} // hashes of keys: these can be long
		for it, err := range s.cfg.Slots.Displaced(ctx, nil) {
			if err != nil {
				return false, err
			}
			sum := blake3.Sum256(it.Key)
			if looked[sum] {
				continue
			}
			looked[sum] = true
			of, own, err := s.lookAtDisplaced(ctx, append([]byte{}, it.Key...)) // not nil
			if err != nil {
				return false, err
			}
			superseded, copied = append(superseded, of...), copied || own
		}
	}
	if len(superseded) == 0 || err != nil {
		return copied, err
	}
	return copied, s.cfg.Slots.Forget(ctx, superseded...)
}

// lookAtDisplaced returns the entries of a key whose slots have been taken, and whose versions were
// superseded, and reports whether one of the others is of this device's author.
func (s *Set) lookAtDisplaced(
	ctx context.Context, key []byte,
) (superseded []replica.Item, copied bool, err error) {
	var slots *over // once there is something to look at
	for it, err := range s.cfg.Slots.Displaced(ctx, key) {
		if err != nil {
			return nil, false, err
		}
		v, err := s.load(ctx, &it.Entry)
		if errors.Is(err, plan.ErrMissing) || errors.Is(err, record.ErrMalformed) {
			superseded = append(superseded, it) // nothing can be done for it
			continue
		}
		if err == nil && slots == nil {
			slots, err = s.inSlots(ctx, key)
		}
		if err != nil {
			return nil, false, err
		}
		switch {
		case s.isOver(slots, v):
			superseded = append(superseded, it)
		case v.Author == s.dev.Author:
			copied = true
		}
	}
	return superseded, copied, nil
}

// isSuperseded reports whether a version that is in a slot supersedes v; see over. But counters of
// this device that others have used mean nothing: a version of its own must be named.
func (s *Set) isSuperseded(ctx context.Context, key []byte, v *plan.Version) (bool, error) {
	slots, err := s.inSlots(ctx, key)
	return err == nil && s.isOver(slots, v), err
}

// inSlots returns the versions in the slots of a key.
func (s *Set) inSlots(ctx context.Context, key []byte) (*over, error) {
	all, err := s.slots(ctx, key)
	if err != nil {
		return nil, err
	}
	slots := &over{}
	for i := range all {
		w, err := s.load(ctx, &all[i].Entry)
		if errors.Is(err, plan.ErrMissing) || errors.Is(err, record.ErrMalformed) {
			continue
		}
		if err != nil {
			return nil, err
		}
		slots.add(w)
	}
	return slots, nil
}

// isOver is isSuperseded, of the versions that are in slots.
func (s *Set) isOver(slots *over, v *plan.Version) bool {
	own := s.device()
	return slots.covers(v, func(w *plan.Version) bool {
		return v.Author != s.dev.Author || w.Dot.Device == own && w.Dot.Counter < s.first
	})
}

// claimsFalsely reports whether a version says that it supersedes what this device has written of a
// key, and whoever wrote it cannot have seen that: it covers a later counter, or it does not name
// the version among its ancestors, although it names all. superseded has what was found out of a
// key for former versions: any number of them may claim this device's.
func (s *Set) claimsFalsely(
	ctx context.Context, key []byte, v *plan.Version, superseded map[string]bool,
) (bool, error) {
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
	over, ok := superseded[string(key)]
	if !ok {
		if over, err = s.isSuperseded(ctx, key, u); err == nil {
			superseded[string(key)] = over
		}
	}
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
