// Package projection keeps lists of what has been written to collections: one document with an
// entry for each of many, which a client pulls in one request.
//
// What belongs here: what an event makes of a list, and how the list is rewritten. What never
// belongs here: anything about the documents that are listed.
//
// Start at In.
package projection

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/skerry-sync/skerry/collections"
	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/collections/value"
)

// Op is what becomes of a list's entry.
type Op struct {
	ID     string
	Source string        // collection that the entry is of, "" of a list of one
	Value  *value.Object // takes the place of the entry's, or is a new entry at the end
	Remove bool          // the entry
}

// Projection is a list, or several, of what is written to some collections.
type Projection struct {
	Matches func(*config.Collection) bool // the collections
	// Target returns the storage path of the list that an event is about, "" if there is none. It must
	// not be that of a document of Matches.
	Target func(*collections.Event) (string, error)
	// Project returns what becomes of the list, nil if nothing. It must depend on nothing but the
	// event, which has the data of the document as it is when the list is changed.
	Project  func(*collections.Event) *Op
	MaxItems int // entries; of a list that has so many, further ones are left out. 0 is unlimited
}

// Items is the member of a list's data that holds the entries, each {"id", "value"}, in the order
// in which they first came. In a list of several collections each has its collection as "source",
// too: documents of two may have the same id, and whoever may write the one must not replace the
// other's entry.
const Items = "items"

// attempts is how often a change of a list is tried that others, at other servers of the same
// store, forestall.
const attempts = 20

// attemptWait is for how long at most it is waited after the first such attempt; after each further
// one for as much more.
const attemptWait = 2 * time.Millisecond

// ErrFull reports a list that is as long as it may be.
var ErrFull = errors.New("the list is as long as it may be")

// Bounds are how long a list may be. What is 0 is unlimited. A list that is longer already may get
// shorter.
type Bounds struct {
	Items int   // entries
	Bytes int64 // of JSON: each change writes all of them, whoever makes it
}

// Lists are the lists among some documents. Its methods may be called by several goroutines at
// once.
type Lists struct {
	docs  *document.Documents
	seed  maphash.Seed
	locks [64]sync.Mutex // of targets: who changes a list at this server takes turns
}

// In returns the lists among documents.
func In(docs *document.Documents) *Lists { return &Lists{docs: docs, seed: maphash.MakeSeed()} }

// Hook returns what a server must tell of writes, to keep lists. all returns them. Whoever writes
// waits for that.
func (l *Lists) Hook(all func() []*Projection, log *slog.Logger) collections.Hook {
	return collections.Hook{AfterWrite: func(ctx context.Context, e *collections.Event) error {
		for _, p := range all() {
			if !p.Matches(e.Collection) {
				continue
			}
			target, err := p.Target(e)
			if err != nil {
				log.Warn(
					"a write is missing from a list, which it has no place for", "key", e.Key, "error", err,
				)
				continue
			}
			if target == "" {
				continue
			}
			project := func() (*Op, error) { return l.project(ctx, p, e) }
			err = l.apply(ctx, target, project, Bounds{p.MaxItems, e.Longest(target)})
			if err != nil {
				log.Warn("a write is missing from a list", "list", target, "key", e.Key, "error", err)
			}
		}
		return nil
	}}
}

// project returns what becomes of a list after a write, by what the document is now: the list may
// have later writes of it already, whose turn came first.
func (l *Lists) project(ctx context.Context, p *Projection, e *collections.Event) (*Op, error) {
	if a := e.Collection.AppendOnly; a != nil && a.Persist {
		last, err := l.last(ctx, e)
		if err != nil {
			return nil, err
		}
		return p.Project(last), nil
	}
	if e.Collection.AppendOnly != nil || e.Collection.Binary() {
		return p.Project(e), nil
	}
	d, err := l.docs.Get(ctx, e.Key)
	if err != nil {
		return nil, err
	}
	now := *e
	if d != nil {
		now.Data, now.Hash, now.Time = d.Data, d.Hash, d.Time
	}
	op := p.Project(&now)
	if op != nil && d == nil { // it has been removed meanwhile
		op.Remove = true
	}
	return op, nil
}

// last returns the event of the last element of a log, which is e or, if others have been added
// since, has the data of the last of them. What is there and no element is left out.
func (l *Lists) last(ctx context.Context, e *collections.Event) (*collections.Event, error) {
	one := int64(1)
	p, err := l.docs.Elements(
		ctx, e.Key, e.Time, &one, document.Log{Field: e.Collection.AppendOnly.Field},
	)
	if err != nil || len(p.Elements) == 0 {
		return e, err
	}
	o, _ := p.Elements[len(p.Elements)-1].(*value.Object)
	v, _ := o.Get("data")
	data, is := v.(*value.Object)
	if !is {
		return e, nil
	}
	now := *e
	now.Data = data
	return &now, nil
}

// Apply changes the list at a storage path. It returns an error that is ErrFull or
// document.ErrConflict.
func (l *Lists) Apply(ctx context.Context, target string, op Op, most Bounds) error {
	return l.apply(ctx, target, func() (*Op, error) { return &op, nil }, most)
}

