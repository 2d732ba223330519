package collections

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"math"
	"net/http"
	"slices"
	"strings"

	"github.com/skerry-sync/skerry/collections/capcert"
	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/value"
)

// push stores a document or a file, or appends to a log.
func (x *exchange) push() error {
	col := x.route.col
	if err := x.authorize(x.r.Context()); err != nil {
		return err
	}
	ctx := x.context(x.object, x.who)
	e := x.event()
	body, err := x.pushOf(ctx, e)
	entry := AuditEntry{
		Action: x.route.action, Namespace: col.Namespace, Collection: col.Name, Identity: x.who.Identity,
		Key: e.Key, Status: http.StatusOK, Params: x.params,
	}
	if err != nil {
		entry.Status = statusOf(err)
		x.audit(ctx, entry)
		return err
	}
	after := context.WithoutCancel(ctx)
	for _, h := range x.s.opts.Hooks {
		if h.AfterWrite == nil {
			continue
		}
		if err := h.AfterWrite(after, e); err != nil {
			x.s.opts.Log.Warn(
				"what was to follow a write has failed", "collection", col.Name, "key", e.Key, "error", err,
			)
		}
	}
	x.audit(ctx, entry)
	reply(x.w, http.StatusOK, body)
	return nil
}

func (x *exchange) pushOf(ctx context.Context, e *Event) (any, error) {
	// These need no body, and a hook reads it.
	if x.r.ContentLength > x.route.col.MaxBodyBytes {
		return nil, refuse(http.StatusRequestEntityTooLarge, tooLarge)
	}
	if err := x.limit(); err != nil {
		return nil, err
	}
	if err := x.mustBeJSON(); err != nil {
		return nil, err
	}
	if answer, err := x.intercept(ctx, e); err != nil || answer != nil {
		if err == nil {
			err = &answered{*answer}
		}
		return nil, err
	}
	p, err := x.admit(e)
	if err != nil {
		return nil, err
	}
	return x.keep(ctx, e, p)
}

// pushed is what a request that may be done asks to be written.
type pushed struct {
	body   []byte // of the request
	data   *value.Object
	media  string // of a file
	base   *string
	at     *int64 // time of an element, nil if the request names none
	author *document.Author
}

// admit refuses a push that a collection does not take, and adds its data to the event.
func (x *exchange) admit(e *Event) (*pushed, error) {
	if x.route.col.Binary() {
		return x.admitFile()
	}
	body, err := x.admitData(e)
	if err != nil {
		return nil, err
	}
	p := &pushed{body: x.body}
	if x.route.col.AppendOnly != nil {
		return p, x.admitElement(e, body, p)
	}
	return p, x.admitDocument(e, body, p)
}

// admitData returns the body of a push of JSON.
func (x *exchange) admitData(e *Event) (*value.Object, error) {
	col := x.route.col
	if err := x.mustBeJSON(); err != nil { // of a request to Admit nobody has asked before
		return nil, err
	}
	raw, err := x.readBody(col.MaxBodyBytes)
	if err != nil {
		return nil, err
	}
	if int64(len(raw)) > col.MaxBodyBytes {
		return nil, refuse(http.StatusRequestEntityTooLarge, tooLarge)
	}
	v, err := value.ParseWithin(x.r.Context(), raw, value.MaxDepth)
	body, ok := v.(*value.Object)
	switch {
	case x.r.Context().Err() != nil:
		return nil, x.r.Context().Err()
	case errors.Is(err, value.ErrTooMany):
		return nil, refuse(http.StatusBadRequest, "Body has too many values")
	case errors.Is(err, value.ErrSyntax) || !ok:
		return nil, refuse(http.StatusBadRequest, "Body must be a JSON object")
	case err != nil:
		return nil, refuse(http.StatusBadRequest, "Body nesting too deep")
	}
	d, _ := body.Get("data")
	data, isObject := d.(*value.Object)
	if !isObject {
		return nil, refuse(http.StatusBadRequest, "Missing or invalid data")
	}
	if err := x.fieldsOf().Refuses(data); err != nil {
		return nil, err
	}
	if err := x.route.schema.check(x.r.Context(), data); err != nil && !x.mayKeep(data) {
		return nil, err
	}
	e.Data = value.Sanitize(data)
	return body, nil
}

