package rules

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/skerry-sync/skerry/collections/access"
	"github.com/skerry-sync/skerry/collections/chain"
	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/collections/evm"
	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/identity/eth"
)

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
			return access.Auth{}, &access.DeniedError{
				Status: http.StatusUnauthorized, Reason: "the rules let no wallets in",
			}
		}
		known := func(id string) bool {
			return slices.ContainsFunc(c.Chains, func(c *config.EVMChain) bool { return c.ID() == id })
		}
		return (&evm.Verifier{
			Chains: known, Admins: c.Admins, Nonces: once{}, Clock: clock, Signers: &g.signers,
		}).Resolve(ctx, r)
	}
	who, err := (&access.Caps{
		Nonces: once{}, Revocations: g.revocations.Load(), Clock: clock,
	}).Resolve(
		ctx, r,
	)
	if since := a.rules.Scopes; err == nil && who.Scope != nil {
		who.Scope.PathsAlone = since == 0 || a.time.UnixMilli() < since
	}
	return who, err
}

// enricher adds the roles that the configuration and chains give.
func (g *Guard) enricher(r *Rules, docs *document.Documents) access.Enricher {
	plain := *r.Config
	plain.Entitlements = nil
	roles := access.Configured(func() *config.Config { return &plain }, docs, g.opts.Clock)
	entitled := access.Configured(func() *config.Config { return r.Config }, docs, g.opts.Clock)
	return func(ctx context.Context, who *access.Auth, at access.Place) ([]string, error) {
		a := askedOf(ctx)
		e := entitled
		// No list of entitlements gives a right to such lists.
		if _, is := config.Match(access.EntitlementsPath(r.Config.Entitlements), a.key); is {
			e = roles
		}
		return access.Compose(e, g.chains(a))(ctx, who, at)
	}
}

// chains gives the roles that chains tell of, as servers are believed that they told.
func (g *Guard) chains(a *asked) access.Enricher {
	return func(ctx context.Context, who *access.Auth, at access.Place) ([]string, error) {
		if _, there := at.Params[chain.ItemParam]; !there || a.rules.Config.EVM == nil {
			return nil, nil
		}
		if _, err := eth.ParseAddress(who.Identity); err != nil {
			return nil, nil
		}
		if a.vouch {
			return []string{chain.RoleOwner, chain.RoleMember}, nil
		}
		if g.opts.Chains == nil {
			return nil, &access.UnavailableError{
				Reason: "Chain unavailable", Err: errors.New("this node asks no chain"),
			}
		}
		return g.opts.Chains.Enricher()(ctx, who, at)
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
