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
//   - One from elsewhere with a later counter was written by a copy, or by what the device was when
//     it was newer.
//   - A context that covers what the device wrote, and cannot have been written by somebody who has
//     seen it, speaks of a copy's versions, or lies. A new incarnation does for this.

// Arrived takes note of entries that have come from other peers, and returns the keys of items that
// may have changed, also with an error. An entry whose content was not here is to be given again
// when that has come. Without entries, all that were displaced are looked at.
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
	for i := range all {
		it := &all[i]
		if len(it.Key) > 0 && it.Key[0] == 0 {
			more, err := s.arrivedBatch(ctx, it)
			if err != nil {
				return keys, s.failed(err)
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
		if s.dev.Author != (replica.AuthorID{}) {
			if v.Dot.Device == s.device() && v.Dot.Counter >= unused {
				copied = true
			}
			falsely, err := s.claimsFalsely(ctx, it.Key, v)
			if err != nil {
				return nil, s.failed(err)
			}
			if falsely {
				claimed = append(claimed, it.Key)
			}
		}
		if v.Batch != nil {
			more, err := s.partsOf(ctx, v)
			if err != nil {
				return nil, s.failed(err)
			}
			keys = append(keys, more...)
		}
	}
	look := keys
	if len(all) == 0 {
		look = [][]byte{nil}
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
// others was written by this device, since it was opened.
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
		return w.Names(v) || isCopy(w, v) || clear && w.Cut && w.Context.Covers(v.Dot)
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
			Author: key.Author(), Incarnation: s.cfg.incarnate(),
			Former: s.dev.Author,
		}
		if err := s.cfg.State.Save(ctx, dev); err != nil {
			return err
		}
		s.key = key
		s.take(dev)
	}
	if s.dev.Former != (replica.AuthorID{}) {
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
		if it.Entry.Author == former {
			displaced = append(displaced, it)
		}
	}
	q := replica.Query{Author: &former}
	for it, err := range s.cfg.Slots.Entries(ctx, q) {
		if err != nil {
			return err
		}
		all = append(all, it)
	}
	all = append(slices.Clone(displaced), all...)
	for i := range all {
		if err := s.publish(ctx, &all[i]); err != nil {
			return fmt.Errorf("key %q: %w", all[i].Key, err)
		}
	}
	if err := s.cfg.Slots.Forget(ctx, displaced...); err != nil {
		return err
	}
	dev := s.dev
	dev.Former = replica.AuthorID{}
	if err := s.cfg.State.Save(ctx, dev); err != nil {
		return err
	}
	s.dev = dev
	return nil
}

// publish publishes a version of a former device under the present one, unless it is known to have
// been superseded: a version beside all that did not know it.
func (s *Set) publish(ctx context.Context, it *replica.Item) error {
	if len(it.Key) > 0 && it.Key[0] == 0 {
		return nil // of a batch, whose parts are published one by one
	}
	v, err := s.load(ctx, &it.Entry)
	if errors.Is(err, plan.ErrMissing) || errors.Is(err, record.ErrMalformed) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = s.cfg.Slots.Entry(ctx, it.Key, s.dev.Author)
	if !errors.Is(err, replica.ErrNotFound) {
		return err // it has been done, or there is one that was displaced
	}
	over, err := s.isSuperseded(ctx, it.Key, v)
	if over || err != nil {
		return err
	}
	return s.republish(ctx, it.Key, v, mayReplace(nil))
}

// isCopy reports whether w is v, published again.
func isCopy(w, v *plan.Version) bool {
	return w.Dot.Device != v.Dot.Device && w.Kind == v.Kind && w.Content == v.Content &&
		w.Height == v.Height && slices.Equal(w.Context, v.Context)
}

// adopt publishes the heads of an item that are in no slot any more, since another of the same
// author took it, so that all devices have them.
func (s *Set) adopt(ctx context.Context, item *Item) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.become(ctx); err != nil {
		return err
	}
	for it, err := range s.cfg.Slots.Displaced(ctx, item.Key) {
		if err != nil {
			return err
		}
		at := slices.IndexFunc(item.Heads, func(v *plan.Version) bool {
			return v.Author == it.Entry.Author && v.Entry.Hash == it.Entry.Hash
		})
		if at < 0 {
			continue
		}
		v := item.Heads[at]
		over, err := s.isSuperseded(ctx, item.Key, v)
		if err == nil && !over {
			err = s.publishFor(ctx, item, v)
		}
		if err == nil {
			err = s.cfg.Slots.Forget(ctx, it)
		}
		if err != nil {
			return fmt.Errorf("key %q: %w", item.Key, err)
		}
	}
	return nil
}

// publishFor publishes a version of another device: as this one, or, if its slot is taken, as an
// author that is made for that.
func (s *Set) publishFor(ctx context.Context, item *Item, v *plan.Version) error {
	taken := false
	for _, h := range item.Heads {
		taken = taken || h.Author == s.dev.Author
	}
	if !taken {
		return s.republish(ctx, item.Key, v, item.check)
	}
	key, err := s.cfg.NewKey(ctx)
	if err != nil {
		return err
	}
	by := record.Device{Author: record.TagOf(key.Author()), Incarnation: s.cfg.incarnate()}
	return s.publishAs(
		ctx, key, record.Dot{Device: by, Counter: 1}, item.Key, v, mayReplace(nil),
	)
}

// mayReplace returns what lets a version take the place of an entry, nil for none, and of no other.
func mayReplace(known *replica.Entry) func(old *replica.Entry) error {
	return func(old *replica.Entry) error {
		if old == nil || old.IsTombstone() || known != nil && old.Hash == known.Hash {
			return nil
		}
		return ErrStale // another has come
	}
}

// republish writes a version again, as this device; check says what it may replace.
func (s *Set) republish(
	ctx context.Context, key []byte, v *plan.Version, check func(old *replica.Entry) error,
) error {
	counter, err := s.reserve(ctx, 1)
	if err != nil {
		return err
	}
	return s.publishAs(ctx, s.key, record.Dot{Device: s.device(), Counter: counter}, key, v, check)
}

func (s *Set) publishAs(
	ctx context.Context, as replica.SecretKey, d record.Dot, key []byte, v *plan.Version,
	check func(old *replica.Entry) error,
) error {
	r := *v.Record
	r.Dot, r.Batch = d, nil
	b, err := r.Append(nil)
	if err != nil {
		return err
	}
	rest, err := s.following(ctx, v)
	if err != nil {
		return err
	}
	_, err = s.cfg.Slots.Put(ctx, as, []Value{{key, joined(b, rest), check}})
	return err
}

// becomeAgain gives the device a new incarnation, and publishes its versions of some keys with it.
func (s *Set) becomeAgain(ctx context.Context, keys [][]byte) error {
	dev := s.dev
	dev.Incarnation, dev.Reserved = s.cfg.incarnate(), 0
	if err := s.cfg.State.Save(ctx, dev); err != nil {
		return err
	}
	s.take(dev)
	for _, key := range keys {
		v, err := s.ownOf(ctx, key)
		if err == nil && v != nil && v.Dot.Device != s.device() {
			err = s.republish(ctx, key, v, mayReplace(v.Entry))
		}
		if err != nil {
			return fmt.Errorf("key %q: %w", key, err)
		}
	}
	return nil
}
