package rules

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/skerry-sync/skerry/collections"
	"github.com/skerry-sync/skerry/collections/access"
	"github.com/skerry-sync/skerry/collections/capcert"
	"github.com/skerry-sync/skerry/collections/chain"
	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/collections/evm"
	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/store/replicas"
	"github.com/skerry-sync/skerry/collections/value"
	"github.com/skerry-sync/skerry/identity/eth"
	"github.com/skerry-sync/skerry/replica"
)

// Ahead is by how much the time of a document may be ahead of that of the request that has written it, beside the difference of clocks: by as much as entries may be ahead of a node's clock,
// after one of which a document may have been written.
const Ahead = replica.MaxAhead

// Fresh is for how long a chain is asked what a caller may do, whoever has let it in. A server is believed what the chain has said before.
const Fresh = time.Hour

// Options set up a Guard.
type Options struct {
	Chains *chain.Registry // who owns what; nil knows of no chain
	Clock  access.Clock
}

// Guard tells what counts in a replica, by its rules. Without rules all does. It implements replicas.Guard.
type Guard struct {
	opts  Options
	store lazy
	now   atomic.Pointer[inForce]

	revocations atomic.Pointer[access.Revocations]

	mu    sync.Mutex
	known map[[32]byte]verdict // of versions
}

const (
	maxKnown = 1 << 16 // verdicts that are remembered
	// refusedFor is for how long a refusal is: roles come later, too, as with another document, or from a chain.
	refusedFor = 30 * time.Second
)

// verdict is what has been found out about a version.
type verdict struct {
	refused error // nil if it counts
	until   time.Time
}

// inForce are rules with a server that applies them.
type inForce struct {
	*Rules
	server *collections.Server
}

// NewGuard returns a guard without rules.
func NewGuard(o Options) *Guard { return &Guard{opts: o} }

// Rules returns those that count, nil if there are none.
func (g *Guard) Rules() *Rules {
	if now := g.now.Load(); now != nil {
		return now.Rules
	}
	return nil
}

// Read tells the guard where documents lie on which roles depend, and which certificates are revoked; revocations may be nil. Until then there are none.
func (g *Guard) Read(s store.Store, revocations *access.Revocations) {
	g.store.is.Store(&s)
	g.revocations.Store(revocations)
}

// Set makes rules count.
func (g *Guard) Set(r *Rules) error {
	docs := document.In(&g.store, g.opts.Clock)
	o := collections.Options{Documents: docs, Prefix: r.Prefix, Log: slog.New(slog.DiscardHandler), Resolver: access.ResolverFunc(g.resolve), Enricher: g.enricher(r, docs)}
	if r.Config.EVM != nil {
		o.Identity = evm.Identity
	}
	s, err := collections.New(r.Config, o)
	if err != nil {
		return fmt.Errorf("the rules of the replica: %w", err)
	}
	g.now.Store(&inForce{r, s})
	g.mu.Lock()
	defer g.mu.Unlock()
	g.known = nil
	return nil
}

// asked is what is being checked, of which the rest of a check is told by its context.
type asked struct {
	rules *Rules
	key   string
	time  time.Time // of the request
	vouch bool      // the author is believed what chains have said
}

type askedKey struct{}

func askedOf(ctx context.Context) *asked { return ctx.Value(askedKey{}).(*asked) }

// once lets in all nonces: a proof is no request, and may be read again.
type once struct{}

func (once) Use(context.Context, string, string, int64, int64) error { return nil }

