package versions

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/versions/plan"
	"github.com/skerry-sync/skerry/versions/record"
)

// What a device that was copied does (see clone.go): it takes a new author, and publishes what it
// has under that.

// become brings to an end what a device that was copied must do before it writes. The caller holds
// the lock.
func (s *Set) become(ctx context.Context) error {
	if s.dev.Copied {
		key, err := s.newKey(ctx)
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

// publishFormer publishes the versions of the device's former author as its own: of those of a key
// that were displaced, the first and what follows on it are the device's; others came from its
// copies, and wait as if they were another's. It may be done again: equal contents are one.
func (s *Set) publishFormer(ctx context.Context) error {
	former := s.dev.Former
	var displaced, all []replica.Item
	for it, err := range s.cfg.Slots.Displaced(ctx, nil) {
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
	displaced, forget, err := s.notSuperseded(ctx, displaced)
	if err != nil {
		return err
	}
	all = append(slices.Clone(displaced), all...)
	for i := range all {
		done, err := s.publish(ctx, &all[i])
		if err != nil {
			return fmt.Errorf("key %q: %w", all[i].Key, err)
		}
		if done && i < len(displaced) {
			forget = append(forget, all[i])
		}
	}
	if err := s.cfg.Slots.Forget(ctx, forget...); err != nil {
		return err
	}
	return s.forgetFormer(ctx)
}

// notSuperseded returns those of some displaced entries of one author that no later one of the same
// key supersedes, that which follows on the first of its key before the others; and the rest. What
// is no version is among the rest: nothing can be done for it.
func (s *Set) notSuperseded(
	ctx context.Context, displaced []replica.Item,
) (some, rest []replica.Item, err error) {
	later := map[string][]*plan.Version{}
	first := map[string]*plan.Version{}
	for i := len(displaced) - 1; i >= 0; i-- {
		it := displaced[i]
		v, err := s.load(ctx, &it.Entry)
		if errors.Is(err, plan.ErrMissing) || errors.Is(err, record.ErrMalformed) {
			rest = append(rest, it)
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		key := string(it.Key)
		over := slices.IndexFunc(later[key], func(w *plan.Version) bool { return w.Names(v) })
		if over >= 0 {
			first[key], rest = later[key][over], append(rest, it)
			continue
		}
		first[key], later[key], some = v, append(later[key], v), append(some, it)
	}
	slices.SortStableFunc(some, func(a, b replica.Item) int {
		isFirst := func(it *replica.Item) int {
			if first[string(it.Key)].Entry.ID() == it.Entry.ID() {
				return 0
			}
			return 1
		}
		return cmp.Compare(isFirst(&a), isFirst(&b))
	})
	return some, rest, nil
}

// publish publishes a version of a former device under the present one, unless it is known to have
// been superseded: a version beside all that did not know it. done says that nobody needs the entry
// for it any more; it is false if the device has another version in its slot.
func (s *Set) publish(ctx context.Context, it *replica.Item) (done bool, err error) {
	if len(it.Key) > 0 && it.Key[0] == 0 {
		return true, nil // of a batch, whose parts are published one by one
	}
	v, err := s.load(ctx, &it.Entry)
	if errors.Is(err, plan.ErrMissing) || errors.Is(err, record.ErrMalformed) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	over, err := s.isSuperseded(ctx, it.Key, v) // also by what has been published of it
	if over || err != nil {
		return true, err
	}
	_, err = s.cfg.Slots.Entry(ctx, it.Key, s.dev.Author)
	if !errors.Is(err, replica.ErrNotFound) {
		return false, err
	}
	return true, s.republish(ctx, it.Key, v, mayReplace(nil))
}

// isCopy reports whether w is v, published again.
func isCopy(w, v *plan.Version) bool {
	return w.Dot.Device != v.Dot.Device && w.Kind == v.Kind && w.Content == v.Content &&
		w.Height == v.Height && slices.Equal(w.Context, v.Context)
}

// publishDisplaced publishes the heads of an item that are in no slot any more, since another of
// the same author took it, so that all devices have them.
func (s *Set) publishDisplaced(ctx context.Context, item *Item) error {
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

// rescueKey returns the key of an author of this device whose slot of an item is free. It makes one
// only if the last that was made has a version of the item already: whoever may write can have any
// number of versions displaced.
func (s *Set) rescueKey(ctx context.Context, item []byte) (key replica.SecretKey, err error) {
	if s.dev.Rescue != (replica.AuthorID{}) {
		_, err := s.cfg.Slots.Entry(ctx, item, s.dev.Rescue)
		if errors.Is(err, replica.ErrNotFound) {
			return s.cfg.Key(ctx, s.dev.Rescue)
		}
		if err != nil {
			return key, err
		}
	}
	if key, err = s.newKey(ctx); err != nil {
		return key, err
	}
	dev := s.dev
	dev.Rescue = key.Author()
	if err := s.cfg.State.Save(ctx, dev); err != nil {
		return key, err
	}
	s.dev = dev
	return key, nil
}

// publishFor publishes a version of another device: as this one, or, if its slot is taken, as
// another author of this device.
func (s *Set) publishFor(ctx context.Context, item *Item, v *plan.Version) error {
	taken := false
	for _, h := range item.Heads {
		taken = taken || h.Author == s.dev.Author
	}
	if !taken {
		return s.republish(ctx, item.Key, v, item.check)
	}
	key, err := s.rescueKey(ctx, item.Key)
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
	return s.put(ctx, as, []Value{{key, joined(b, rest), check}})
}

// becomeAgain gives the device a new incarnation, and publishes its versions of some keys with it.
func (s *Set) becomeAgain(ctx context.Context, keys [][]byte) error {
	if err := s.maySign(); err != nil {
		return err
	}
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
