package localfirst

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/skerry-sync/skerry/internal/kind"
	"github.com/skerry-sync/skerry/versions"
)

// A pass over a collection has two halves. The first compares the app's store with what it held
// when the engine last saw it, and publishes what has changed as versions that follow on what the
// app had seen: beside what has come since. The second applies what has come, merged. What the
// engine remembers of an item is written after what it says is true, so a pass that ends anywhere
// is made good by the next: it may repeat work, and takes nothing for a change that was none.

// collection is a collection without the type of its values.
type collection struct {
	ns     *Namespace
	name   string
	v      values
	hold   bool
	schema uint64

	mu       sync.Mutex
	approved bool  // deletions, however many
	stopped  error // ErrMassDelete or ErrOldCopy, until somebody approves
	missed   bool  // what others have changed was passed over, in passes that failed
}

var (
	// ErrMassDelete reports an app's store that has lost so many values that it may have been emptied
	// by mistake. Nothing of the collection is published or applied until Approve is called.
	ErrMassDelete = kind.New(kind.Conflict, "many values are gone from the app's store: "+
		"approve that they are deleted everywhere, or bring them back")
	// ErrOldCopy reports an app's store of which all changed values are older ones: it is likely to
	// have been restored from a backup.
	ErrOldCopy = kind.New(kind.Conflict, "the app's store seems to be an old copy: "+
		"approve that the old values count everywhere, or refresh it")
)

const (
	// An app's store that lost more than a quarter of its values, and at least massDelete, stops the
	// collection; so does one that lost all.
	massDelete = 50
	// oldCopies is how many values must have become older ones for a store to seem an old copy.
	oldCopies = 8
	// publishedAtOnce is how many items are published in one transaction.
	publishedAtOnce = 256
)

func (c *collection) failed(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("collection %q: %w", c.name, err)
}

func (c *collection) itemName(key string) Name {
	return Name{ItemRecord, c.ns.name, c.name, key}
}

