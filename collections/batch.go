package collections

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"

	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/reach"
	"github.com/skerry-sync/skerry/collections/value"
)

// batch is a request for several documents at once.
type batch struct {
	x      *exchange
	byName map[string]*config.Collection
	names  []string // of collections, each once
	params map[string][]*value.Object
	parts  map[string][]*bounds // of logs, for each set of parameters; nil is all of a document
}

// batchOf answers batches of some collections.
func batchOf(cols []*config.Collection) func(x *exchange) error {
	byName := map[string]*config.Collection{}
	for _, c := range cols {
		byName[c.Name] = c
	}
	return func(x *exchange) error {
		b := &batch{x: x, byName: byName}
		if err := b.parse(); err != nil {
			return err
		}
		return b.answer()
	}
}

func bad(reason string) error { return refuse(http.StatusBadRequest, reason) }

func (b *batch) parse() error {
	q := b.x.r.URL.Query()
	if q.Get("collections") == "" {
		return bad("Missing collections parameter")
	}
	for _, name := range strings.Split(q.Get("collections"), ",") {
		if name = strings.TrimSpace(name); name != "" && !slices.Contains(b.names, name) {
			if b.names = append(b.names, name); len(b.names) > b.x.s.opts.MaxBatch {
				return bad("Too many collections")
			}
		}
	}
	if err := b.parseParams(q.Get("params")); err != nil {
		return err
	}
	if err := b.parseParts(q.Get("appendParams")); err != nil {
		return err
	}
	for name, parts := range b.parts {
		if sets, ok := b.params[name]; ok && len(sets) != len(parts) {
			return bad("appendParams length mismatch: must equal params length for each collection")
		}
	}
	reads := 0
	for _, name := range b.names {
		reads += len(b.sets(name))
	}
	if reads > b.x.s.opts.MaxBatch {
		return bad("Too many collections")
	}
	return b.checkBudget()
}

// sets returns the sets of parameters for a collection, one document each.
func (b *batch) sets(name string) []*value.Object {
	if sets, ok := b.params[name]; ok {
		return sets
	}
	return []*value.Object{{}}
}

func (b *batch) parseParams(text string) error {
	const reason = "Invalid params parameter"
	b.params = map[string][]*value.Object{}
	if text == "" {
		return nil
	}
	o, err := value.ParseObject([]byte(text), value.MaxDepth)
	if err != nil {
		return bad(reason)
	}
	for name, v := range o.All() {
		a, ok := v.(value.Array)
		if !ok {
			return bad(reason)
		}
		b.params[name] = []*value.Object{}
		for _, e := range a {
			set, ok := e.(*value.Object)
			if !ok {
				return bad(reason)
			}
			b.params[name] = append(b.params[name], set)
		}
	}
	return nil
}

func (b *batch) parseParts(text string) error {
	const reason = "Invalid appendParams parameter"
	b.parts = map[string][]*bounds{}
	if text == "" {
		return nil
	}
	o, err := value.ParseObject([]byte(text), value.MaxDepth)
	if err != nil {
		return bad(reason)
	}
	for name, v := range o.All() {
		a, ok := v.(value.Array)
		if !ok {
			return bad(reason)
		}
		for _, e := range a {
			if e == nil {
				b.parts[name] = append(b.parts[name], nil)
				continue
			}
			part, ok := e.(*value.Object)
			if !ok {
				return bad(reason)
			}
			switch full, _ := part.Get("full"); full {
			case true, 1.0, "true", "1":
				return bad(fmt.Sprintf("appendParams[%q]: full is not allowed in batch pull", name))
			}
			var p bounds
			var limit *int64
			for key, at := range map[string]**int64{"since": &p.after, "last": &p.last, "limit": &limit} {
				v, _ := part.Get(key)
				if v == nil {
					continue
				}
				f, ok := v.(float64)
				if !ok || f != math.Trunc(f) || f < 0 || f > 1<<53 {
					return bad(reason)
				}
				*at = ptr(int64(f))
			}
			if limit != nil {
				p.last = limit
			}
			b.parts[name] = append(b.parts[name], &p)
		}
	}
	return nil
}

