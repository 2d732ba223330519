package rules

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/skerry-sync/skerry/collections"
	"github.com/skerry-sync/skerry/collections/access"
	"github.com/skerry-sync/skerry/collections/capcert"
	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/collections/evm"
	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/store/replicas"
	"github.com/skerry-sync/skerry/collections/value"
)

// written is what is kept of a document or an element.
type written struct {
	object *value.Object
	data   *value.Object
	text   []byte
	proof  *value.Object
	time   int64
	author *document.Author
}

func readWritten(kept []byte) (*written, error) {
	o, err := value.ParseObject(kept, value.MaxDepth+4)
	if err != nil {
		return nil, err
	}
	w := &written{object: o}
	v, _ := o.Get("data")
	w.data, _ = v.(*value.Object)
	if w.data == nil {
		return nil, errors.New("it has no data")
	}
	w.text = value.Append(nil, w.data)
	v, there := o.Get(proofMember)
	w.proof, _ = v.(*value.Object)
	if there && w.proof == nil {
		return nil, errProof
	}
	var ok bool
	if w.time, ok = whole(o, "ts"); !ok {
		return nil, errors.New("it has no time")
	}
	key, has := o.String("authorPubkey")
	sig, also := o.String("authorSignature")
	if has && also {
		w.author = &document.Author{Key: key, Signature: sig}
	}
	return w, nil
}

func refused(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{replicas.ErrRefused}, args...)...)
}

// document checks a document or an element of a log.
func (g *Guard) document(
	ctx context.Context, now *inForce, v *replicas.Version, owner string, w *written,
) error {
	isElement := owner != v.Key
	col := now.server.Of(owner)
	server := now.IsServer(v.Author)
	switch {
	case server && (col == nil || now.isOwn(owner) || col.PullOnly || len(col.WriteRoles) == 0):
		return nil // what servers write by themselves
	case col == nil:
		return refused("%s is of no collection", owner)
	case server && w.proof == nil && w.time < now.Since:
		return nil
	case isElement && (col.AppendOnly == nil || !col.AppendOnly.Persist):
		return refused("%s is no log", owner)
	case !isElement && col.AppendOnly != nil && !isHead(w):
		return refused("%s is nothing but a log", owner)
	case !isElement && col.AppendOnly != nil:
		return nil
	case isElement && v.Key != fmt.Sprintf("%s\x00%016d", owner, w.time):
		return refused("%s: the element lies at another time than its own", owner)
	}
	p, err := g.proof(now, col, owner, w)
	if err != nil {
		return err
	}
	a, err := g.admit(ctx, now, v, owner, p, w.time)
	if err != nil {
		return err
	}
	switch {
	case value.Hash(a.Data) != value.Hash(w.data):
		return refused("%s: it is not what was signed", owner)
	case isElement && a.At != nil && *a.At != w.time:
		return refused("%s: the element is of another time than was asked for", owner)
	case (a.Author == nil) != (w.author == nil) || a.Author != nil && *a.Author != *w.author:
		return refused("%s: the author's signature is another one", owner)
	case isElement:
		return nil
	}
	hash, _ := w.object.String("hash")
	whole, _ := w.object.Get("whole")
	_, times := w.object.Get("times")
	if hash != value.Hash(w.data) || whole != true || times {
		return refused("%s: it is not in the form of a document that was replaced as a whole", owner)
	}
	return nil
}

// isHead reports whether it is the document that lists a log, which says nothing.
func isHead(w *written) bool { return w.data.Len() == 0 && w.author == nil && w.proof == nil }

// proof returns what a document proves itself by: the request that has written it, or one that
// anybody could make.
func (g *Guard) proof(
	now *inForce, col *config.Collection, owner string, w *written,
) (*store.Proof, error) {
	if w.proof != nil {
		p, err := parseProof(w.proof, w.text, false)
		if err != nil {
			return nil, refused("%s: %w", owner, err)
		}
		return p, nil
	}
	body := value.NewObject(
		value.Member{Key: "data", Value: w.data}, value.Member{Key: "baseHash", Value: nil},
	)
	if w.author != nil {
		body.Set("authorPubkey", w.author.Key)
		body.Set("authorSignature", w.author.Signature)
	}
	target := now.Prefix + "/"
	if col.Namespace != "" {
		target += col.Namespace + "/"
	}
	return &store.Proof{
		Method: http.MethodPost, Target: target + "push/" + owner, Header: http.Header{},
		Media: config.JSON, Body: value.Append(nil, body),
	}, nil
}

