package collections

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/skerry-sync/skerry/collections/access"
	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/reach"
	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/value"
	"github.com/skerry-sync/skerry/internal/sandbox"
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
	ctx := x.context(x.object, x.who)
	err := x.pullOf(ctx)
	entry := AuditEntry{
		Action: x.route.action, Namespace: col.Namespace, Collection: col.Name, Identity: x.who.Identity,
		Key: x.object.Key, Status: http.StatusOK, Params: x.params,
	}
	if err != nil {
		entry.Status = statusOf(err)
	}
	x.audit(ctx, entry)
	return err
}

func (x *exchange) pullOf(ctx context.Context) error {
	col := x.object.Collection
	if err := x.beforePull(ctx, x.object, x.who); err != nil {
		return err
	}
	switch {
	case col.Binary():
		return x.pullFile(ctx)
	case col.AppendOnly != nil && col.AppendOnly.Persist:
		return x.pullLog(ctx)
	}
	return x.pullDocument(ctx)
}

// beforePull asks the hooks of pulls, in whatever way an object is read.
func (x *exchange) beforePull(ctx context.Context, o *reach.Object, who *caller) error {
	for _, h := range x.s.opts.Hooks {
		if h.BeforePull == nil {
			continue
		}
		e := &Event{
			Collection: o.Collection, Params: o.Params, Key: o.Key, Identity: who.Identity, Proof: who.Proof,
			reach: x.routes.reach,
		}
		if err := h.BeforePull(ctx, e); err != nil {
			return err
		}
	}
	return nil
}

// event is what hooks are told of a push.
func (x *exchange) event() *Event {
	return &Event{
		Collection: x.object.Collection, Params: x.object.Params, Key: x.object.Key,
		Identity: x.who.Identity, Proof: x.who.Proof, Fields: x.fieldsOf(), reach: x.routes.reach,
	}
}

// toCallerOnly says that an answer depends on who asks: no cache that others share may keep it, and
// one of the caller's own gives it to no other caller, and asks each time whether it still holds.
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