func (c *collection) tell(k EventKind, key string, err error) {
	c.ns.e.tell(Event{k, c.ns.id, c.name, key, err})
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// scopeOf returns the keys of the scope, and their hash.
func (c *collection) scopeOf(ctx context.Context) (map[string]bool, [32]byte, error) {
	keys, err := c.v.keys(ctx)
	if err != nil {
		return nil, [32]byte{}, fmt.Errorf("the app's keys: %w", err)
	}
	slices.Sort(keys)
	scope := make(map[string]bool, len(keys))
	h := sha256.New()
	for _, k := range slices.Compact(keys) {
		if err := checkKey(k); err != nil {
			c.tell(Failed, k, err)
			continue
		}
		scope[k] = true
		_, _ = fmt.Fprintf(h, "%d %s", len(k), k) // never fails
	}
	return scope, [32]byte(h.Sum(nil)), nil
}

// changes is what is different in the app's store since the engine last saw it.
type changes struct {
	changed []string // new, or with another value
	deleted []string
	left    []string // the scope
	failed  bool     // some values could not be read: they are looked at again
	next    string   // the token for the next comparison
}

// seen is what a snapshot has of a key.
type seen struct {
	hash [32]byte
	bad  error
}

// compare finds what has changed in the app's store since a token was given; all that is in it, if
// that is empty, or means nothing to the store.
func (c *collection) compare(
	ctx context.Context, scope map[string]bool, token string,
) (x changes, err error) {
	here := map[string]seen{}
	told, err := c.v.snapshot(ctx, token, func(key string, encode func() ([]byte, error)) error {
		if !scope[key] {
			return nil
		}
		b, err := encode()
		if err != nil {
			c.tell(Failed, key, err)
			x.failed = true
		}
		here[key] = seen{hashOf(b), err}
		return nil
	})
	if err != nil {
		return x, fmt.Errorf("the app's values: %w", err)
	}
	x.next = told.next
	if told.all {
		return x, c.compareAll(ctx, scope, here, &x)
	}
	for _, key := range sortedKeys(here) {
		s, _, err := c.state(ctx, key)
		if err != nil {
			return x, fmt.Errorf("the engine's store: %w", err)
		}
		if here[key].bad == nil && (!s.Has || here[key].hash != s.Base) {
			x.changed = append(x.changed, key)
		}
	}
	slices.Sort(told.gone)
	for _, key := range slices.Compact(told.gone) {
		s, _, err := c.state(ctx, key)
		if err != nil {
			return x, fmt.Errorf("the engine's store: %w", err)
		}
		if scope[key] && s.Has && s.Scoped {
			x.deleted = append(x.deleted, key)
		}
	}
	return x, nil
}

// compareAll compares all values with what is known of them.
func (c *collection) compareAll(
	ctx context.Context, scope map[string]bool, here map[string]seen, x *changes,
) error {
	known := map[string]bool{}
	for r, err := range c.ns.e.cfg.Store.Scan(ctx, ItemRecord, c.ns.name, c.name) {
		if err != nil {
			return fmt.Errorf("the engine's store: %w", err)
		}
		base, flags, ok := baseOf(r.Value)
		if !ok {
			continue // it is made anew
		}
		known[r.Key] = true
		now, found := here[r.Key]
		has := flags&stateHas != 0
		switch {
		case !scope[r.Key]:
			if flags&stateScoped != 0 {
				x.left = append(x.left, r.Key)
			}
		case found && now.bad == nil && (!has || now.hash != base):
			x.changed = append(x.changed, r.Key)
		case !found && has && flags&stateScoped != 0:
			x.deleted = append(x.deleted, r.Key)
		}
	}
	for _, key := range sortedKeys(here) {
		if !known[key] && here[key].bad == nil {
			x.changed = append(x.changed, key)
		}
	}
	return nil
}

// had returns how many values the app's store held that others know.
func (c *collection) had(ctx context.Context) (n int, err error) {
	for r, err := range c.ns.e.cfg.Store.Scan(ctx, ItemRecord, c.ns.name, c.name) {
		if err != nil {
			return 0, fmt.Errorf("the engine's store: %w", err)
		}
		if _, flags, ok := baseOf(r.Value); ok && flags&stateHas != 0 {
			n++
		}
	}
	return n, nil
}

// checkDeleted returns ErrMassDelete if so many values are gone that it may be by mistake.
func (c *collection) checkDeleted(ctx context.Context, deleted int) error {
	if deleted < 2 {
		return nil
	}
	had, err := c.had(ctx)
	if err != nil {
		return err
	}
	if deleted == had || deleted >= massDelete && 4*deleted > had {
		return fmt.Errorf("%d of %d values: %w", deleted, had, ErrMassDelete)
	}
	return nil
}

// publish is the first half of a pass. next is the token for the next one, which gives again what
// could not be published; empty if that is to look at all values.
func (c *collection) publish(
	ctx context.Context, scope map[string]bool, token string,
) (next string, err error) {
	x, err := c.compare(ctx, scope, token)
	if err != nil {
		return "", err
	}
	for _, key := range x.left {
		if s, known, err := c.state(ctx, key); err != nil {
			return "", err
		} else if known {
			s.Scoped = false
			if err := c.save(ctx, map[string]*itemState{key: &s}); err != nil {
				return "", err
			}
		}
	}
	c.mu.Lock()
	approved := c.approved
	c.mu.Unlock()
	if !approved {
		if err := c.checkDeleted(ctx, len(x.deleted)); err != nil {
			return "", err
		}
	}
	for all := x.changed; len(all) > 0; {
		n := min(len(all), publishedAtOnce)
		failed, err := c.publishSome(ctx, all[:n], approved)
		if x.failed = x.failed || failed; err != nil {
			return "", err
		}
		all = all[n:]
	}
	for all := x.deleted; len(all) > 0; {
		n := min(len(all), publishedAtOnce)
		failed, err := c.publishSome(ctx, all[:n], true)
		if x.failed = x.failed || failed; err != nil {
			return "", err
		}
		all = all[n:]
	}
	c.mu.Lock()
	c.approved = c.approved && !approved
	c.mu.Unlock()
	if x.failed {
		return token, nil
	}
	return x.next, nil
}

// oldValues counts values that were there before: the last before the present one, to which a
// person may have gone back, and older ones.
type oldValues struct{ undone, older int }

// outgoing is an item that is about to be published.
type outgoing struct {
	key   string
	now   current
	state itemState
	hash  [32]byte // of the encoded value
	edit  versions.Edit
	want  versions.Source
}

// publishSome publishes the values that the app's store holds now of some keys, as far as nobody
// has the same. approved says that old values count as new ones. failed reports that some
// values could not be published.
func (c *collection) publishSome(
	ctx context.Context, keys []string, approved bool,
) (failed bool, err error) {
	var out []*outgoing
	settled := map[string]*itemState{}
	var old oldValues
	at := make([][]byte, len(keys))
	for i, key := range keys {
		at[i] = c.ns.namer.of(c.name, key)
	}
	items, err := c.ns.set.ReadAll(ctx, at, nil)
	if err != nil {
		return failed, err
	}
	for i, key := range keys {
		o, err := c.outgoing(ctx, key, items[i], settled, &old)
		if err != nil {
			if isFatal(err) {
				return failed, err
			}
			c.tell(Failed, key, err)
			failed = true
			continue
		}
		if o != nil {
			out = append(out, o)
		}
	}
	n := old.older + old.undone
	if !approved && old.older > 0 && n >= oldCopies && 10*n >= 9*len(out) {
		return failed, fmt.Errorf("%d values: %w", n, ErrOldCopy)
	}
	if err := c.save(ctx, settled); err != nil {
		return failed, err
	}
	if len(out) == 0 {
		return failed, nil
	}
	intents := map[string]*itemState{}
	edits := make([]versions.Edit, len(out))
	for i, o := range out {
		o.state.Intent = o.want.Hash
		intents[o.key] = &o.state
		edits[i] = o.edit
	}
	err = c.save(ctx, intents)
	if err == nil {
		err = c.ns.flush(ctx)
	}
	if err != nil {
		return failed, err
	}
	if err := c.ns.set.WriteEach(ctx, edits...); err != nil {
		return failed, err
	}
	keysOfItems := make([][]byte, len(out))
	for i, o := range out {
		keysOfItems[i] = o.edit.Item.Key
	}
	written, err := c.ns.set.ReadAll(ctx, keysOfItems, nil)
	if err != nil {
		return failed, err
	}
	for i, o := range out {
		item := written[i]
		if shown, ok := item.ShownWith(o.want.Hash); ok {
			o.state.Shown = shown
		}
		o.state.Has, o.state.Base, o.state.Scoped = o.now.found, o.hash, true
		o.state.Fault = ""
		if err := c.save(ctx, map[string]*itemState{o.key: &o.state}); err != nil {
			return failed, err
		}
		c.tell(Published, o.key, nil)
		c.ns.giveBack([]string{string(o.edit.Item.Key)}, false)
	}
	return failed, nil
}

// outgoing returns what is to be published of a key; nil if nothing is, and then perhaps what is
// known of it now, in settled. It counts values that were there before.
func (c *collection) outgoing(
	ctx context.Context, key string, item *versions.Item, settled map[string]*itemState,
	old *oldValues,
) (*outgoing, error) {
	state, _, err := c.state(ctx, key)
	if err != nil {
		return nil, err
	}
	o := &outgoing{key: key, state: state}
	if o.now, err = c.v.get(ctx, key); err != nil {
		return nil, err
	}
	if o.now.found {
		o.hash = hashOf(o.now.encoded)
	}
	if o.now.found == state.Has && o.hash == state.Base {
		return nil, nil // it has been changed back
	}
	if o.now.found {
		o.want = c.ns.set.SourceOf(appendEnvelope(nil, c.name, key, o.now.encoded))
	}
	fresh := len(item.Heads) == 0
	if shown, ok := item.ShownWith(o.want.Hash); ok && !fresh && (o.now.found || item.Deleted()) &&
		(!state.Has || state.Intent == o.want.Hash || shown.Covers(item)) {
		// Others have the same, or this device published it and did not come to remember that.
		state.Has, state.Base, state.Scoped, state.Shown = o.now.found, o.hash, true, shown
		settled[key] = &state
		c.ns.giveBack([]string{string(item.Key)}, false)
		return nil, nil
	}
	if state.Conflict && c.hold {
		return nil, nil
	}
	if state.Has && state.Shown.Missed(item, o.want.Hash) {
		// It was applied, but this device did not come to remember that. What is newer is applied.
		state.Has, state.Base, state.Scoped = o.now.found, o.hash, true
		settled[key] = &state
		c.ns.giveBack([]string{string(item.Key)}, false)
		return nil, nil
	}
	switch former, newest := item.HasAncestor(o.want.Hash); {
	case !o.now.found && fresh, !state.Has && c.v.isDefault(key, o.now):
		return nil, nil
	case !o.now.found || !former:
	case !state.Has: // an old copy, of which nothing is remembered: what is newer is applied
		state.Has, state.Base, state.Scoped = true, o.hash, true
		settled[key] = &state
		c.ns.giveBack([]string{string(item.Key)}, false)
		return nil, nil
	case newest:
		old.undone++
	default:
		old.older++
	}
	o.edit = versions.Edit{Item: item, Over: &o.state.Shown, Schema: c.schema}
	if o.now.found {
		o.edit.Content = &o.want
	} else {
		o.edit.Delete = true
	}
	return o, nil
}

// isFatal reports an error that is not of one item alone.
func isFatal(err error) bool {
	_, isClock := errors.AsType[*versions.ClockError](err)
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) ||
		kind.Of(err) == kind.NoSpace || errors.Is(err, versions.ErrNoAuthor) || isClock
}
