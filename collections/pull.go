package collections

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/skerry-sync/skerry/collections/access"
	"github.com/skerry-sync/skerry/collections/capcert"
	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/value"
	"github.com/skerry-sync/skerry/internal/serve"
)

// pull answers with a document, a file or a part of a log.
func (x *exchange) pull() error {
	col := x.route.col
	if err := x.authorize(x.r.Context()); err != nil {
		return err
	}
	if err := x.limit(); err != nil {
		return err
	}
	ctx := x.context(col, x.params, x.who)
	key, err := x.key()
	if err != nil {
		return err
	}
	if err = x.pullOf(ctx, key); err != nil {
		x.audit(ctx, AuditEntry{Action: "pull", Namespace: col.Namespace, Collection: col.Name, Identity: x.who.Identity, Key: key, Status: statusOf(err), Params: x.params})
		return err
	}
	x.audit(ctx, AuditEntry{Action: "pull", Namespace: col.Namespace, Collection: col.Name, Identity: x.who.Identity, Key: key, Status: http.StatusOK, Params: x.params})
	return nil
}

func (x *exchange) pullOf(ctx context.Context, key string) error {
	col := x.route.col
	for _, h := range x.s.opts.Hooks {
		if h.BeforePull != nil {
			if err := h.BeforePull(ctx, x.event(key)); err != nil {
				return err
			}
		}
	}
	switch {
	case col.Binary():
		return x.pullFile(ctx, key)
	case col.AppendOnly != nil && col.AppendOnly.Persist:
		return x.pullLog(ctx, key)
	}
	return x.pullDocument(ctx, key)
}

func (x *exchange) event(key string) *Event {
	return &Event{Collection: x.route.col, Params: x.params, Key: key, Identity: x.who.Identity, Proof: x.who.Proof}
}

// toCallerOnly says that an answer depends on who asks: no cache that others share may keep it, and one
// of the caller's own gives it to no other caller, and asks each time whether it still holds.
func (x *exchange) toCallerOnly() {
	h := x.w.Header()
	h.Set("Cache-Control", "private, no-cache")
	for _, name := range append([]string{"Authorization", access.HeaderPublic}, x.s.opts.Vary...) {
		h.Add("Vary", name)
	}
}

// cacheControl says how long an answer may be kept.
func (x *exchange) cacheControl() {
	if d := x.route.col.CacheDurationMS; d != nil {
		directive := "max-age=" + strconv.FormatInt(*d/1000, 10)
		if x.who.known || !x.route.col.PublicRead() {
			directive = "private, " + directive
		}
		x.w.Header().Set("Cache-Control", directive)
	}
}

// unchanged answers a caller who has what has a hash, and reports whether it has. variant tells apart
// answers of the same hash: of what is hidden, or stands beside it (see hiding).
func (x *exchange) unchanged(hash, variant string) bool {
	if hash == "" {
		return false
	}
	etag := `"` + hash + variant + `"`
	x.w.Header()["Etag"] = []string{etag}
	if x.r.Header["If-None-Match"] == nil {
		return false
	}
	for _, have := range strings.Split(strings.Join(x.r.Header.Values("If-None-Match"), ","), ",") {
		if have = strings.TrimPrefix(strings.TrimSpace(have), "W/"); have == etag || have == "*" {
			x.w.WriteHeader(http.StatusNotModified)
			return true
		}
	}
	return false
}

// hiding names the set of fields that are hidden from a caller, so that answers which show different
// fields of a document have different ETags; "" if none is.
func hiding(all []config.FieldPermission, who *caller) string {
	var names []string
	for _, f := range all {
		if !readableBy(f, who) {
			names = append(names, strconv.Quote(f.Field))
		}
	}
	if len(names) == 0 {
		return ""
	}
	sum := sha256.Sum256([]byte(strings.Join(names, ",")))
	return "-" + hex.EncodeToString(sum[:8])
}