// resolve tells who has signed a request, at its time.
func (g *Guard) resolve(ctx context.Context, r *access.Request) (access.Auth, error) {
	a := askedOf(ctx)
	clock := func() time.Time { return a.time }
	if evm.Presents(r.HTTP.Header) {
		c := a.rules.Config.EVM
		if c == nil {
			return access.Auth{}, &access.DeniedError{Status: http.StatusUnauthorized, Reason: "the rules let no wallets in"}
		}
		known := func(id string) bool {
			return slices.ContainsFunc(c.Chains, func(c *config.EVMChain) bool { return c.ID() == id })
		}
		return (&evm.Verifier{Chains: known, Admins: c.Admins, Nonces: once{}, Clock: clock}).Resolve(ctx, r)
	}
	return (&access.Caps{Nonces: once{}, Revocations: g.revocations.Load(), Clock: clock}).Resolve(ctx, r)
}

// enricher adds the roles that the configuration and chains give.
func (g *Guard) enricher(r *Rules, docs *document.Documents) access.Enricher {
	plain := *r.Config
	plain.Entitlements = nil
	roles := access.Configured(func() *config.Config { return &plain }, docs, g.opts.Clock)
	entitled := access.Configured(func() *config.Config { return r.Config }, docs, g.opts.Clock)
	return func(ctx context.Context, who *access.Auth, params map[string]string) ([]string, error) {
		a := askedOf(ctx)
		e := entitled
		if _, is := config.Match(access.EntitlementsPath(r.Config.Entitlements), a.key); is { // what nobody is entitled to by itself
			e = roles
		}
		return access.Compose(e, g.chains(a))(ctx, who, params)
	}
}

// chains gives the roles that chains tell of, as servers are believed that they told.
func (g *Guard) chains(a *asked) access.Enricher {
	return func(ctx context.Context, who *access.Auth, params map[string]string) ([]string, error) {
		if _, there := params[chain.ItemParam]; !there || a.rules.Config.EVM == nil {
			return nil, nil
		}
		if _, err := eth.ParseAddress(who.Identity); err != nil {
			return nil, nil
		}
		if a.vouch {
			return []string{chain.RoleOwner, chain.RoleMember}, nil
		}
		if g.opts.Chains == nil {
			return nil, &access.UnavailableError{Reason: "Chain unavailable", Err: errors.New("this node asks no chain")}
		}
		return g.opts.Chains.Enricher()(ctx, who, params)
	}
}

// lazy is a store that is told later which it is.
type lazy struct {
	store.Store
	is atomic.Pointer[store.Store]
}

// Get implements store.Store.
func (l *lazy) Get(ctx context.Context, key string) (*store.Object, error) {
	s := l.is.Load()
	if s == nil {
		return nil, store.ErrNotFound
	}
	return (*s).Get(ctx, key)
}

// proofOf returns the proof of the request of ctx, if it asks to write under a key.
func (g *Guard) proofOf(ctx context.Context, key string) *store.Proof {
	r := store.RequestOf(ctx)
	if g.now.Load() == nil || r == nil || r.Proof == nil || r.Action != "push" || r.Key != document.Owner(key) {
		return nil
	}
	return r.Proof
}

// Attach implements replicas.Guard.
func (g *Guard) Attach(ctx context.Context, key string, body []byte) []byte {
	p := g.proofOf(ctx, key)
	if p == nil {
		return body
	}
	w, err := readWritten(body)
	if err != nil {
		return body
	}
	b := append(make([]byte, 0, 2*len(body)+512), body[:len(body)-1]...)
	return append(value.Append(append(b, `,"`+proofMember+`":`...), proofObject(p, w.text)), '}')
}

// Proof implements replicas.Guard.
func (g *Guard) Proof(ctx context.Context, key string) []byte {
	p := g.proofOf(ctx, key)
	if p == nil {
		return nil
	}
	return value.Append(nil, proofObject(p, nil))
}

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

// internal is what the keys of what servers keep for themselves begin with, each of which proves itself.
const internal = "__sync__/"