// unboundedElements is how many elements a part has of a log that does not say how many it may
// have.
const unboundedElements = 1000

// mostOf is how many elements a part of a log counts for that does not say how many it wants.
func mostOf(a *config.AppendOnly) int64 { return cmp.Or(a.MaxPullLimit, unboundedElements) }

// costOf is how many elements a part counts for that says how many it wants: as many as it gets.
func costOf(last int64, a *config.AppendOnly) int64 {
	if a.MaxPullLimit > 0 {
		return min(last, a.MaxPullLimit)
	}
	return last
}

// part returns which part of the log of a set of parameters is asked for, nil if that is not said.
func (b *batch) part(name string, i int) *bounds {
	if parts := b.parts[name]; i < len(parts) {
		return parts[i]
	}
	return nil
}

// unsaid is the part that is given to whoever does not say which: what a pull could ask for.
func unsaid(a *config.AppendOnly, now int64) bounds {
	if a.AllowFull {
		return bounds{full: true}
	}
	b := bounds{last: ptr(mostOf(a))}
	if a.MaxCheckpointAgeMS > 0 {
		b.after = ptr(max(0, now-a.MaxCheckpointAgeMS))
	}
	return b
}

func (b *batch) checkBudget() error {
	total := int64(0)
	for _, name := range b.names {
		col := b.byName[name]
		if col == nil || col.AppendOnly == nil || !col.AppendOnly.Persist {
			continue // which has no elements
		}
		for i := range b.sets(name) {
			switch p := b.part(name, i); {
			case p == nil && col.AppendOnly.AllowFull: // as much as there is, as a pull may ask for
			case p != nil && p.last != nil:
				total += costOf(*p.last, col.AppendOnly)
			default:
				total += mostOf(col.AppendOnly)
			}
			if total > b.x.s.opts.MaxElements { // here, as the sum of many has no bound
				return bad("Batch append element budget exceeded")
			}
		}
	}
	return nil
}

func (b *batch) answer() error {
	x := b.x
	ctx := x.r.Context()
	// Whoever cannot be identified is nobody in particular, and sees what anybody may.
	if err := x.identify(ctx); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		x.audit(ctx, AuditEntry{Action: reach.Pull, Status: statusOf(err)})
	}
	// Each entry is written before the next is read, so that no more of them than one is in memory
	// in the form in which it is read.
	texts, total := map[string][]byte{}, 0
	order := &value.Object{} // of the collections
	for _, name := range b.names {
		order.Set(name, nil)
		col, entries := b.byName[name], []byte{'['}
		for i, set := range b.sets(name) {
			if i > 0 {
				entries = append(entries, ',')
			}
			before := len(entries)
			switch {
			case col == nil:
				entries = value.Append(entries, problem("Collection not found"))
			case total >= x.s.opts.MaxBatchBytes:
				entries = value.Append(entries, problem("Batch response too large"))
			default:
				entries = value.Append(entries, b.read(ctx, col, set, b.part(name, i)))
			}
			x.endTurn()
			total += len(entries) - before
			if total > shortAnswer {
				if err := x.takeRoom(total - x.held); err != nil {
					return err
				}
			}
			if ctx.Err() != nil { // what has been read is not told as all that there is
				return ctx.Err()
			}
		}
		texts[name] = append(entries, ']')
	}
	// These may be long, and are not copied.
	replyBytes(x.w, http.StatusOK, []byte(`{"collections":{`))
	begin := []byte(nil)
	for name := range order.All() {
		_, _ = x.w.Write(append(value.AppendString(begin, name), ':')) // as replyBytes
		_, _ = x.w.Write(texts[name])
		begin = []byte{','}
	}
	_, _ = x.w.Write([]byte("}}"))
	return nil
}

func problem(reason string) *value.Object {
	return value.NewObject(value.Member{Key: "error", Value: reason})
}

// neverInBatch are the last segments of paths that are not read in batches, whatever roles a caller
// is given.
var neverInBatch = []string{"_keyring", "_members"}