func readableBy(f config.FieldPermission, who *caller) bool {
	return len(f.ReadRoles) == 0 || slices.Contains(f.ReadRoles, config.RolePublic) || slices.ContainsFunc(f.ReadRoles, who.has)
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

// expired reports whether what was written at a time, in Unix milliseconds, is too old to be shown.
func expired(col *config.Collection, written, now int64) bool {
	return col.TTLMS != nil && *col.TTLMS > 0 && written > 0 && now-written > *col.TTLMS
}

func (x *exchange) pullDocument(ctx context.Context, key string) error {
	col := x.route.col
	now := x.s.opts.Documents.Now()
	d, err := x.document(ctx, key)
	if err != nil {
		return err
	}
	x.cacheControl()
	text, hash := []byte("{}"), ""
	gone := d != nil && expired(col, d.Time, now)
	if d != nil && !gone {
		text, hash = x.readable(col, d), d.Hash
	}
	variant, keyring := hiding(col.FieldPermissions, x.who), (*document.Document)(nil)
	beside := !gone && x.wantsKeyring(key)
	if beside {
		keyring = x.keyring(ctx, key)
		variant += "+"
		if keyring != nil {
			variant += keyring.Hash
		}
	}
	if x.unchanged(hash, variant) {
		return nil
	}
	b := append(make([]byte, 0, len(text)+256), `{"data":`...)
	b = value.AppendString(append(append(b, text...), `,"hash":`...), hash)
	b = strconv.AppendInt(append(b, `,"timestamp":`...), now, 10)
	if d != nil && !gone && d.Author != nil {
		b = value.AppendString(append(b, `,"authorPubkey":`...), d.Author.Key)
		b = value.AppendString(append(b, `,"authorSignature":`...), d.Author.Signature)
	}
	if beside {
		b = appendKeyring(append(b, `,"keyring":`...), keyring, now)
	}
	replyBytes(x.w, http.StatusOK, append(b, '}'))
	return nil
}

// readable returns the data of a document without what the caller may not read.
func (x *exchange) readable(col *config.Collection, d *document.Document) []byte {
	if len(col.FieldPermissions) == 0 {
		return d.Text()
	}
	return value.Append(nil, hide(col.FieldPermissions, d.Data, x.who))
}

// hide returns data without the fields that a caller may not read.
func hide(all []config.FieldPermission, data *value.Object, who *caller) *value.Object {
	var hidden []string
	for _, f := range all {
		if !readableBy(f, who) {
			hidden = append(hidden, f.Field)
		}
	}
	if len(hidden) == 0 {
		return data
	}
	shown := data.Clone()
	shown.Delete(hidden...)
	return shown
}

// wantsKeyring reports whether the keyring beside a document is asked for, by somebody who may reach it.
func (x *exchange) wantsKeyring(key string) bool {
	if x.r.URL.RawQuery == "" {
		return false
	}
	v := x.r.URL.Query().Get("withKeyring")
	return (v == "1" || strings.EqualFold(v, "true")) && capcert.MatchPath(key+"/_keyring", x.who.Paths)
}

// keyring reads the keyring beside a document; nil if there is none that can be read.
func (x *exchange) keyring(ctx context.Context, key string) *document.Document {
	d, err := x.document(ctx, key+"/_keyring")
	if err != nil {
		x.s.opts.Log.Warn("the keyring beside a document cannot be read", "key", key, "error", err)
		return nil
	}
	return d
}

func appendKeyring(b []byte, d *document.Document, now int64) []byte {
	if d == nil {
		return append(b, "null"...)
	}
	b = append(append(append(b, `{"data":`...), d.Text()...), `,"hash":`...)
	b = strconv.AppendInt(append(value.AppendString(b, d.Hash), `,"timestamp":`...), now, 10)
	return append(b, '}')
}

// number reads a parameter of a query that is a whole number that is not negative. It returns a reason if it is not.
func number(q url.Values, name, reason string) (*int64, error) {
	if !q.Has(name) {
		return nil, nil
	}
	text := q.Get(name)
	n, err := strconv.ParseInt(text, 10, 54)
	if err != nil || n < 0 || strconv.FormatInt(n, 10) != text {
		return nil, refuse(http.StatusBadRequest, reason)
	}
	return &n, nil
}

// bounds are how much of a log is asked for.
type bounds struct {
	after *int64
	last  *int64
	full  bool
}

func (x *exchange) boundsOf(q url.Values) (b bounds, err error) {
	if b.after, err = number(q, "checkpoint", "Invalid checkpoint"); err != nil {
		return b, err
	}
	if b.last, err = number(q, "limit", "Invalid limit"); err == nil && b.last == nil {
		b.last, err = number(q, "last", "Invalid last")
	}
	full := q.Get("full")
	b.full = full == "true" || full == "1"
	return b, err
}

// check refuses bounds that a log does not allow, and cuts them to what it does.
func (b *bounds) check(a *config.AppendOnly, now int64) error {
	code := ""
	switch {
	case b.after == nil && b.last == nil && !b.full:
		code = "pull_bound_required"
	case b.full && (b.after != nil || b.last != nil):
		code = "full_with_bounds"
	case b.full && !a.AllowFull:
		code = "full_not_allowed"
	case b.after != nil && a.MaxCheckpointAgeMS > 0 && *b.after < now-a.MaxCheckpointAgeMS:
		code = "checkpoint_too_old"
	}
	if code != "" {
		return refuse(http.StatusBadRequest, code)
	}
	if b.last != nil && a.MaxPullLimit > 0 && *b.last > a.MaxPullLimit {
		b.last = &a.MaxPullLimit
	}
	return nil
}

// elements reads a part of a log as the caller may see it. hash is "" if there is no log.
func (x *exchange) elements(ctx context.Context, col *config.Collection, key string, b bounds, who *caller, now int64) (data *value.Object, hash string, err error) {
	a := col.AppendOnly
	after := int64(0)
	if b.after != nil {
		after = *b.after
	}
	p, err := x.s.opts.Documents.Elements(ctx, key, after, b.last, document.Log{Field: a.Field})
	if errors.Is(err, document.ErrCorrupt) {
		x.s.opts.Log.Error("a stored log cannot be read", "key", key, "error", err)
		p, err = document.Part{}, nil
	}
	if err != nil {
		return nil, "", err
	}
	elements := p.Elements
	if elements == nil {
		elements = value.Array{}
	}
	if p.Hash == "" {
		return value.NewObject(value.Member{Key: a.Field, Value: elements}), "", nil
	}
	data = p.Rest.Clone()
	if expired(col, p.Time, now) {
		return nil, "", nil
	}
	data.Set(a.Field, elements)
	return hideInLog(col, data, who), p.Hash, nil
}

// hideInLog returns a part of a log without the fields that a caller may not read.
func hideInLog(col *config.Collection, data *value.Object, who *caller) *value.Object {
	if len(col.FieldPermissions) == 0 {
		return data
	}
	data = hide(col.FieldPermissions, data, who)
	if v, ok := data.Get(col.AppendOnly.Field); ok {
		shown := value.Array{}
		for _, e := range v.(value.Array) {
			o, _ := e.(*value.Object)
			if inner, ok := o.Get("data"); ok {
				if inner, ok := inner.(*value.Object); ok {
					o = o.Clone()
					o.Set("data", hide(col.FieldPermissions, inner, who))
					e = o
				}
			}
			shown = append(shown, e)
		}
		data = data.Clone()
		data.Set(col.AppendOnly.Field, shown)
	}
	return data
}

func (x *exchange) pullLog(ctx context.Context, key string) error {
	now := x.s.opts.Documents.Now()
	q := x.r.URL.Query()
	if q.Has("cursor") {
		return x.pullNews(ctx, key, q, now)
	}
	b, err := x.boundsOf(q)
	if err == nil {
		err = b.check(x.route.col.AppendOnly, now)
	}
	if err != nil {
		return err
	}
	data, hash, err := x.elements(ctx, x.route.col, key, b, x.who, now)
	if err != nil {
		return err
	}
	if data == nil {
		data = &value.Object{}
	}
	if hash != "" {
		x.cacheControl()
	}
	if x.unchanged(hash, hiding(x.route.col.FieldPermissions, x.who)) {
		return nil
	}
	reply(x.w, http.StatusOK, value.NewObject(value.Member{Key: "data", Value: data}, value.Member{Key: "hash", Value: hash}, value.Member{Key: "timestamp", Value: float64(now)}))
	return nil
}

func (x *exchange) pullFile(ctx context.Context, key string) error {
	o, err := x.s.opts.Documents.Store().Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return &answered{Answer{Status: http.StatusNotFound}}
	}
	if err != nil {
		return err
	}
	x.cacheControl()
	hash := o.Memo(func() any { sum := sha256.Sum256(o.Body); return hex.EncodeToString(sum[:]) })
	h := x.w.Header()
	h.Set("Etag", `"`+hash.(string)+`"`)
	h.Set("Content-Type", o.Type)
	h.Set("X-Content-Type-Options", "nosniff")
	_ = serve.Content(x.w, x.r, bytes.NewReader(o.Body)) // which seeks without errors
	return nil
}

