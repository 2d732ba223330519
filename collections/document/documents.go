package document

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"strings"
	"time"

	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/value"
)

var (
	// ErrConflict reports that somebody else has written since the version that a push is based on.
	ErrConflict = errors.New("the document has changed meanwhile")
	// ErrNotMonotonic reports an element whose time is not later than that of the log's last.
	ErrNotMonotonic = errors.New("the time of the element is not later than that of the last one")
)

// FullError reports a log that has as many elements as it may.
type FullError struct{ Limit int64 }

func (e *FullError) Error() string {
	return fmt.Sprintf("the log has %d elements already", e.Limit)
}

// Written tells of a write.
type Written struct {
	Hash string
	Seen string // the hash by which the writer knows it, if that is another (see Change)
	Time int64  // Unix milliseconds
}

// Documents are the documents and logs in a store.
type Documents struct {
	store store.Store
	now   func() time.Time
	seed  maphash.Seed
	locks [256]chan struct{} // of keys, one place each: writes to one take turns
}

// In returns the documents in a store. now is the clock, time.Now if nil.
func In(s store.Store, now func() time.Time) *Documents {
	if now == nil {
		now = time.Now
	}
	d := &Documents{store: s, now: now, seed: maphash.MakeSeed()}
	for i := range d.locks {
		d.locks[i] = make(chan struct{}, 1)
	}
	return d
}

// Store returns the store.
func (d *Documents) Store() store.Store { return d.store }

// Now returns the time in Unix milliseconds.
func (d *Documents) Now() int64 { return d.now().UnixMilli() }

// lock waits for its turn to write to a key, no longer than ctx lasts: a store may be slow for
// others.
func (d *Documents) lock(ctx context.Context, key string) (unlock func(), err error) {
	l := d.locks[maphash.String(d.seed, key)%uint64(len(d.locks))]
	select {
	case l <- struct{}{}:
		return func() { <-l }, nil
	default:
	}
	select {
	case l <- struct{}{}:
		return func() { <-l }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("document %s: %w", key, ctx.Err())
	}
}

// parsed is what is remembered of an object.
type parsed struct {
	d   *Document
	err error
}

// Get returns a document, or nil if there is none. It returns an error that is ErrCorrupt.
func (d *Documents) Get(ctx context.Context, key string) (*Document, error) {
	doc, _, err := d.get(ctx, key)
	return doc, err
}

func (d *Documents) get(ctx context.Context, key string) (*Document, *store.Object, error) {
	o, err := d.store.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("document %s: %w", key, err)
	}
	p := o.Memo(func() any {
		doc, err := Parse(o.Body)
		return &parsed{doc, err}
	}).(*parsed)
	if p.err != nil {
		return nil, o, fmt.Errorf("document %s: %w", key, p.err)
	}
	return p.d, o, nil
}

// if_ is the condition that nothing has changed since o, which may be nil, was read.
func if_(o *store.Object) store.Condition {
	if o == nil {
		return store.Absent
	}
	return store.Same(o.Tag)
}

// attempts is how often a write is tried that others, at other servers of the same store,
// forestall.
const attempts = 5

// Change is what a push asks for.
type Change struct {
	Data *value.Object
	// hash of what is to be there: nil if nothing, or "" for a document without one
	Base   *string
	Author *Author      // whose signature of Data it bears
	Proof  *store.Proof // the request; nil of what a server writes by itself
	Whole  bool

	// HashOf, unless nil, returns the hash by which the writer knows a document, who may not see all
	// of it.
	HashOf func(*Document) string
	// Over, unless nil, returns what is stored instead of Data in the place of a document, which is
	// nil if there is none. If that is not Data, it does not bear the author's signature.
	Over func(old *Document) (*value.Object, error)
}

// Push stores data as a document if base is the hash of what is there: nil if there must be
// nothing, or "" for a document without one. What is there and is no document may be replaced with
// "". It returns an error that is ErrConflict.
func (d *Documents) Push(
	ctx context.Context, key string, data *value.Object, base *string, author *Author, whole bool,
) (Written, error) {
	return d.Change(ctx, key, Change{Data: data, Base: base, Author: author, Whole: whole})
}

