package localfirst

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/internal/kind"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/versions"
	"github.com/skerry-sync/skerry/versions/plan"
	"github.com/skerry-sync/skerry/versions/record"
)

// ErrNoConflict reports an item that is not in conflict.
var ErrNoConflict = kind.New(kind.NotFound, "there is no conflict")

// ItemProblem is an item that a person should look at: it is in conflict, or was left alone.
type ItemProblem struct {
	Namespace  replica.ID
	Collection string
	Key        string
	Conflict   bool
	Why        string
}

// Problems returns the items of the collections that are open which are in conflict, or were left
// alone because something was wrong with them.
func (ns *Namespace) Problems(ctx context.Context) (all []ItemProblem, err error) {
	for _, c := range ns.opened() {
		for r, err := range ns.e.cfg.Store.Scan(ctx, ItemRecord, ns.name, c.name) {
			if err != nil {
				return nil, fmt.Errorf("the engine's store: %w", err)
			}
			s, err := parseState(r.Value)
			if err == nil && (s.Conflict || s.Fault != "") {
				all = append(all, ItemProblem{ns.id, c.name, r.Key, s.Conflict, s.Fault})
			}
		}
	}
	return all, nil
}

// VersionInfo is one version of an item.
type VersionInfo struct {
	// ID names the version in its item; it is for Take and Restore.
	ID      string
	Author  record.AuthorTag
	Device  string // what people call the device, if it has said so
	Time    time.Time
	Deleted bool
	Size    uint64 // of the encoded value with its names
	// Head says that nothing has superseded it; of an item in conflict there are several.
	Head bool
	// Kept says that its value can be had.
	Kept bool
}

func (ns *Namespace) info(p versions.Past) VersionInfo {
	v := VersionInfo{
		ID: p.Dot.String(), Author: p.Dot.Device.Author, Time: p.Time, Deleted: p.Deleted,
		Size: p.Size, Head: p.Head, Kept: p.Kept,
	}
	for _, d := range ns.set.Devices() {
		if record.TagOf(d.Author) == p.Dot.Device.Author {
			v.Device = d.Name
		}
	}
	return v
}

// item reads an item of a collection.
func (c *collection) item(ctx context.Context, key string) (*versions.Item, error) {
	if err := checkKey(key); err != nil {
		return nil, err
	}
	return c.ns.set.Read(ctx, c.ns.namer.of(c.name, key), versions.Looked{Waited: true})
}

// History returns the versions of an item that are known, the newest first.
func (c *collection) History(ctx context.Context, key string) (all []VersionInfo, err error) {
	item, err := c.item(ctx, key)
	if err != nil {
		return nil, c.failed(err)
	}
	for _, p := range item.History() {
		all = append(all, c.ns.info(p))
	}
	return all, nil
}

// Why returns why an item is in conflict; nil if it is not.
func (c *collection) Why(ctx context.Context, key string) (error, error) {
	s, _, err := c.state(ctx, key)
	if err != nil || !s.Conflict {
		return nil, c.failed(err)
	}
	return errors.New(s.Fault), nil
}

func (c *collection) past(
	ctx context.Context, key, id string,
) (*versions.Item, versions.Past, error) {
	item, err := c.item(ctx, key)
	if err != nil {
		return nil, versions.Past{}, err
	}
	for _, p := range item.History() {
		if p.Dot.String() == id {
			return item, p, nil
		}
	}
	return nil, versions.Past{}, fmt.Errorf("key %q, version %s: %w", key, id, ErrNotFound)
}

// Value returns the value of a version of an item.
func (c *Collection[T]) Value(ctx context.Context, key, id string) (v T, err error) {
	item, p, err := c.past(ctx, key, id)
	if err != nil {
		return v, c.failed(err)
	}
	b, err := c.encodedOf(ctx, item, p)
	if err != nil {
		return v, c.failed(err)
	}
	v, err = c.v.decode(b)
	return v, c.failed(err)
}

func (c *collection) encodedOf(
	ctx context.Context, item *versions.Item, p versions.Past,
) ([]byte, error) {
	if p.Deleted {
		return nil, fmt.Errorf("version %s deletes: %w", p.Dot, ErrNotFound)
	}
	in, err := item.OpenPast(ctx, p)
	if err != nil {
		return nil, err
	}
	if in.Size() > blobs.MaxSize {
		return nil, blobs.ErrTooLarge
	}
	b := make([]byte, in.Size())
	if _, err := in.ReadAt(b, 0); err != nil && in.Size() > 0 {
		return nil, err
	}
	_, _, value, err := c.ns.namer.open(b, item.Key)
	return value, err
}

// Base returns the value that the versions of a conflict all follow on. It returns ErrNotFound if
// they have nothing in common that is kept.
func (c *Collection[T]) Base(ctx context.Context, key string) (v T, err error) {
	item, err := c.item(ctx, key)
	if err != nil {
		return v, c.failed(err)
	}
	for _, p := range item.History() {
		if p.Head || !p.Kept || !followsAll(item.Heads, p.Dot) {
			continue
		}
		b, err := c.encodedOf(ctx, item, p)
		if err != nil {
			return v, c.failed(err)
		}
		v, err = c.v.decode(b)
		return v, c.failed(err)
	}
	return v, c.failed(fmt.Errorf("key %q: a common base: %w", key, ErrNotFound))
}