// Check implements replicas.Guard.
func (g *Guard) Check(ctx context.Context, v *replicas.Version) ([]byte, error) {
	now := g.now.Load()
	if now == nil || strings.HasPrefix(v.Key, internal) {
		return v.Kept, nil
	}
	if v.Media != "" {
		return v.Kept, g.remembered(v, func() error { return g.file(ctx, now, v) })
	}
	w, err := readWritten(v.Kept)
	if err != nil {
		return nil, refused("%s: %w", v.Key, err)
	}
	owner := document.Owner(v.Key)
	if err := g.remembered(v, func() error { return g.document(ctx, now, v, owner, w) }); err != nil {
		return nil, err
	}
	if w.proof == nil {
		return v.Kept, nil
	}
	w.object.Delete(proofMember)
	return value.Append(nil, w.object), nil
}

// remembered does a check once of the same version, or again when a refusal is old.
func (g *Guard) remembered(v *replicas.Version, check func() error) error {
	h := sha256.New()
	for _, part := range [][]byte{[]byte(v.Key), v.Author[:], []byte(v.Media), v.Proof, strconv.AppendInt(nil, v.Time, 10), v.Kept} {
		_, _ = fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	id := [32]byte(h.Sum(nil))
	clock := g.opts.Clock.Now()
	g.mu.Lock()
	known, done := g.known[id]
	was := g.now.Load()
	g.mu.Unlock()
	if done && (known.refused == nil || clock.Before(known.until)) {
		return known.refused
	}
	err := check()
	if err != nil && !errors.Is(err, replicas.ErrRefused) {
		return err // it cannot be told now
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if was != g.now.Load() {
		return err // by rules that do not count any more; whoever asks again is told anew
	}
	if g.known == nil {
		g.known = map[[32]byte]verdict{}
	}
	for old := range g.known {
		if len(g.known) < maxKnown {
			break
		}
		delete(g.known, old)
	}
	g.known[id] = verdict{err, clock.Add(refusedFor)}
	return err
}

// document checks a document or an element of a log.
func (g *Guard) document(ctx context.Context, now *inForce, v *replicas.Version, owner string, w *written) error {
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

// proof returns what a document proves itself by: the request that has written it, or one that anybody could make.
func (g *Guard) proof(now *inForce, col *config.Collection, owner string, w *written) (*store.Proof, error) {
	if w.proof != nil {
		p, err := parseProof(w.proof, w.text, false)
		if err != nil {
			return nil, refused("%s: %w", owner, err)
		}
		return p, nil
	}
	body := value.NewObject(value.Member{Key: "data", Value: w.data}, value.Member{Key: "baseHash", Value: nil})
	if w.author != nil {
		body.Set("authorPubkey", w.author.Key)
		body.Set("authorSignature", w.author.Signature)
	}
	target := now.Prefix + "/"
	if col.Namespace != "" {
		target += col.Namespace + "/"
	}
	return &store.Proof{Method: http.MethodPost, Target: target + "push/" + owner, Header: http.Header{}, Media: config.JSON, Body: value.Append(nil, body)}, nil
}

// admit lets the server of the rules decide about the request of a proof. written is when it was done, in Unix milliseconds.
func (g *Guard) admit(ctx context.Context, now *inForce, v *replicas.Version, owner string, p *store.Proof, written int64) (*collections.Admitted, error) {
	r, err := request(p, now.Prefix)
	if err != nil {
		return nil, refused("%s: %w", owner, err)
	}
	at, skew, err := timeOf(p.Header)
	if err != nil {
		return nil, refused("%s: %w", owner, err)
	}
	if at == 0 { // nobody in particular
		at = written
	} else if off := time.Duration(written-at) * time.Millisecond; off < -skew || off > skew+Ahead {
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

// timeOf returns when a request was signed, in Unix milliseconds, and by how much that may differ from when it was done; 0 if it is of nobody in particular.
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
	p := &store.Proof{Method: http.MethodPost, Target: now.Prefix + "/push/" + v.Key, Header: http.Header{}, Media: v.Media, Body: v.Kept}
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
		return refused("%s: a certificate's holder signs no bytes of files, so that only servers are believed", v.Key)
	}
	return nil
}