// admit lets the server of the rules decide about the request of a proof. written is when it was
// done, in Unix milliseconds.
func (g *Guard) admit(
	ctx context.Context, now *inForce, v *replicas.Version, owner string, p *store.Proof,
	written int64,
) (*collections.Admitted, error) {
	r, err := request(p, now.Prefix)
	if err != nil {
		return nil, refused("%s: %w", owner, err)
	}
	at, skew, err := timeOf(p.Header)
	if err != nil {
		return nil, refused("%s: %w", owner, err)
	}
	after := func(t, other int64) time.Duration { return time.Duration(t-other) * time.Millisecond }
	// An entry's time is bounded by the clocks of all nodes that take it.
	switch off := after(written, at); {
	case at == 0 && after(written, v.Time) > Ahead:
		return nil, refused("%s: it is of a time that had not come", owner)
	case at == 0: // of nobody in particular
		at = written
	case after(at, v.Time) > skew:
		return nil, refused("%s: it was signed for a time that had not come", owner)
	case off < -skew, off > skew+Ahead && v.Media == "": // the order of files is that of signing
		return nil, refused("%s: it was written %v after it was signed", owner, off)
	}
	if p.Host != "" && len(now.Hosts) > 0 && !slices.Contains(now.Hosts, p.Host) {
		return nil, refused("%s: the request was for the server %q", owner, p.Host)
	}
	signedAt := time.UnixMilli(at)
	vouch := now.IsServer(v.Author) && g.opts.Clock.Now().Sub(signedAt) > Fresh
	ctx = context.WithValue(ctx, askedKey{}, &asked{now.Rules, owner, signedAt, vouch})
	a, err := now.server.Admit(r.WithContext(ctx))
	var no *collections.RefusedError
	switch {
	case errors.As(err, &no):
		return nil, refused("%s: %d %s", owner, no.Status, no.Reason)
	case err != nil:
		return nil, err
	case a.Key != owner:
		return nil, refused("%s: the request was for %s", owner, a.Key)
	}
	return a, nil
}

// timeOf returns when a request was signed, in Unix milliseconds, and by how much that may differ
// from when it was done; 0 if it is of nobody in particular.
func timeOf(h http.Header) (at int64, skew time.Duration, err error) {
	text := h.Get(access.HeaderTime)
	skew = capcert.Skew * time.Second
	if evm.Presents(h) {
		text, skew = evm.TimeOf(h), evm.Window
	}
	if text == "" {
		return 0, 0, nil
	}
	at, err = strconv.ParseInt(text, 10, 53)
	if err != nil || at <= 0 {
		return 0, 0, errProof
	}
	return at, skew, nil
}

// SignedAt implements replicas.Guard.
func (g *Guard) SignedAt(v *replicas.Version) int64 {
	if v.Proof == nil {
		return v.Time
	}
	o, err := value.ParseObject(v.Proof, value.MaxDepth)
	if err != nil {
		return v.Time
	}
	p, err := parseProof(o, nil, true)
	if err != nil {
		return v.Time
	}
	if at, _, err := timeOf(p.Header); err == nil && at > 0 {
		return at
	}
	return v.Time
}

// file checks a file.
func (g *Guard) file(ctx context.Context, now *inForce, v *replicas.Version) error {
	col := now.server.Of(v.Key)
	server := now.IsServer(v.Author)
	switch {
	case server && (col == nil || now.isOwn(v.Key) || col.PullOnly || len(col.WriteRoles) == 0):
		return nil
	case col == nil || !col.Binary():
		return refused("%s is of no collection of files", v.Key)
	case server && v.Proof == nil && v.Time < now.Since:
		return nil
	}
	p := &store.Proof{
		Method: http.MethodPost, Target: now.Prefix + "/push/" + v.Key, Header: http.Header{},
		Media: v.Media, Body: v.Kept,
	}
	if col.Namespace != "" {
		p.Target = now.Prefix + "/" + col.Namespace + "/push/" + v.Key
	}
	if v.Proof != nil {
		o, err := value.ParseObject(v.Proof, value.MaxDepth)
		if err == nil {
			p, err = parseProof(o, v.Kept, true)
		}
		if err != nil {
			return refused("%s: %w", v.Key, err)
		}
	}
	a, err := g.admit(ctx, now, v, v.Key, p, v.Time)
	switch {
	case err != nil:
		return err
	case a.Media != v.Media:
		return refused("%s: it is not of the media type that was asked for", v.Key)
	case v.Proof != nil && !evm.Presents(p.Header) && !server:
		return refused(
			"%s: a certificate's holder signs no bytes of files, so that only servers are believed", v.Key,
		)
	}
	return nil
}