// Change stores a document as Push does.
func (d *Documents) Change(ctx context.Context, key string, c Change) (Written, error) {
	hashOf := c.HashOf
	if hashOf == nil {
		hashOf = func(d *Document) string { return d.Hash }
	}
	unlock, err := d.lock(ctx, key)
	if err != nil {
		return Written{}, err
	}
	defer unlock()
	var next *Document
	for range attempts {
		old, o, err := d.get(ctx, key)
		if err != nil && !errors.Is(err, ErrCorrupt) {
			return Written{}, err
		}
		// A store that is reached over a network sends a write again when the answer is lost, and it is
		// that very write then that has changed the document.
		if next != nil && o != nil && bytes.Equal(o.Body, next.Bytes()) {
			return Written{Hash: next.Hash, Seen: hashOf(next), Time: next.Time}, nil
		}
		hash := ""
		if old != nil {
			hash = hashOf(old)
		}
		if c.Base == nil && o != nil || c.Base != nil && *c.Base != hash {
			return Written{}, ErrConflict
		}
		data, author := c.Data, c.Author
		if c.Over != nil {
			if data, err = c.Over(old); err != nil {
				return Written{}, err
			}
			if data != c.Data {
				author = nil
			}
		}
		next = Next(old, data, d.Now(), author, c.Whole)
		err = d.store.Put(
			ctx, key, &store.Object{Body: next.Bytes(), Type: jsonType, Proof: c.Proof}, if_(o),
		)
		if err == nil {
			return Written{Hash: next.Hash, Seen: hashOf(next), Time: next.Time}, nil
		}
		if !errors.Is(err, store.ErrChanged) {
			return Written{}, fmt.Errorf("document %s: %w", key, err)
		}
	}
	return Written{}, ErrConflict
}

// List returns what follows prefix in the first limit keys that begin with it and in which more
// than after follows, and whether there are more.
func (d *Documents) List(
	ctx context.Context, prefix, after string, limit int,
) (items []string, more bool, err error) {
	return d.ListOf(ctx, prefix, after, limit, nil)
}

// ListOf lists those keys alone that shown, unless it is nil, reports to be shown. In these one
// segment follows prefix.
func (d *Documents) ListOf(
	ctx context.Context, prefix, after string, limit int, shown func(key string) bool,
) (items []string, more bool, err error) {
	if after != "" {
		after = prefix + after
	}
	keys, err := d.keys(ctx, prefix, after, limit+1, shown)
	if err != nil {
		return nil, false, fmt.Errorf("list %s: %w", prefix, err)
	}
	if more = len(keys) > limit; more {
		keys = keys[:limit]
	}
	items = make([]string, len(keys))
	for i, k := range keys {
		items[i] = k[len(prefix):]
	}
	return items, more, nil
}

// keys lists those keys that are shown, without those of chunks. If shown is given, nothing that
// lies below a segment behind prefix may be shown, of which no more than a page or two is looked
// at.
func (d *Documents) keys(
	ctx context.Context, prefix, after string, limit int, shown func(key string) bool,
) (all []string, err error) {
	page := max(limit, 1000)
	if _, ok := d.store.(store.Logs); ok { // where there are no chunks between
		page = limit
	}
	for ; ; page = max(limit, 1000) {
		some, err := d.store.List(ctx, prefix, after, page)
		if err != nil {
			return nil, err
		}
		for _, k := range some {
			if after = k; isChunk(k) || shown != nil && !shown(k) {
				continue
			}
			if all = append(all, k); len(all) == limit {
				return all, nil
			}
		}
		if len(some) < page {
			return all, nil
		}
		if first, below := below(some[0], prefix), below(after, prefix); shown != nil && below != "" &&
			first == below {
			after = below + beyond
		}
	}
}

// beyond follows a path with a slash at its end in a key that is greater than all that lie below
// it.
const beyond = "\U0010ffff"

// below returns the path of the segment behind prefix that a key lies below, with a slash; "" if it
// lies below none.
func below(key, prefix string) string {
	if i := strings.IndexByte(key[len(prefix):], '/'); i >= 0 {
		return key[:len(prefix)+i+1]
	}
	return ""
}