// apply changes the list by what project returns, nil for nothing, which is asked each time when
// the list has been read: whatever else gets into the list then is of later writes.
func (l *Lists) apply(
	ctx context.Context, target string, project func() (*Op, error), most Bounds,
) error {
	lock := &l.locks[maphash.String(l.seed, target)%uint64(len(l.locks))]
	lock.Lock()
	defer lock.Unlock()
	for i := range attempts {
		now, err := l.docs.Get(ctx, target)
		if err != nil {
			return err
		}
		var base *string
		var items value.Array
		if now != nil {
			base = &now.Hash
			v, _ := now.Data.Get(Items)
			items, _ = v.(value.Array)
		}
		op, err := project()
		if err != nil || op == nil {
			return err
		}
		items, changed, err := fold(items, *op, most.Items)
		if err != nil || !changed {
			return err
		}
		list := value.NewObject(value.Member{Key: Items, Value: items})
		if n := sizeOf(list); most.Bytes > 0 && n > most.Bytes && (now == nil || n > sizeOf(now.Data)) {
			return fmt.Errorf("%w: it would have %d bytes, and has at most %d; "+
				"maxBodyBytes of its collection lets it be longer", ErrFull, n, most.Bytes)
		}
		_, err = l.docs.Push(ctx, target, list, base, nil, false)
		if !errors.Is(err, document.ErrConflict) {
			return err
		}
		select {
		case <-time.After(rand.N(attemptWait * time.Duration(i+1))):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return fmt.Errorf("list %s: %w", target, document.ErrConflict)
}

func sizeOf(list *value.Object) int64 { return int64(len(value.Append(nil, list))) }

// fold returns a list after a change, which is a new one.
func fold(items value.Array, op Op, maxItems int) (after value.Array, changed bool, err error) {
	at := -1
	for i, v := range items {
		o, _ := v.(*value.Object)
		if id, _ := o.String("id"); id != op.ID {
			continue
		}
		switch source, _ := o.String("source"); source {
		case op.Source:
			at = i
		case "": // of before the list had several, unless there is another
			if at < 0 {
				at = i
			}
		}
	}
	switch {
	case op.Remove && at < 0:
		return items, false, nil
	case op.Remove:
		return append(append(value.Array{}, items[:at]...), items[at+1:]...), true, nil
	case at < 0 && maxItems > 0 && len(items) >= maxItems:
		return items, false, ErrFull
	}
	after = append(value.Array{}, items...)
	entry := value.NewObject(value.Member{Key: "id", Value: op.ID})
	if op.Source != "" {
		entry.Set("source", op.Source)
	}
	entry.Set("value", op.Value)
	if at < 0 {
		return append(after, entry), true, nil
	}
	after[at] = entry
	return after, true, nil
}

// Configured returns the lists of a configuration.
func Configured(c *config.Config) (all []*Projection) {
	for _, p := range c.Projections {
		several := hasSeveral(c, p)
		all = append(all, &Projection{
			Matches: func(col *config.Collection) bool { return isSource(p, col) },
			Target: func(e *collections.Event) (string, error) {
				key, err := e.Made(p.Target)
				if err != nil {
					return "", fmt.Errorf("%s: %w", p.Target, err)
				}
				return key, nil
			},
			Project: func(e *collections.Event) *Op {
				op := project(p, e)
				if several {
					op.Source = nameOf(e.Collection)
				}
				return op
			},
			MaxItems: p.MaxItems,
		})
	}
	return all
}

func isSource(p *config.Projection, col *config.Collection) bool {
	for _, name := range p.Sources {
		if name == col.Name || name == nameOf(col) {
			return true
		}
	}
	return false
}

// nameOf is the name of a collection, with its namespace if it is in one.
func nameOf(col *config.Collection) string {
	if col.Namespace == "" {
		return col.Name
	}
	return col.Namespace + "/" + col.Name
}

// hasSeveral reports whether a list of a projection may have entries of several collections.
func hasSeveral(c *config.Config, p *config.Projection) bool {
	target := config.ParseTemplate(p.Target)
	names := map[string]bool{}
	for _, other := range c.Projections {
		if other != p && !config.ParseTemplate(other.Target).Overlaps(target) {
			continue
		}
		for _, col := range c.All() {
			if isSource(other, col) {
				names[nameOf(col)] = true
			}
		}
	}
	return len(names) > 1
}

func fill(template string, params map[string]string) string {
	for k, v := range params {
		template = strings.ReplaceAll(template, "{"+k+"}", v)
	}
	return template
}

func project(p *config.Projection, e *collections.Event) *Op {
	op := &Op{ID: fill(p.ID, e.Params)}
	if p.Removed != "" {
		if v, _ := e.Data.Get(p.Removed); v == true {
			op.Remove = true
			return op
		}
	}
	if p.Fields == nil {
		op.Value = e.Data
		for _, f := range e.Collection.FieldPermissions {
			// whoever reads the list need not have these
			if _, there := op.Value.Get(f.Field); there && len(f.ReadRoles) > 0 {
				op.Value = op.Value.Clone()
				op.Value.Delete(f.Field)
			}
		}
		return op
	}
	op.Value = &value.Object{}
	for _, f := range p.Fields {
		if v, ok := e.Data.Get(f); ok {
			op.Value.Set(f, v)
		}
	}
	return op
}
