package versions

import (
	"context"
	"errors"
	"fmt"
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
//   - One from elsewhere with a later counter was written by a copy, or by what the device was when it
//     was newer.
//   - A context that covers a counter that the device has not reserved was written by somebody who
//     has seen such a version, or who lies. A new incarnation does for this.

// Arrived takes note of entries that have come from other peers, and returns the keys of items that
// may have changed.
func (s *Set) Arrived(ctx context.Context, all []replica.Item) (keys [][]byte, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	copied := false
	var claimed [][]byte // keys
	for i := range all {
		it := &all[i]
		if len(it.Key) > 0 && it.Key[0] == 0 {
			more, err := s.arrivedBatch(ctx, it)
			if err != nil {
				return nil, s.failed(err)
			}
			keys = append(keys, more...)
			continue
		}
		keys = append(keys, it.Key)
		v, err := s.load(ctx, &it.Entry)
		if errors.Is(err, plan.ErrMissing) || errors.Is(err, record.ErrMalformed) {
			continue
		}
		if err != nil {
			return nil, s.failed(err)
		}
		own := s.device()
		switch {
		case s.dev.Author == (replica.AuthorID{}):
		case v.Dot.Device == own && v.Dot.Counter >= s.first:
			copied = true
		case v.Context.Of(own) > s.dev.Reserved:
			claimed = append(claimed, it.Key)
		}
		if v.Batch != nil {
			more, err := s.partsOf(ctx, v)
			if err != nil {
				return nil, s.failed(err)
			}
			keys = append(keys, more...)
		}
	}
	more, err := s.checkDisplaced(ctx)
	if err != nil {
		return nil, s.failed(err)
	}
	copied = copied || more
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

// checkDisplaced looks at the versions whose slots have been taken by others of the same author, and
// forgets those that were superseded. It reports whether one of the others was written by this
// device, since it was opened.
func (s *Set) checkDisplaced(ctx context.Context) (copied bool, err error) {
	var superseded []replica.Item
	for it, err := range s.cfg.Slots.Displaced(ctx, nil) {
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
		case v.Dot.Device == s.device() && v.Dot.Counter >= s.first:
			copied = true
		}
	}
	if len(superseded) == 0 {
		return copied, nil
	}
	return copied, s.cfg.Slots.Forget(ctx, superseded...)
}

// isSuperseded reports whether a version that is in a slot names v, with its content, as what it
// supersedes, or supersedes it and does not name all that it does.
func (s *Set) isSuperseded(ctx context.Context, key []byte, v *plan.Version) (bool, error) {
	all, err := s.slots(ctx, key)
	if err != nil {
		return false, err
	}
	for i := range all {
		w, err := s.load(ctx, &all[i].Entry)
		if errors.Is(err, plan.ErrMissing) || errors.Is(err, record.ErrMalformed) {
			continue
		}
		if err != nil {
			return false, err
		}
		if isFormer(w, v) || w.Cut && w.Context.Covers(v.Dot) {
			return true, nil
		}
	}
	return false, nil
}

// arrivedBatch returns the keys of a batch whose manifest has come.
func (s *Set) arrivedBatch(ctx context.Context, it *replica.Item) ([][]byte, error) {
	keys, err := s.manifest(ctx, &it.Entry)
	if errors.Is(err, plan.ErrMissing) || errors.Is(err, record.ErrMalformed) {
		return nil, nil
	}
	return keys, err
}

// partsOf returns the keys of the batch of a version: it may have been the last that was missing.
func (s *Set) partsOf(ctx context.Context, v *plan.Version) ([][]byte, error) {
	first := record.Dot{Device: v.Dot.Device, Counter: v.Batch.First}
	q := replica.Query{Key: manifestKey(first), Author: &v.Author}
	for it, err := range s.cfg.Slots.Entries(ctx, q) {
		if err != nil {
			return nil, err
		}
		return s.arrivedBatch(ctx, &it)
	}
	return nil, nil
}

// become brings to an end what a device that was copied must do before it writes. The caller holds
// the lock.
func (s *Set) become(ctx context.Context) error {
	if s.dev.Copied {
		key, err := s.cfg.NewKey(ctx)
		if err != nil {
			return fmt.Errorf("this device was copied, or is an old copy, and needs a new author: %w", err)
		}
		dev := Device{
			Author: key.Author(), Incarnation: newIncarnation(),
			Former: Former{s.dev.Author, s.dev.Incarnation},
		}
		if err := s.cfg.State.Save(ctx, dev); err != nil {
			return err
		}
		s.key = key
		s.take(dev)
	}
	if s.dev.Former != (Former{}) {
		return s.publishFormer(ctx)
	}
	return nil
}

// noteCopied makes it durable that the device was copied.
func (s *Set) noteCopied(ctx context.Context) error {
	dev := s.dev
	dev.Copied = true
	if err := s.cfg.State.Save(ctx, dev); err != nil {
		return err
	}
	s.dev = dev
	return nil
}

// publishFormer publishes the versions of the device's former author as its own. It may be done
// again: equal contents are one.
func (s *Set) publishFormer(ctx context.Context) error {
	former := s.dev.Former
	var displaced, all []replica.Item
	for it, err := range s.cfg.Slots.Displaced(ctx, nil) { // the first of a key is the device's
		if err != nil {
			return err
		}
		if it.Entry.Author == former.Author {
			displaced = append(displaced, it)
		}
	}
	q := replica.Query{Author: &former.Author}
	for it, err := range s.cfg.Slots.Entries(ctx, q) {
		if err != nil {
			return err
		}
		all = append(all, it)
	}
	all = append(slices.Clone(displaced), all...)
	for i := range all {
		if err := s.publish(ctx, &all[i], former); err != nil {
			return fmt.Errorf("key %q: %w", all[i].Key, err)
		}
	}
	if err := s.cfg.Slots.Forget(ctx, displaced...); err != nil {
		return err
	}
	dev := s.dev
	dev.Former = Former{}
	if err := s.cfg.State.Save(ctx, dev); err != nil {
		return err
	}
	s.dev = dev
	return nil
}

// publish publishes a version of a former device under the present one, unless it is known to have
// been superseded: a version beside all that did not know it.
func (s *Set) publish(ctx context.Context, it *replica.Item, former Former) error {
	if len(it.Key) > 0 && it.Key[0] == 0 {
		return nil // of a batch, whose parts are published one by one
	}
	v, err := s.load(ctx, &it.Entry)
	if errors.Is(err, plan.ErrMissing) || errors.Is(err, record.ErrMalformed) {
		return nil
	}
	if err != nil || v.Dot.Device.Incarnation != former.Incarnation {
		return err
	}
	q := replica.Query{Key: it.Key, Author: &s.dev.Author}
	for range s.cfg.Slots.Entries(ctx, q) {
		return nil // it has been done, or there is one that was displaced
	}
	over, err := s.isSuperseded(ctx, it.Key, v)
	if over || err != nil {
		return err
	}
	return s.republish(ctx, it.Key, v)
}

// isFormer reports whether w names v, with its content, as what it supersedes.
func isFormer(w, v *plan.Version) bool {
	return slices.ContainsFunc(w.Ancestors, func(a record.Ancestor) bool {
		return a.Dot == v.Dot && a.Hash == v.AsAncestor(0).Hash
	})
}

// republish writes a version again, as this device.
func (s *Set) republish(ctx context.Context, key []byte, v *plan.Version) error {
	counter, err := s.reserve(ctx, 1)
	if err != nil {
		return err
	}
	r := *v.Record
	r.Dot, r.Batch = record.Dot{Device: s.device(), Counter: counter}, nil
	b, err := r.Append(nil)
	if err != nil {
		return err
	}
	rest, err := s.following(ctx, v)
	if err != nil {
		return err
	}
	_, err = s.cfg.Slots.Write(ctx, s.key, []Value{{key, joined(b, rest)}})
	return err
}

// becomeAgain gives the device a new incarnation, and publishes its versions of some keys with it.
func (s *Set) becomeAgain(ctx context.Context, keys [][]byte) error {
	before := s.device()
	dev := s.dev
	dev.Incarnation, dev.Reserved = newIncarnation(), 0
	if err := s.cfg.State.Save(ctx, dev); err != nil {
		return err
	}
	s.take(dev)
	for _, key := range keys {
		q := replica.Query{Key: key, Author: &s.dev.Author}
		for it, err := range s.cfg.Slots.Entries(ctx, q) {
			if err != nil {
				return err
			}
			v, err := s.load(ctx, &it.Entry)
			if errors.Is(err, plan.ErrMissing) || errors.Is(err, record.ErrMalformed) {
				continue
			}
			if err == nil && v.Dot.Device == before {
				err = s.republish(ctx, key, v)
			}
			if err != nil {
				return fmt.Errorf("key %q: %w", key, err)
			}
		}
	}
	return nil
}