func followsAll(heads []*plan.Version, d record.Dot) bool {
	for _, h := range heads {
		if !h.Context.Covers(d) {
			return false
		}
	}
	return true
}

// Resolve ends a conflict with a value, on all devices. What it takes the place of stays in the
// item's history.
func (c *Collection[T]) Resolve(ctx context.Context, key string, value T) error {
	b, err := c.v.encode(value)
	if err == nil {
		err = c.v.check(b)
	}
	if err != nil {
		return c.failed(fmt.Errorf("key %q: %w", key, err))
	}
	return c.failed(c.resolve(ctx, key, b, false))
}

// ResolveDeleted ends a conflict by deleting the item everywhere.
func (c *collection) ResolveDeleted(ctx context.Context, key string) error {
	return c.failed(c.resolve(ctx, key, nil, true))
}

// Take ends a conflict with one of its versions, by its id, or gives an item the value of an older
// one.
func (c *collection) Take(ctx context.Context, key, id string) error {
	item, p, err := c.past(ctx, key, id)
	if err != nil {
		return c.failed(err)
	}
	if p.Deleted {
		return c.failed(c.resolve(ctx, key, nil, true))
	}
	b, err := c.encodedOf(ctx, item, p)
	if err != nil {
		return c.failed(err)
	}
	return c.failed(c.resolve(ctx, key, b, false))
}

// resolve writes a version over all heads, and has the app's store show it. It runs between passes.
func (c *collection) resolve(ctx context.Context, key string, value []byte, deleted bool) error {
	e := c.ns.e
	e.passing.Lock()
	defer e.passing.Unlock()
	if e.isClosed() {
		return ErrClosed
	}
	item, err := c.item(ctx, key)
	if err != nil {
		return err
	}
	if len(item.Heads) == 0 {
		return fmt.Errorf("key %q: %w", key, ErrNotFound)
	}
	edit := versions.Edit{Item: item, Resolve: true, Delete: deleted, Schema: c.schema}
	if !deleted {
		src := c.ns.set.SourceOf(appendEnvelope(nil, c.name, key, value))
		edit.Content = &src
	}
	if err := c.ns.set.Write(ctx, edit); err != nil {
		return err
	}
	return c.forceShow(ctx, key)
}

// forceShow puts what an item shows in the app's store, in the place of what is there now.
func (c *collection) forceShow(ctx context.Context, key string) error {
	at := c.ns.namer.of(c.name, key)
	item, err := c.ns.set.Read(ctx, at, versions.Looked{Waited: true})
	if err != nil {
		return err
	}
	state, _, err := c.state(ctx, key)
	if err != nil {
		return err
	}
	now, err := c.v.get(ctx, key)
	if err != nil {
		return err
	}
	state.Conflict = true // it is shown, whatever was before
	x := &incoming{at: at, c: c, key: key, item: item}
	return errors.Join(x.show(ctx, item, &state, now), c.ns.flush(ctx))
}

// Delete deletes an item everywhere, and from the app's store if that can delete.
func (c *collection) Delete(ctx context.Context, key string) error {
	err := c.resolve(ctx, key, nil, true)
	if errors.Is(err, ErrNotFound) { // it was never published
		now, err := c.v.get(ctx, key)
		if err != nil || !now.found {
			return c.failed(err)
		}
		_, err = c.v.drop(ctx, key, now)
		return c.failed(err)
	}
	return c.failed(err)
}

// Approve lets a collection go on that ErrMassDelete or ErrOldCopy has stopped: what the app's
// store holds counts, everywhere.
func (c *collection) Approve() {
	c.mu.Lock()
	c.stopped, c.approved = nil, true
	c.mu.Unlock()
	c.ns.e.ScheduleSync()
}

// Refresh lets a collection go on that ErrMassDelete or ErrOldCopy has stopped: the app's store is
// given what others have, in the place of values that are older, and of those that are gone.
func (c *collection) Refresh(ctx context.Context) error {
	e := c.ns.e
	e.passing.Lock()
	defer e.passing.Unlock()
	scope, _, err := c.scopeOf(ctx)
	if err != nil {
		return c.failed(err)
	}
	if err := c.ns.flush(ctx); err != nil {
		return c.failed(err)
	}
	x, err := c.compare(ctx, scope)
	if err != nil {
		return c.failed(err)
	}
	keys := x.deleted
	for _, key := range x.changed {
		now, err := c.v.get(ctx, key)
		if err != nil {
			return c.failed(err)
		}
		item, err := c.item(ctx, key)
		if err != nil {
			return c.failed(err)
		}
		hash := c.ns.set.HashOf(appendEnvelope(nil, c.name, key, now.encoded))
		if former, _ := item.HasAncestor(hash); former {
			keys = append(keys, key)
		}
	}
	for _, key := range keys {
		if err := c.forceShow(ctx, key); err != nil {
			return c.failed(fmt.Errorf("key %q: %w", key, err))
		}
	}
	c.mu.Lock()
	c.stopped = nil
	c.mu.Unlock()
	e.ScheduleSync()
	return nil
}

// Stopped returns why the collection is neither published nor applied; nil if it is.
func (c *collection) Stopped() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stopped
}