// mustBeJSON refuses a push to a collection of JSON whose body is of another type: it would not be
// among what a certificate's holder has signed; and web pages of all origins may send some types
// without asking. The published servers tell capitals from small letters here.
func (x *exchange) mustBeJSON() error {
	if x.route.col.Binary() || mediaOf(x.r.Header.Get("Content-Type")) == config.JSON {
		return nil
	}
	return refuse(http.StatusUnsupportedMediaType, "Content-Type must be application/json")
}

// keep does what is asked for.
func (x *exchange) keep(ctx context.Context, e *Event, p *pushed) (any, error) {
	if x.route.col.Binary() {
		return x.keepFile(ctx, e, p)
	}
	var w document.Written
	var err error
	if x.route.col.AppendOnly != nil {
		w, err = x.append(ctx, e, p)
	} else {
		w, err = x.replace(ctx, e, p)
	}
	if err != nil {
		return nil, err
	}
	e.Hash, e.Time = w.Hash, w.Time
	return value.NewObject(
		value.Member{Key: "hash", Value: cmp.Or(w.Seen, w.Hash)},
		value.Member{Key: "timestamp", Value: float64(w.Time)},
	), nil
}

// intercept asks the hooks that answer pushes by themselves.
func (x *exchange) intercept(ctx context.Context, e *Event) (*Answer, error) {
	for _, h := range x.s.opts.Hooks {
		if h.BeforePush == nil {
			continue
		}
		var raw []byte
		if !x.route.col.Binary() {
			var err error
			if raw, err = x.readBody(x.route.col.MaxBodyBytes); err != nil {
				return nil, err
			}
			if int64(len(raw)) > x.route.col.MaxBodyBytes { // as one that was read to check its signature
				return nil, refuse(http.StatusRequestEntityTooLarge, tooLarge)
			}
		}
		if a, err := h.BeforePush(ctx, e, raw); err != nil || a != nil {
			return a, err
		}
	}
	return nil, nil
}

// author returns the proof of who has signed data, of which the request is to hold both parts.
func (x *exchange) author(
	domain, key string, data *value.Object, a document.Author, foreign, wrong string,
) (*document.Author, error) {
	if x.who.Presenter != "" && a.Key != x.who.Presenter {
		return nil, refuse(http.StatusForbidden, foreign)
	}
	if !capcert.VerifyAuthor(domain, key, data, a.Key, a.Signature) {
		return nil, refuse(http.StatusForbidden, wrong)
	}
	return &a, nil
}

// ownAuthor returns the proof of a caller who signs otherwise than with an Ed25519 key, and must
// sign all that it writes; nil of others.
func (x *exchange) ownAuthor(data, body *value.Object) (*document.Author, error) {
	if x.who.VerifyAuthor == nil {
		return nil, nil
	}
	signature, _ := body.String("authorSignature")
	if signature == "" {
		return nil, refuse(http.StatusBadRequest, "Missing required author signature")
	}
	if err := x.who.VerifyAuthor(data, signature); err != nil {
		return nil, refuse(http.StatusBadRequest, "Invalid author signature")
	}
	return &document.Author{Key: x.who.Identity, Signature: signature}, nil
}

func (x *exchange) admitDocument(e *Event, body *value.Object, p *pushed) (err error) {
	if v, _ := body.Get("baseHash"); v != nil {
		s, ok := v.(string)
		if !ok {
			return refuse(http.StatusBadRequest, "baseHash must be a string or null")
		}
		p.base = &s
	}
	if p.author, err = x.ownAuthor(e.Data, body); err != nil || p.author != nil {
		return err
	}
	_, hasKey := body.Get("authorPubkey")
	_, hasSignature := body.Get("authorSignature")
	if !hasKey && !hasSignature {
		return nil
	}
	var a document.Author
	if a.Key, hasKey = body.String("authorPubkey"); hasKey {
		a.Signature, hasSignature = body.String("authorSignature")
	}
	if !hasKey || !hasSignature {
		return refuse(http.StatusBadRequest, "author proof requires authorPubkey and authorSignature")
	}
	p.author, err = x.author(
		capcert.DocumentDomain, e.Key, e.Data, a, "document author must be the request presenter",
		"invalid document author signature",
	)
	return err
}

