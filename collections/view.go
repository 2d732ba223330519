package collections

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strconv"

	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/collections/reach"
	"github.com/skerry-sync/skerry/collections/value"
)

// A caller is shown views: what it may see of a document or log, with a hash of just that. A hash
// of all would let it find out by trying what is hidden; for the same reason nothing is shown of an
// author's signature over what is hidden in part.

// view is a document as a caller may see it.
type view struct {
	doc    *document.Document // nil if there is none to show
	data   *value.Object      // what is shown of it, if that is not all
	hash   string             // of what is shown; "" if there is nothing
	author *document.Author
	over   bool // there is something, and its time is over
}

// Data returns what is shown.
func (v *view) Data() *value.Object {
	switch {
	case v.data != nil:
		return v.data
	case v.doc != nil:
		return v.doc.Data
	}
	return &value.Object{}
}

// Text returns what is shown as JSON.
func (v *view) Text() []byte {
	switch {
	case v.data != nil:
		return value.Append(nil, v.data)
	case v.doc != nil:
		return v.doc.Text()
	}
	return []byte("{}")
}

// document reads a document; what is none is as if there was none.
func (x *exchange) document(ctx context.Context, key string) (*document.Document, error) {
	d, err := x.s.opts.Documents.Get(ctx, key)
	if errors.Is(err, document.ErrCorrupt) {
		x.s.opts.Log.Error("a stored document cannot be read", "key", key, "error", err)
		return nil, nil
	}
	return d, err
}

// view reads a document as a caller may see it, who may pull it.
func (x *exchange) view(
	ctx context.Context, o *reach.Object, who *caller, now int64,
) (*view, error) {
	d, err := x.document(ctx, o.Key)
	switch {
	case err != nil:
		return nil, err
	case d == nil:
		return &view{}, nil
	case expired(o.Collection, d.Time, now):
		return &view{over: true}, nil
	}
	shown := hide(o.Collection.FieldPermissions, d.Data, who)
	if shown == d.Data {
		return &view{doc: d, hash: d.Hash, author: d.Author}, nil
	}
	return &view{doc: d, data: shown, hash: value.Hash(shown)}, nil
}

// expired reports whether what was written at a time, in Unix milliseconds, is too old to be shown.
func expired(col *config.Collection, written, now int64) bool {
	return col.TTLMS != nil && *col.TTLMS > 0 && written > 0 && now-written > *col.TTLMS
}

// hiding names the set of fields that are hidden from a caller, "" if none is.
func hiding(all []config.FieldPermission, who *caller) string {
	var names []byte
	for _, f := range all {
		if !readableBy(f, who) {
			names = strconv.AppendQuote(names, f.Field)
		}
	}
	if len(names) == 0 {
		return ""
	}
	sum := sha256.Sum256(names)
	return "-" + hex.EncodeToString(sum[:8])
}

// logPart is a part of a log as a caller may see it.
type logPart struct {
	data      *value.Object
	hash      string // "" if there is no log
	undecided int    // elements that are left out and may come to count
}

// with adds to an answer what it lacks, of which readers need to know.
func (p *logPart) with(answer *value.Object) *value.Object {
	return withUndecided(answer, p.undecided)
}

func withUndecided(answer *value.Object, n int) *value.Object {
	if n > 0 {
		answer.Set("undecided", float64(n))
	}
	return answer
}

// elements reads a part of a log as the caller may see it.
func (x *exchange) elements(
	ctx context.Context, o *reach.Object, b bounds, who *caller, now int64,
) (shown logPart, err error) {
	col, a := o.Collection, o.Collection.AppendOnly
	after := int64(-1)
	if b.after != nil {
		after = *b.after
	}
	p, err := x.s.opts.Documents.Elements(ctx, o.Key, after, b.last, document.Log{
		Field: a.Field, Before: x.takeTurn, Skipped: x.skipped})
	if errors.Is(err, document.ErrCorrupt) {
		x.s.opts.Log.Error("a stored log cannot be read", "key", o.Key, "error", err)
		p, err = document.Part{}, nil
	}
	if err != nil {
		return shown, err
	}
	elements := p.Elements
	if elements == nil {
		elements = value.Array{}
	}
	if expired(col, p.Time, now) {
		return shown, nil
	}
	shown.undecided, shown.hash = p.Undecided, p.Hash
	if p.Hash == "" {
		shown.data = hideInLog(col, value.NewObject(value.Member{Key: a.Field, Value: elements}), who)
		return shown, nil
	}
	shown.data = p.Rest.Clone()
	shown.data.Set(a.Field, elements)
	shown.data = hideInLog(col, shown.data, who)
	if len(col.FieldPermissions) == 0 {
		return shown, nil
	}
	// Of a log that another server keeps in one document, the stored hash covers all its elements.
	last, ok := p.Last.(*value.Object)
	if ok {
		shown.hash = document.LogHash(p.Length, hide(col.FieldPermissions, last, who))
	}
	return shown, nil
}

// skipped logs that elements of logs are left out, of which there may be thousands.
func (x *exchange) skipped(err error) {
	if !x.skips {
		x.skips = true
		x.s.opts.Log.Error("stored elements cannot be read", "error", err)
	}
}

// hideInLog returns a part of a log without the fields that a caller may not read.
func hideInLog(col *config.Collection, data *value.Object, who *caller) *value.Object {
	if len(col.FieldPermissions) == 0 {
		return data
	}
	data = hide(col.FieldPermissions, data, who)
	v, ok := data.Get(col.AppendOnly.Field)
	if !ok {
		return data
	}
	shown := value.Array{}
	for _, e := range v.(value.Array) {
		shown = append(shown, hideIn(col.FieldPermissions, e, who))
	}
	data = data.Clone()
	data.Set(col.AppendOnly.Field, shown)
	return data
}

// hideIn returns an element of a log without what a caller may not read of its data.
func hideIn(all []config.FieldPermission, element any, who *caller) any {
	o, _ := element.(*value.Object)
	v, _ := o.Get("data")
	inner, ok := v.(*value.Object)
	if !ok {
		return element
	}
	shown := hide(all, inner, who)
	if shown == inner {
		return element
	}
	o = o.Clone()
	o.Set("data", shown)
	o.Delete("authorPubkey")
	o.Delete("authorSignature")
	return o
}
