package versions

import (
	"context"
	"errors"
	"io"

	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/versions/plan"
	"github.com/skerry-sync/skerry/versions/record"
)

// A version in an encrypted replica is sealed with the read key of one epoch. Whoever was revoked
// has the keys until then. So what this device wrote before it knew of the new epoch, and nobody
// else has, is sealed anew: the same version, with the same dot, in another slot.

// isResealed reports whether two versions are one, sealed twice.
func isResealed(w, v *plan.Version) bool {
	return w != v && w.Author == v.Author && w.Dot == v.Dot && w.Kind == v.Kind &&
		w.Content == v.Content && w.Entry.Hash != v.Entry.Hash
}

// Reseal writes those of this device's versions again that are pending (see Pending) and sealed
// with an old key, as old says, and returns how many entries it wrote, manifests of batches
// included. They stay the versions that they were.
func (s *Set) Reseal(ctx context.Context, old func(e *replica.Entry) bool) (n int, err error) {
	var all []replica.Item
	for it, err := range s.Written(ctx, s.HeldUntil()+1) {
		if err != nil {
			return 0, err
		}
		if old(&it.Entry) && !s.held.has(it.Entry.ID()) {
			all = append(all, it)
		}
	}
	for i := range all {
		err := s.reseal(ctx, &all[i])
		if errors.Is(err, ErrStale) || errors.Is(err, plan.ErrMissing) ||
			errors.Is(err, record.ErrMalformed) {
			continue // it has been written since, or there is nothing to write
		}
		if err != nil {
			return n, s.failed(err)
		}
		n++
	}
	return n, nil
}

func (s *Set) reseal(ctx context.Context, it *replica.Item) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if it.Entry.Author != s.dev.Author || s.dev.Copied {
		return ErrStale // what there is is published by another author
	}
	now, err := s.cfg.Slots.Entry(ctx, it.Key, s.dev.Author)
	if err != nil || now.ID() != it.Entry.ID() {
		return errors.Join(err, ErrStale)
	}
	c, err := s.cfg.Slots.Open(ctx, &it.Entry)
	if err != nil {
		return err
	}
	return s.put(ctx, s.key, []Value{{
		it.Key, io.NewSectionReader(c, 0, c.Size()), mayReplace(&it.Entry),
	}})
}