// whole reports whether a push replaces all of a document, also among concurrent ones.
func (x *exchange) whole() bool {
	return x.object.Collection.Encryption == config.Delegated || x.signedWhole()
}

// mayKeep reports whether fields may be kept that data lacks: what is stored then is not data
// alone.
func (x *exchange) mayKeep(data *value.Object) bool {
	col := x.object.Collection
	return !col.Binary() && col.AppendOnly == nil && !x.signedWhole() &&
		slices.ContainsFunc(x.fieldsOf().kept(), func(f config.FieldPermission) bool {
			_, there := data.Get(f.Field)
			return !there
		})
}

// signedWhole reports whether a document must be what its writer has signed, and nothing else.
func (x *exchange) signedWhole() bool { return x.s.opts.Whole != nil && x.s.opts.Whole() }

// over returns what is stored of pushed data in the place of a document, which may be nil.
func (x *exchange) over(old *document.Document, data *value.Object) (*value.Object, error) {
	fields := x.fieldsOf()
	if fields.All() {
		return data, nil
	}
	was := (*value.Object)(nil)
	if old != nil {
		was = old.Data
	}
	if x.signedWhole() {
		for _, f := range fields.omitted(was, data) {
			if !allows(f.WriteRoles, x.who) { // it cannot be kept, and not be removed either
				return nil, notWritable(f.Field)
			}
		}
		return data, nil
	}
	stored := fields.Over(was, data)
	return stored, x.route.schema.check(x.r.Context(), stored)
}

func (x *exchange) replace(ctx context.Context, e *Event, p *pushed) (document.Written, error) {
	c := document.Change{
		Data: e.Data, Base: p.base, Author: p.author, Proof: x.who.Proof, Whole: x.whole()}
	if len(x.object.Collection.FieldPermissions) > 0 {
		fields := x.fieldsOf()
		c.HashOf = func(d *document.Document) string {
			if shown := fields.Shown(d.Data); shown != d.Data {
				return value.Hash(shown)
			}
			return d.Hash
		}
		c.Over = func(old *document.Document) (*value.Object, error) {
			stored, err := x.over(old, p.data)
			e.Data = stored
			return stored, err
		}
		p.data = e.Data
	}
	w, err := x.s.opts.Documents.Change(ctx, e.Key, c)
	if errors.Is(err, document.ErrConflict) {
		return document.Written{}, refuse(http.StatusConflict, "hash_mismatch")
	}
	return w, err
}

// maxAhead is by how many milliseconds the time of an element may be in the future.
const maxAhead = 300_000

func (x *exchange) admitElement(e *Event, body *value.Object, p *pushed) error {
	a := e.Collection.AppendOnly
	var proof document.Author
	var has [2]bool
	proof.Key, has[0] = body.String("authorPubkey")
	proof.Signature, has[1] = body.String("authorSignature")
	var err error
	if p.author, err = x.ownAuthor(e.Data, body); err != nil {
		return err
	}
	own := p.author != nil
	if !own && has[0] && has[1] {
		p.author = &proof
	}
	if a.RequireAuthorSignature && !own {
		if p.author == nil {
			return refuse(http.StatusBadRequest, "append requires authorPubkey and authorSignature")
		}
		if _, err := x.author(
			capcert.AppendDomain, e.Key, e.Data, proof, "append author must be the request presenter",
			"invalid append author signature",
		); err != nil {
			return err
		}
	}
	if v, _ := body.Get("ts"); v != nil {
		f, ok := v.(float64)
		if !ok || f != math.Trunc(f) || f < 0 || math.IsInf(f, 0) {
			return refuse(http.StatusBadRequest, "ts must be a non-negative integer")
		}
		if f > float64(x.s.opts.Documents.Now()+maxAhead) {
			return refuse(http.StatusBadRequest, "ts is too far in the future")
		}
		p.at, e.TimeGiven = ptr(int64(f)), true
	}
	return nil
}

