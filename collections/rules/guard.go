package rules

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/skerry-sync/skerry/collections"
	"github.com/skerry-sync/skerry/collections/access"
	"github.com/skerry-sync/skerry/collections/chain"
	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/store/replicas"
	"github.com/skerry-sync/skerry/collections/value"
	"github.com/skerry-sync/skerry/identity/eth"
	"github.com/skerry-sync/skerry/replica"
)

// Ahead is by how much the time of a document may be ahead of that of the request that has written
// it, beside the difference of clocks: by as much as entries may be ahead of a node's clock, after
// one of which a document may have been written.
const Ahead = replica.MaxAhead

// margin is how much less than Ahead the time of a document may be ahead of this node's clock. What
// is written over it, now, is later by 1 ms for each write, and must be of a time that counts.
const margin = time.Second

// Fresh is for how long a chain is asked what a caller may do, whoever has let it in. A server is
// believed what the chain has said before.
const Fresh = time.Hour

// Options set up a Guard.
type Options struct {
	Chains *chain.Registry // who owns what; nil knows of no chain
	Clock  access.Clock
	Log    *slog.Logger // is told of what is refused; nil is slog.Default
}

// Guard tells what counts in a replica, by its rules. Without rules all does. It implements
// replicas.Guard.
type Guard struct {
	opts  Options
	store lazy
	now   atomic.Pointer[inForce]

	revocations atomic.Pointer[access.Revocations]

	signers eth.Recoverer

	mu    sync.Mutex
	known map[[32]byte]verdict // of versions
}

const (
	maxKnown = 1 << 16 // verdicts that are remembered
	// refusedFor is for how long a refusal is: roles come later, too, as with another document, or
	// from a chain.
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
func NewGuard(o Options) *Guard {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	return &Guard{opts: o}
}

// Rules returns those that count, nil if there are none.
func (g *Guard) Rules() *Rules {
	if now := g.now.Load(); now != nil {
		return now.Rules
	}
	return nil
}

// InForce implements replicas.Guard.
func (g *Guard) InForce() bool { return g.now.Load() != nil }

// IsServer implements replicas.Guard.
func (g *Guard) IsServer(a replica.AuthorID) bool {
	now := g.now.Load()
	return now != nil && now.IsServer(a)
}

// Read tells the guard where documents lie on which roles depend, and which certificates are
// revoked; revocations may be nil. Until then there are none.
func (g *Guard) Read(s store.Store, revocations *access.Revocations) {
	g.store.is.Store(&s)
	g.revocations.Store(revocations)
}

// Set makes rules count.
func (g *Guard) Set(r *Rules) error {
	docs := document.In(&g.store, g.opts.Clock)
	o := collections.Options{
		KnownHost: func(*http.Request) bool { return true }, // see Guard.admit
		Whole:     func() bool { return true },              // documents are what callers have signed
		Linear:    true,
		AdmitOnly: true,
		Documents: docs, Prefix: r.Prefix, Log: slog.New(slog.DiscardHandler),
		Resolver: access.ResolverFunc(g.resolve), Enricher: g.enricher(r, docs),
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

// Attach implements replicas.Guard.
func (g *Guard) Attach(p *store.Proof, body []byte) []byte {
	if p == nil || g.now.Load() == nil {
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
func (g *Guard) Proof(p *store.Proof) []byte {
	if p == nil || g.now.Load() == nil {
		return nil
	}
	return value.Append(nil, proofObject(p, nil))
}

// Check implements replicas.Guard.
func (g *Guard) Check(ctx context.Context, v *replicas.Version) ([]byte, error) {
	now := g.now.Load()
	if now == nil {
		return v.Kept, nil
	}
	if strings.HasPrefix(v.Key, store.Internal) {
		if err := access.CheckInternal(v.Key, v.Kept); err != nil {
			return nil, refused("%s: %w", v.Key, err)
		}
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
	if owner == v.Key && g.early(w.time) { // not remembered: it soon is not
		return nil, refused("%s: it is of a time that has not come", v.Key)
	}
	if err := g.remembered(v, func() error { return g.document(ctx, now, v, owner, w) }); err != nil {
		return nil, err
	}
	if w.proof == nil {
		return v.Kept, nil
	}
	w.object.Delete(proofMember)
	return value.Append(nil, w.object), nil
}

// early reports whether a document's time is too far ahead of this node's clock. An entry may be
// Ahead of the clock and a document Ahead of its entry. What a server writes over that would be too
// late for its own request, and all nodes would refuse it.
func (g *Guard) early(time int64) bool {
	return time > g.opts.Clock.Now().Add(Ahead-margin).UnixMilli()
}

// remembered does a check once of the same version, or again when a refusal is old.
func (g *Guard) remembered(v *replicas.Version, check func() error) error {
	h := sha256.New()
	for _, part := range [][]byte{
		[]byte(v.Key), v.Author[:], []byte(v.Media), v.Proof, strconv.AppendInt(nil, v.Time, 10), v.Kept,
	} {
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
	if err != nil {
		g.opts.Log.Warn("what the rules do not allow is left out", "author", v.Author, "error", err)
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