// unchanged answers a caller who has what has a hash, and reports whether it has. beside tells
// apart answers of the same hash, by what stands beside it.
func (x *exchange) unchanged(hash, beside string) bool {
	if hash == "" {
		return false
	}
	etag := `"` + hash + beside + `"`
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

func (x *exchange) pullDocument(ctx context.Context) error {
	now := x.s.opts.Documents.Now()
	d, err := x.view(ctx, x.object, x.who, now)
	if err != nil {
		return err
	}
	x.cacheControl()
	keyring, beside, etag := (*view)(nil), false, ""
	if !d.over {
		keyring, beside = x.keyring(now)
	}
	if beside {
		etag = "+"
		if keyring != nil {
			etag += keyring.hash
		}
	}
	if x.unchanged(d.hash, etag) {
		return nil
	}
	text := d.Text()
	b := append(make([]byte, 0, len(text)+256), `{"data":`...)
	b = value.AppendString(append(append(b, text...), `,"hash":`...), d.hash)
	b = strconv.AppendInt(append(b, `,"timestamp":`...), now, 10)
	if d.author != nil {
		b = value.AppendString(append(b, `,"authorPubkey":`...), d.author.Key)
		b = value.AppendString(append(b, `,"authorSignature":`...), d.author.Signature)
	}
	if beside {
		b = appendKeyring(append(b, `,"keyring":`...), keyring, now)
	}
	return x.answer(append(b, '}'))
}

// keyring returns the keyring beside the document that is pulled, as the caller may see it, nil if
// there is none; asked is false if it was not asked for, or if the caller may not have it.
func (x *exchange) keyring(now int64) (shown *view, asked bool) {
	if x.r.URL.RawQuery == "" {
		return nil, false
	}
	if v := x.r.URL.Query().Get("withKeyring"); v != "1" && !strings.EqualFold(v, "true") {
		return nil, false
	}
	key := x.object.Key + "/_keyring"
	o := x.routes.reach.At(key)
	if o == nil { // where nobody can have written one
		return nil, x.who.Scope.HasPath(key)
	}
	if o.Collection.AppendOnly != nil || o.Collection.Binary() { // no pull without bounds shows it
		return nil, false
	}
	who, err := x.permit(x.r.Context(), o, reach.Pull)
	if err != nil {
		return nil, false
	}
	if _, ok := x.count(x.routes.pulls[o.Collection], who.Identity); !ok {
		return nil, false
	}
	if err := x.beforePull(x.context(o, who), o, who); err != nil {
		return nil, false
	}
	d, err := x.view(x.context(o, who), o, who, now)
	if err != nil {
		x.s.opts.Log.Warn("the keyring beside a document cannot be read", "key", key, "error", err)
		return nil, true
	}
	if d.hash == "" {
		return nil, true
	}
	return d, true
}

func appendKeyring(b []byte, d *view, now int64) []byte {
	if d == nil {
		return append(b, "null"...)
	}
	b = append(append(append(b, `{"data":`...), d.Text()...), `,"hash":`...)
	b = strconv.AppendInt(append(value.AppendString(b, d.hash), `,"timestamp":`...), now, 10)
	return append(b, '}')
}

// number reads a parameter of a query that is a whole number that is not negative. It returns a
// reason if it is not.
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

func (x *exchange) pullLog(ctx context.Context) error {
	now := x.s.opts.Documents.Now()
	q := x.r.URL.Query()
	if q.Has("cursor") {
		return x.pullNews(ctx, q, now)
	}
	b, err := x.boundsOf(q)
	if err == nil {
		err = b.check(x.object.Collection.AppendOnly, now)
	}
	if err != nil {
		return err
	}
	p, err := x.elements(ctx, x.object, b, x.who, now)
	if err != nil {
		return err
	}
	if p.data == nil {
		p.data = &value.Object{}
	}
	if p.undecided > 0 { // what is to come may change nothing of the hash
		x.w.Header().Set("Cache-Control", "no-store")
	} else {
		if p.hash != "" {
			x.cacheControl()
		}
		// The hash is of the last element; fields may be hidden in others.
		if x.unchanged(p.hash, hiding(x.object.Collection.FieldPermissions, x.who)) {
			return nil
		}
	}
	return x.answer(value.Append(nil, p.with(value.NewObject(
		value.Member{Key: "data", Value: p.data}, value.Member{Key: "hash", Value: p.hash},
		value.Member{Key: "timestamp", Value: float64(now)}))))
}

func (x *exchange) pullFile(ctx context.Context) error {
	o, err := x.s.opts.Documents.Store().Get(ctx, x.object.Key)
	if errors.Is(err, store.ErrNotFound) {
		return &answered{Answer{Status: http.StatusNotFound}}
	}
	if err != nil {
		return err
	}
	if err := x.takeRoom(len(o.Body)); err != nil {
		return err
	}
	x.cacheControl()
	hash := o.Memo(func() any { sum := sha256.Sum256(o.Body); return hex.EncodeToString(sum[:]) })
	h := x.w.Header()
	h.Set("Etag", `"`+hash.(string)+`"`)
	h.Set("Content-Type", o.Type)
	content := x.object.Collection.Content
	sandbox.Protect(
		h, o.Type, sandbox.Policy{Active: content.Active, Embedding: sandbox.Embedding(content.Embed)},
	)
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
	ctx := x.context(x.object, x.who)
	prefix := x.object.Key
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
	ends := false // before the last key, as the request has no steps left
	shown := func(key string) bool {
		ends = ends || !x.mayMatch(x.who, key)
		return !ends && x.routes.reach.Lists(&x.who.Auth, col, key)
	}
	items, more, err := x.s.opts.Documents.ListOf(
		ctx, prefix, q.Get("after"), int(min(*limit, maxListed)), shown,
	)
	if err != nil {
		return err
	}
	if ends && len(items) == 0 { // from where nobody could go on
		return tooManyPaths()
	}
	more = more || ends
	all := make(value.Array, len(items))
	for i, s := range items {
		all[i] = s
	}
	x.audit(
		ctx,
		AuditEntry{
			Action: x.route.action, Namespace: col.Namespace, Collection: col.Name, Identity: x.who.Identity,
			Key: prefix, Status: http.StatusOK, Params: x.params,
		},
	)
	return x.answer(value.Append(nil, value.NewObject(
		value.Member{Key: "items", Value: all}, value.Member{Key: "hasMore", Value: more})))
}

const (
	badLimit = "Invalid limit parameter"
	// maxListed is how many items there are on a page of a list.
	maxListed = 1000
)

func ptr[T any](v T) *T { return &v }
