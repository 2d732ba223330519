package localfirst

import (
	"context"
	"errors"
	"maps"
	"slices"
)

// What is known of items is written some items at a time. All of it says what is true already, so
// what a crash takes is found out again: see outgoing. Only an intent must be there before what it
// speaks of.

// maxUnsaved is how many states wait to be written together.
const maxUnsaved = 512

// state returns what is known of an item; known is false if nothing is.
func (c *collection) state(ctx context.Context, key string) (s itemState, known bool, err error) {
	name := c.itemName(key)
	c.ns.mu.Lock()
	s, known = c.ns.unsaved[name]
	c.ns.mu.Unlock()
	if known {
		return s, true, nil
	}
	b, err := c.ns.e.cfg.Store.Get(ctx, name)
	if errors.Is(err, ErrNotFound) {
		return s, false, nil
	}
	if err != nil {
		return s, false, err
	}
	s, err = parseState(b)
	if err != nil {
		return itemState{}, false, nil // it is made anew from what is here
	}
	return s, true, nil
}

// save notes what is known of items, to be written by flush, or before that if there is much.
func (c *collection) save(ctx context.Context, states map[string]*itemState) error {
	ns := c.ns
	ns.mu.Lock()
	if ns.unsaved == nil {
		ns.unsaved = map[Name]itemState{}
	}
	for key, s := range states {
		ns.unsaved[c.itemName(key)] = *s
	}
	full := len(ns.unsaved) >= maxUnsaved
	ns.mu.Unlock()
	if full {
		return ns.flush(ctx)
	}
	return nil
}

// flush writes what save has noted, in as many batches as the engine's store takes. What could not
// be written is kept.
func (ns *Namespace) flush(ctx context.Context) error {
	ns.mu.Lock()
	unsaved := ns.unsaved
	ns.unsaved = nil
	ns.mu.Unlock()
	if len(unsaved) == 0 {
		return nil
	}
	err := ns.writeStates(ctx, unsaved)
	if err == nil {
		return nil
	}
	ns.mu.Lock()
	defer ns.mu.Unlock()
	maps.Copy(unsaved, ns.unsaved) // which is newer
	ns.unsaved = unsaved
	return err
}

func (ns *Namespace) writeStates(ctx context.Context, states map[Name]itemState) error {
	var all []Record
	size := 0
	for _, name := range slices.SortedFunc(maps.Keys(states), Name.Compare) {
		s := states[name]
		b, err := s.marshal()
		if err != nil {
			return err
		}
		r := Record{name, b}
		if size += r.Size(); size > MaxBatch {
			if err := ns.e.cfg.Store.Apply(ctx, all); err != nil {
				return err
			}
			all, size = nil, r.Size()
		}
		all = append(all, r)
	}
	return ns.e.cfg.Store.Apply(ctx, all)
}