// params returns the parameters of a document of a batch; ok is false if one is missing.
func (b *batch) paramsOf(
	col *config.Collection, set *value.Object,
) (params map[string]string, ok bool) {
	params = map[string]string{}
	for _, name := range config.Params(col.StoragePath) {
		switch v, _ := set.Get(name); v := v.(type) {
		case string:
			params[name] = v
		case float64:
			params[name] = string(value.Append(nil, v))
		default:
			if name != config.IdentityParam || b.x.base.Identity == "" {
				return nil, false
			}
			params[name] = b.x.base.Identity
		}
	}
	if id, there := params[config.IdentityParam]; there {
		if params[config.IdentityParam], ok = config.IdentityOf(id); !ok {
			params[config.IdentityParam] = "" // which is no parameter
		}
	}
	return params, true
}

// read reads one document of a batch.
func (b *batch) read(
	ctx context.Context, col *config.Collection, set *value.Object, part *bounds,
) *value.Object {
	x := b.x
	params, ok := b.paramsOf(col, set)
	if !ok {
		return problem("Missing required path parameter")
	}
	o, err := x.routes.reach.Object(col, params)
	if errors.Is(err, reach.ErrParam) {
		return problem(badPathReason(err))
	}
	entry := AuditEntry{
		Action: reach.Pull, Namespace: col.Namespace, Collection: col.Name, Identity: x.base.Identity,
		Params: params,
	}
	failed := func(err error) *value.Object {
		entry.Status = statusOf(err)
		x.audit(ctx, entry)
		if entry.Status == http.StatusInternalServerError && !errors.As(err, new(*answered)) {
			x.s.opts.Log.Error("a document of a batch could not be read", "key", entry.Key, "error", err)
			return problem("Internal error")
		}
		return problem(x.reasonOf(err))
	}
	if err != nil { // it belongs to another collection
		return failed(refuse(http.StatusForbidden, "Forbidden"))
	}
	who, err := x.permit(ctx, o, reach.Pull)
	if err == nil && slices.Contains(neverInBatch, o.Key[strings.LastIndexByte(o.Key, '/')+1:]) {
		err = refuse(http.StatusForbidden, "Forbidden")
	}
	if err == nil {
		if _, ok := x.count(x.routes.pulls[col], who.Identity); !ok {
			err = refuse(http.StatusTooManyRequests, tooMany)
		}
	}
	if err != nil {
		return failed(err)
	}
	entry.Key = o.Key
	now := x.s.opts.Documents.Now()
	ctx = x.context(o, who)
	if err := x.beforePull(ctx, o, who); err != nil {
		return failed(err)
	}
	var shown logPart
	if part != nil || col.AppendOnly != nil && col.AppendOnly.Persist {
		shown, err = b.readLog(ctx, o, part, who, now)
	} else {
		var d *view
		if d, err = x.view(ctx, o, who, now); err == nil {
			shown.data, shown.hash = d.Data(), d.hash
		}
	}
	if err != nil {
		return failed(err)
	}
	entry.Status = http.StatusOK
	x.audit(ctx, entry)
	return shown.with(value.NewObject(
		value.Member{Key: "data", Value: shown.data}, value.Member{Key: "hash", Value: shown.hash},
		value.Member{Key: "timestamp", Value: float64(now)},
	))
}

func (b *batch) readLog(
	ctx context.Context, o *reach.Object, part *bounds, who *caller, now int64,
) (p logPart, err error) {
	a := o.Collection.AppendOnly
	if a == nil || !a.Persist {
		return p, bad("append_params_not_supported")
	}
	of := unsaid(a, now)
	if part != nil {
		of = *part
		if err := of.check(a, now); err != nil {
			return p, err
		}
	}
	p, err = b.x.elements(ctx, o, of, who, now)
	switch {
	case err != nil:
		return p, err
	case p.hash == "" && part == nil:
		p.data = &value.Object{}
	case p.data == nil:
		p.data = value.NewObject(value.Member{Key: a.Field, Value: value.Array{}})
	}
	return p, nil
}