// list answers with what the last parameter of a collection's path may be.
func (x *exchange) list() error {
	col := x.route.col
	if err := x.authorize(x.r.Context()); err != nil {
		return err
	}
	if err := x.limit(); err != nil {
		return err
	}
	ctx := x.context(col, x.params, x.who)
	prefix, err := x.key()
	if err != nil {
		return err
	}
	if prefix != "" {
		prefix += "/"
	}
	q := x.r.URL.Query()
	limit, err := number(q, "limit", badLimit)
	switch {
	case err != nil:
		return err
	case limit == nil:
		limit = ptr[int64](100)
	case *limit == 0:
		return refuse(http.StatusBadRequest, badLimit)
	}
	items, more, err := x.s.opts.Documents.List(ctx, prefix, q.Get("after"), int(min(*limit, maxListed)))
	if err != nil {
		return err
	}
	all := make(value.Array, len(items))
	for i, s := range items {
		all[i] = s
	}
	x.audit(ctx, AuditEntry{Action: "list", Namespace: col.Namespace, Collection: col.Name, Identity: x.who.Identity, Key: prefix, Status: http.StatusOK, Params: x.params})
	reply(x.w, http.StatusOK, value.NewObject(value.Member{Key: "items", Value: all}, value.Member{Key: "hasMore", Value: more}))
	return nil
}

const (
	badLimit = "Invalid limit parameter"
	// maxListed is how many items there are on a page of a list.
	maxListed = 1000
)

func ptr[T any](v T) *T { return &v }
