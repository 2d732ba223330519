package versions

import (
	"context"
	"errors"
	"iter"
	"slices"

	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/versions/plan"
	"github.com/skerry-sync/skerry/versions/record"
)

// Other is an entry that gives no version: what a replica holds beside versions, or in a replica
// whose users know no versions.
type Other struct {
	replica.Entry
	// Missing says that its content is not here: it may be a version.
	Missing bool
}

// Others returns the entries of a key that give no version, the newest first, tombstones among
// them.
func (s *Set) Others(ctx context.Context, key []byte) (all []Other, err error) {
	if key == nil {
		key = []byte{}
	}
	for it, err := range s.cfg.Slots.Entries(ctx, replica.Query{Key: key, Tombstones: true}) {
		if err != nil {
			return nil, s.failed(err)
		}
		o := Other{Entry: it.Entry}
		if !it.Entry.IsTombstone() {
			switch _, err := s.load(ctx, &it.Entry); {
			case err == nil:
				continue
			case errors.Is(err, plan.ErrMissing):
				o.Missing = true
			case !errors.Is(err, record.ErrMalformed):
				return nil, s.failed(err)
			}
		}
		all = append(all, o)
	}
	slices.SortFunc(all, func(a, b Other) int { return replica.CompareVersions(&b.Entry, &a.Entry) })
	return all, nil
}

// Contested yields the items, in the order of their keys, that may have several heads: those whose
// key several authors have written, or of which a version was displaced. Others are not looked at.
// Contents of ancestors that are not here are not waited for.
func (s *Set) Contested(ctx context.Context) iter.Seq2[*Item, error] {
	return func(yield func(*Item, error) bool) {
		displaced := map[string]bool{}
		for it, err := range s.cfg.Slots.Displaced(ctx, nil) {
			if err != nil {
				yield(nil, s.failed(err))
				return
			}
			displaced[string(it.Key)] = true
		}
		var slots []replica.Item // of one key
		flush := func() (goOn bool) {
			if len(slots) == 0 || len(slots) == 1 && !displaced[string(slots[0].Key)] {
				return true
			}
			item, err := s.oneItem(ctx, slotsOf{slots[0].Key, slots, Looked{}})
			if err == nil && item.Missing {
				item, err = s.oneItem(ctx, slotsOf{slots[0].Key, slots, Looked{Waited: true}})
			}
			return yield(item, s.failed(err)) && err == nil
		}
		for it, err := range s.cfg.Slots.Entries(ctx, replica.Query{}) {
			if err != nil {
				yield(nil, s.failed(err))
				return
			}
			if len(it.Key) > 0 && it.Key[0] == 0 {
				continue
			}
			if len(slots) > 0 && string(slots[0].Key) != string(it.Key) {
				if !flush() {
					return
				}
				slots = nil // the item has them
			}
			it.Key = slices.Clone(it.Key)
			slots = append(slots, it)
		}
		flush()
	}
}

// OpenOther opens the content of an entry that gives no version.
func (s *Set) OpenOther(ctx context.Context, e *replica.Entry) (Content, error) {
	c, err := s.cfg.Slots.Open(ctx, e)
	return c, s.failed(err)
}

// ReadDevices reads what all devices say of themselves, for whoever only looks: the other devices,
// as Devices returns them, and the name that this one has told, empty if it has told none.
func (s *Set) ReadDevices(ctx context.Context) (others []DeviceInfo, name string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := replica.Query{Key: []byte(acknowledgementKey)}
	for it, err := range s.cfg.Slots.Entries(ctx, q) {
		if err == nil {
			err = s.acknowledged(ctx, &it.Entry)
		}
		if err != nil {
			return nil, "", s.failed(err)
		}
	}
	s.acks.mu.Lock()
	if s.acks.said != nil {
		name = s.acks.said.Name
	}
	s.acks.mu.Unlock()
	return s.acks.devices(), name, nil
}
