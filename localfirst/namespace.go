package localfirst

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/versions"
)

// Namespace is what is kept the same together: an encrypted replica. Its methods may be called at
// the same time.
type Namespace struct {
	e     *Engine
	id    replica.ID
	name  string // of the id, in the engine's store
	namer namer
	space Space
	set   *versions.Set

	mu          sync.Mutex
	collections map[string]*collection
	changed     map[string]bool      // keys of the replica that others may have changed
	all         bool                 // all of them may have been
	later       map[string]time.Time // keys to look at again, and since when they wait
}

// maxChanged is how many changed keys are remembered one by one.
const maxChanged = 1 << 16

// ID returns the id of the namespace: that of its replica.
func (ns *Namespace) ID() replica.ID { return ns.id }

// Versions returns what the namespace is kept in, with what collections do not show.
func (ns *Namespace) Versions() *versions.Set { return ns.set }

// add adds a collection.
func (ns *Namespace) add(c *collection) error {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	if ns.collections[c.name] != nil {
		return fmt.Errorf("collection %q: %w: it is open already", c.name, ErrUsage)
	}
	if ns.collections == nil {
		ns.collections = map[string]*collection{}
	}
	ns.collections[c.name] = c
	ns.all = true
	return nil
}

// opened returns the collections, by name.
func (ns *Namespace) opened() []*collection {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	var all []*collection
	for _, name := range slices.Sorted(maps.Keys(ns.collections)) {
		all = append(all, ns.collections[name])
	}
	return all
}

func (ns *Namespace) collection(name string) *collection {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	return ns.collections[name]
}

// takeChanged returns what is to be looked at, and begins to note anew.
func (ns *Namespace) takeChanged(ctx context.Context) (keys []string, all bool, err error) {
	fresh, all, err := ns.space.Changes(ctx)
	if err != nil {
		return nil, false, err
	}
	ns.mu.Lock()
	defer ns.mu.Unlock()
	for _, k := range fresh {
		ns.changed[string(k)] = true
	}
	all = all || ns.all
	keys = slices.Sorted(maps.Keys(ns.changed))
	ns.all, ns.changed = false, map[string]bool{}
	return keys, all, nil
}

// giveBack has keys looked at in the next pass.
func (ns *Namespace) giveBack(keys []string, all bool) {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	ns.all = ns.all || all
	for _, k := range keys {
		if len(ns.changed) >= maxChanged {
			ns.all = true
			clear(ns.changed)
		}
		ns.changed[k] = true
	}
}

// patience is how long an item waits for what is missing, or for another device to merge it.
const patience = 5 * time.Second

// waited reports whether an item has waited long enough; it is looked at again after that.
func (ns *Namespace) waited(at string) bool {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	now := ns.e.cfg.Now()
	since, ok := ns.later[at]
	if !ok {
		ns.later[at] = now
		return false
	}
	return now.Sub(since) >= patience
}

// done ends the waiting of an item.
func (ns *Namespace) done(at string) {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	delete(ns.later, at)
}

// due returns the keys that wait.
func (ns *Namespace) due() []string {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	return slices.Sorted(maps.Keys(ns.later))
}

// errUnresolved reports values that the merge function leaves to a person.
var errUnresolved = errors.New("the merge function leaves it to a person")

// merge merges two contents of an item; see versions.Config.Merge.
func (ns *Namespace) merge(at, base, local, remote []byte) (merged []byte, err error) {
	name, key, l, err := ns.namer.open(local, at)
	if err != nil {
		return nil, err
	}
	_, _, r, err := ns.namer.open(remote, at)
	if err != nil {
		return nil, err
	}
	c := ns.collection(name)
	if c == nil {
		return nil, fmt.Errorf("collection %q is not open", name)
	}
	var b []byte
	if base != nil {
		if _, _, b, err = ns.namer.open(base, at); err != nil {
			return nil, err
		}
		if b == nil {
			b = []byte{}
		}
	}
	merged, resolved, err := c.v.merge(key, b, l, r)
	if err != nil {
		return nil, err
	}
	if !resolved {
		return nil, errUnresolved
	}
	return appendEnvelope(nil, name, key, merged), nil
}

// Pending calls each with the names of the items that this device has written and no other peer is
// known to hold.
func (ns *Namespace) Pending(ctx context.Context, each func(collection, key string) error) error {
	for it, err := range ns.set.Pending(ctx) {
		if err != nil {
			return err
		}
		name, key, err := ns.nameOf(ctx, it.Key)
		if err != nil {
			return err
		}
		if err := each(name, key); err != nil {
			return err
		}
	}
	return nil
}

// WaitHeld waits until so many other peers hold what this device has published: a person can close
// the device then. Values that are in conflict and held back are not among it.
func (ns *Namespace) WaitHeld(ctx context.Context, copies int) error {
	return ns.space.WaitHeld(ctx, copies)
}

// nameOf returns what item a key of the replica is; nothing if no content of it is here.
func (ns *Namespace) nameOf(ctx context.Context, at []byte) (name, key string, err error) {
	item, err := ns.set.Read(ctx, at, versions.Looked{})
	if err != nil {
		return "", "", err
	}
	return ns.nameIn(ctx, item)
}

// title is SpaceOptions.Name: collection and key.
func (ns *Namespace) title(ctx context.Context, at []byte) (string, error) {
	name, key, err := ns.nameOf(ctx, at)
	if err != nil || name == "" {
		return "", err
	}
	return name + "/" + key, nil
}

// nameIn is nameOf an item. Of one that was deleted everywhere, the last content that is kept
// tells.
func (ns *Namespace) nameIn(
	ctx context.Context, item *versions.Item,
) (name, key string, err error) {
	for _, p := range item.History() {
		if !p.Kept {
			continue
		}
		in, err := item.OpenPast(ctx, p)
		if err != nil {
			continue // it is not here
		}
		b := make([]byte, min(in.Size(), maxEnvelope))
		if _, err := in.ReadAt(b, 0); err != nil {
			continue
		}
		name, key, _, err = parseEnvelope(b)
		if err == nil && string(ns.namer.of(name, key)) == string(item.Key) {
			return name, key, nil
		}
	}
	return "", "", nil
}