func (x *exchange) append(ctx context.Context, e *Event, p *pushed) (document.Written, error) {
	none := document.Written{}
	a := e.Collection.AppendOnly
	if !a.Persist {
		if p.at == nil {
			p.at = ptr(x.s.opts.Documents.Now())
		}
		return document.Written{Hash: value.Hash(e.Data), Time: *p.at}, nil
	}
	w, err := x.s.opts.Documents.Add(ctx, e.Key, document.Addition{
		Data: e.Data, Time: p.at, Author: p.author, Proof: x.who.Proof,
	}, document.Log{Field: a.Field, MaxItems: a.MaxItems, ChunkSize: a.ChunkSize})
	var full *document.FullError
	switch {
	case errors.As(err, &full):
		return none, &answered{
			Answer{
				http.StatusConflict,
				value.NewObject(
					value.Member{Key: "error", Value: "append_limit_exceeded"},
					value.Member{Key: "limit", Value: float64(full.Limit)},
				),
			},
		}
	case errors.Is(err, document.ErrNotMonotonic):
		return none, refuse(http.StatusConflict, "non_monotonic_timestamp")
	}
	return w, err
}

func (x *exchange) admitFile() (*pushed, error) {
	col := x.route.col
	given := x.r.Header.Get("Content-Type")
	media := mediaOf(given)
	if !allowedType(strings.ToLower(media), col.AllowedMimeTypes) {
		all := make(value.Array, len(col.AllowedMimeTypes))
		for i, m := range col.AllowedMimeTypes {
			all[i] = m
		}
		return nil, refuse(
			http.StatusUnsupportedMediaType,
			"Content-Type '"+given+"' is not allowed. Allowed: "+string(value.Append(nil, all)),
		)
	}
	body, err := x.readBody(col.MaxBodyBytes)
	if err != nil {
		return nil, err
	}
	if int64(len(body)) > col.MaxBodyBytes {
		return nil, refuse(http.StatusRequestEntityTooLarge, tooLarge)
	}
	if strings.EqualFold(media, config.JSON) {
		media = jsonFile
	}
	return &pushed{body: body, media: media}, nil
}

// jsonFile is the type of a file of JSON: one of config.JSON is a document to stores, and nodes
// that have written it at the same time would merge it as one.
const jsonFile = config.JSON + "; charset=utf-8"

func (x *exchange) keepFile(ctx context.Context, e *Event, p *pushed) (any, error) {
	o := &store.Object{Body: p.body, Type: p.media, Proof: x.who.Proof}
	if err := x.s.opts.Documents.Store().Put(ctx, e.Key, o, store.Whatever); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(p.body)
	e.Hash = hex.EncodeToString(sum[:])
	return value.NewObject(value.Member{Key: "hash", Value: e.Hash}), nil
}

// mediaOf returns the media type of a Content-Type, without its parameters.
func mediaOf(contentType string) string {
	media, _, _ := strings.Cut(contentType, ";")
	return strings.TrimSpace(media)
}

// allowedType reports whether a media type matches one of some patterns, whose parts may be "*".
func allowedType(media string, patterns []string) bool {
	kind, sub, ok := cutType(media)
	return ok && slices.ContainsFunc(patterns, func(p string) bool {
		pKind, pSub, ok := cutType(strings.ToLower(p))
		return ok && (pKind == "*" || pKind == kind) && (pSub == "*" || pSub == sub)
	})
}

func cutType(media string) (kind, sub string, ok bool) {
	parts := strings.Split(media, "/")
	if len(parts) < 2 || parts[0] == "" || parts[1] == "" {
		return "", "", false
	}
	return parts[0], parts[1], true
}
