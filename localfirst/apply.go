package localfirst

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/versions"
	"github.com/skerry-sync/skerry/versions/plan"
)

// scopes are the keys that collections want, by their names.
type scopes map[string]map[string]bool

// incoming is an item that others have written.
type incoming struct {
	at   []byte // its key in the replica
	c    *collection
	key  string
	item *versions.Item
	// stale says that the item has changed since it was read.
	stale bool
}

// simple reports whether an item has one version, of which all is here: there is nothing to settle.
func simple(i *versions.Item) bool {
	return len(i.Heads) == 1 && i.Pending == 0 && !i.Missing && !i.Write && i.Conflict == nil
}

// applyAll applies all that there is: what came while nobody looked, or a scope that has changed.
func (ns *Namespace) applyAll(ctx context.Context, in scopes) error {
	ix := &index{ns: ns, in: in}
	for item, err := range ns.set.All(ctx, nil, nil) {
		if err == nil {
			err = ns.apply(ctx, item, ix)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// readAtOnce is how many items are read together.
const readAtOnce = 1 << 10

// applySome applies the items of some keys of the replica.
func (ns *Namespace) applySome(ctx context.Context, keys []string, in scopes) error {
	ix := &index{ns: ns, in: in}
	for some := range slices.Chunk(keys, readAtOnce) {
		var at [][]byte
		for _, key := range some {
			if len(key) == 0 || key[0] != 0 {
				at = append(at, []byte(key))
			}
		}
		items, err := ns.set.ReadAll(ctx, at, nil)
		if err != nil {
			return err
		}
		for _, item := range items {
			if err := ns.apply(ctx, item, ix); err != nil {
				return err
			}
		}
	}
	return nil
}

// index finds out what item a key of the replica is of. Most say it themselves; of those that were
// deleted, all keys of the scopes are compared.
type index struct {
	ns  *Namespace
	in  scopes
	all map[string][2]string
}

func (x *index) find(ctx context.Context, item *versions.Item) (name, key string, err error) {
	if x.all != nil {
		at := x.all[string(item.Key)]
		return at[0], at[1], nil
	}
	if name, key, err = x.ns.nameIn(ctx, item); err != nil || name != "" {
		return name, key, err
	}
	x.all = map[string][2]string{}
	for name, keys := range x.in {
		for key := range keys {
			x.all[string(x.ns.namer.of(name, key))] = [2]string{name, key}
		}
	}
	at := x.all[string(item.Key)]
	return at[0], at[1], nil
}

// apply applies what others have written of one item to the app's store. An error is not of the
// item alone.
func (ns *Namespace) apply(ctx context.Context, item *versions.Item, ix *index) error {
	at := item.Key
	if len(item.Heads) == 0 && item.Pending == 0 {
		return nil // it was void
	}
	name, key, err := ix.find(ctx, item)
	if err != nil {
		return err
	}
	if name == "" && item.Pending > 0 {
		return nil // it comes back when its content has come
	}
	c := ns.collection(name)
	scope, looked := ix.in[name]
	if c != nil && !looked {
		return nil // it was not looked at in this pass: all its items are, when it is again
	}
	if c == nil || !scope[key] {
		ns.done(string(at))
		ns.e.tell(Event{Unknown, ns.id, name, key, nil})
		return nil
	}
	x := &incoming{at: at, c: c, key: key, item: item}
	for range 3 { // what the app writes meanwhile is published first
		again, err := x.apply(ctx)
		if err != nil && isFatal(err) {
			return err
		}
		if err != nil {
			ns.done(string(at))
			return c.fault(ctx, key, err)
		}
		if !again {
			return nil
		}
		if _, err := c.publishSome(ctx, []string{key}, true); err != nil {
			return err
		}
		x.stale = true
	}
	ns.giveBack([]string{string(at)}, false)
	return nil
}

// fault notes that an item is left alone.
func (c *collection) fault(ctx context.Context, key string, why error) error {
	s, _, err := c.state(ctx, key)
	if err != nil {
		return err
	}
	if s.Fault != why.Error() {
		s.Fault = why.Error()
		s.Scoped = true
		if err := c.save(ctx, map[string]*itemState{key: &s}); err != nil {
			return err
		}
	}
	c.tell(Failed, key, why)
	return nil
}

// ErrNewer reports a value that a newer app has written, in a form that this one does not know.
var ErrNewer = errors.New("the value is of a newer form than this app knows")

// apply reports whether the app has changed the value, so that it must be published first.
func (x *incoming) apply(ctx context.Context) (again bool, err error) {
	c, ns := x.c, x.c.ns
	state, _, err := c.state(ctx, x.key)
	if err != nil {
		return false, err
	}
	now, err := c.v.get(ctx, x.key)
	if err != nil {
		return false, fmt.Errorf("the app's value: %w", err)
	}
	if clean := now.found == state.Has && (!now.found || hashOf(now.encoded) == state.Base); !clean &&
		!(state.Conflict && c.hold) && !(c.v.isDefault(x.key, now) && !state.Has) {
		if !now.found { // it was deleted: by the app, if the next comparison says so
			if state.Has && state.Scoped {
				return false, nil
			}
			state.Has, state.Base = false, [32]byte{} // it went when the key left the scope
		} else {
			return true, nil
		}
	}
	item := x.item
	if x.stale || !simple(item) {
		item, err = ns.set.Settle(ctx, x.at, state.Shown.Looked(ns.waited(string(x.at))))
	}
	if errors.Is(err, versions.ErrStale) || errors.Is(err, versions.ErrPending) {
		return false, nil // it comes back
	}
	if err != nil {
		return false, err
	}
	for _, v := range item.Heads {
		if v.Schema > c.schema {
			ns.done(string(x.at))
			return false, fmt.Errorf("%w: %d, and it knows %d", ErrNewer, v.Schema, c.schema)
		}
	}
	if settled := item.Pending == 0 && !item.Missing && !(item.Write && !item.First); settled {
		ns.done(string(x.at))
	}
	if item.Conflict != nil {
		return false, x.conflict(ctx, item, &state, now)
	}
	if item.Missing || len(item.Heads) == 0 {
		return false, nil
	}
	return false, x.show(ctx, item, &state, now)
}

// show puts what an item shows in the app's store.
func (x *incoming) show(
	ctx context.Context, item *versions.Item, state *itemState, now current,
) error {
	c := x.c
	shown := item.Shown()
	known := shown.Hash() == state.Shown.Hash() && state.Shown.Covers(item) &&
		state.Has == !item.Deleted()
	if known && !state.Conflict && state.Fault == "" {
		return nil
	}
	wasConflict := state.Conflict
	done := true
	if item.Deleted() {
		if now.found {
			var err error
			done, err = c.v.drop(ctx, x.key, now)
			if errors.Is(err, errNoDelete) {
				// It stays in the app's store, and is taken for what is known, so that it is not published.
				return x.remember(ctx, state, shown, now)
			}
			if err != nil {
				return fmt.Errorf("the app's store: %w", err)
			}
		}
	} else {
		content, err := item.Content(ctx, blobs.MaxSize)
		if errors.Is(err, plan.ErrMissing) {
			return nil // it comes back when it is here
		}
		if err != nil {
			return err
		}
		_, _, value, err := c.ns.namer.open(content, x.at)
		if err != nil {
			return err
		}
		if now.found && bytes.Equal(now.encoded, value) {
			return x.remember(ctx, state, shown, now)
		}
		if err := c.v.check(value); err != nil {
			return err
		}
		if done, err = c.v.set(ctx, x.key, now, value); err != nil {
			return fmt.Errorf("the app's store: %w", err)
		}
	}
	if !done { // the app has written
		c.ns.giveBack([]string{string(x.at)}, false)
		return nil
	}
	back, err := c.v.get(ctx, x.key)
	if err != nil {
		return fmt.Errorf("the app's value: %w", err)
	}
	if err := x.remember(ctx, state, shown, back); err != nil {
		return err
	}
	if wasConflict {
		c.ns.e.cfg.Log.Info("a conflict has ended", "collection", c.name, "key", x.key)
	}
	c.tell(Applied, x.key, nil)
	return nil
}

// remember notes what the app's store holds, and that it was shown.
func (x *incoming) remember(
	ctx context.Context, state *itemState, shown versions.Shown, now current,
) error {
	state.Has, state.Base, state.Scoped = now.found, [32]byte{}, true
	if now.found {
		state.Base = hashOf(now.encoded)
	}
	state.Shown, state.Conflict, state.Fault = shown, false, ""
	return x.c.save(ctx, map[string]*itemState{x.key: state})
}

// conflict notes that a person must decide about an item. An app's store that has no value is given
// one of them.
func (x *incoming) conflict(
	ctx context.Context, item *versions.Item, state *itemState, now current,
) error {
	if !now.found && !state.Has && !item.Deleted() {
		if err := x.show(ctx, item, state, now); err != nil {
			return err
		}
		again, _, err := x.c.state(ctx, x.key)
		if err != nil {
			return err
		}
		*state = again
	}
	why := item.Conflict
	if state.Conflict && state.Fault == why.Error() {
		return nil
	}
	state.Conflict, state.Fault, state.Scoped = true, why.Error(), true
	if err := x.c.save(ctx, map[string]*itemState{x.key: state}); err != nil {
		return err
	}
	x.c.tell(Conflicted, x.key, why)
	return nil
}
