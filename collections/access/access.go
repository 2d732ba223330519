// Package access decides who a caller of collections is and which roles it has.
//
// What belongs here: resolvers, which tell from a request who makes it; enrichers, which add roles
// that depend on what is asked for; restrictions by identity; and what a server must remember for
// that, the nonces it has seen and the certificates that are revoked. What never belongs here:
// which roles a collection asks for, and the cryptography of certificates.
//
// Start at Resolver and Caps. The rules are those of docs/protocol/starfish-v3.md, "Authorization".
package access

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/skerry-sync/skerry/collections/capcert"
	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/collections/store"
	"github.com/skerry-sync/skerry/collections/value"
	"github.com/skerry-sync/skerry/internal/fault"
)

// Auth is who makes a request, and what it may do.
type Auth struct {
	Identity string   // user id, "" for nobody in particular
	Roles    []string // not yet those that depend on what is asked for
	// Scope is that of the certificate that the caller presents; nil without one, and no restriction.
	Scope     *Scope
	Presenter string // the Ed25519 public key, in hex, that has signed the request; "" without one

	// VerifyAuthor, unless nil, tells whether a signature over data is this identity's, which signs
	// all that it writes otherwise than with an Ed25519 key.
	VerifyAuthor func(data *value.Object, signature string) error
	// Proof is what has been signed, without the body; nil if nothing was.
	Proof *store.Proof
}

// Has reports whether a caller has a role.
func (a *Auth) Has(role string) bool { return slices.Contains(a.Roles, role) }

// Scope is what a certificate is for. Package reach holds callers to all of it.
type Scope struct {
	Ops         []string // read, write, list
	Collections []string // names, or * for all
	Paths       []string // see capcert.MatchPath; empty is all
	Issuer      string   // user id
	// PathsAlone checks only the paths, as servers did before they checked the whole scope. Package
	// rules sets it for what was written then, which would else be gone.
	PathsAlone bool
}

// HasPath reports whether a storage path is within a scope; nil is no restriction.
func (s *Scope) HasPath(key string) bool { return s == nil || capcert.MatchPath(key, s.Paths) }

// Gives reports whether a role is one that the certificate itself gives.
func (s *Scope) Gives(role string) bool {
	if col, is := strings.CutPrefix(role, "delegated:"+s.Issuer+":"); is {
		return slices.Contains(s.Collections, col)
	}
	rest, is := strings.CutPrefix(role, "cap:")
	op, col, named := strings.Cut(rest, ":")
	return is && named && slices.Contains(s.Ops, op) && slices.Contains(s.Collections, col)
}

// Anonymous is nobody.
var Anonymous = Auth{Roles: []string{config.RolePublic}}

// Request is what a resolver is asked about.
type Request struct {
	HTTP *http.Request
	// Body returns the body; it is read once, and no more of it than may be sent. Only writes have
	// one. It returns a *DeniedError.
	Body func() ([]byte, error)
	// Targets are the paths, with queries, that the caller may have signed.
	Targets []string
	// Hosts are the names of this server that the caller may have signed.
	Hosts []string
	// Path is the storage path that is asked for; it means nothing in a Batch. Whether the caller may
	// reach it is decided when its roles are known, by package reach.
	Path  string
	Batch bool
}

// Resolver tells who makes a request.
type Resolver interface {
	// Resolve returns a *DeniedError for a caller who is not let in.
	Resolve(ctx context.Context, r *Request) (Auth, error)
}

// ResolverFunc is a function as a resolver.
type ResolverFunc func(ctx context.Context, r *Request) (Auth, error)

// Resolve implements Resolver.
func (f ResolverFunc) Resolve(ctx context.Context, r *Request) (Auth, error) { return f(ctx, r) }

// DeniedError says that a caller is not let in.
type DeniedError struct {
	Status int    // of HTTP: 401, 403 or 413
	Reason string // for the log, and for the caller only with 413
}

func (e *DeniedError) Error() string { return fmt.Sprintf("denied (%d): %s", e.Status, e.Reason) }

func deny(status int, format string, args ...any) error {
	return &DeniedError{status, fmt.Sprintf(format, args...)}
}

// Enricher adds roles that a caller has at a place. Besides an *UnavailableError it returns those
// that are known all the same.
type Enricher func(ctx context.Context, who *Auth, at Place) ([]string, error)

// Place is what roles are asked for.
type Place struct {
	Params map[string]string // of the path
	// Write says that the roles are for writing: what may be out of date is not good enough then.
	Write bool
}

// UnavailableError says that it cannot be found out now whether a caller has some role. It matters
// only to callers whose other roles are not enough.
type UnavailableError struct {
	Reason     string        // which the caller is told, with status 503
	RetryAfter time.Duration // when it is worth trying again
	Err        error         // for the log
}

func (e *UnavailableError) Error() string { return fmt.Sprintf("%s: %v", e.Reason, e.Err) }

// Unwrap returns why.
func (e *UnavailableError) Unwrap() error { return e.Err }

// Compose returns an enricher that adds the roles of all. They run at the same time.
func Compose(all ...Enricher) Enricher {
	return func(ctx context.Context, who *Auth, at Place) ([]string, error) {
		roles, errs := make([][]string, len(all)), make([]error, len(all))
		var wg sync.WaitGroup
		for i, e := range all {
			wg.Go(func() {
				errs[i] = fault.Call(func() (err error) {
					roles[i], err = e(ctx, who, at)
					return err
				})
			})
		}
		wg.Wait()
		var unavailable error
		for _, err := range errs {
			var u *UnavailableError
			switch {
			case errors.As(err, &u):
				unavailable = err
			case err != nil:
				return nil, err
			}
		}
		return slices.Concat(roles...), unavailable
	}
}

// Configured returns an enricher that gives the roles of a configuration, which current returns.
// Lists of entitlements are read from docs.
func Configured(current func() *config.Config, docs *document.Documents, clock Clock) Enricher {
	var mu sync.Mutex
	var made Enricher
	var of config.Entitlements
	return func(ctx context.Context, who *Auth, at Place) (roles []string, err error) {
		c := current()
		if who.Identity == "" {
			return nil, nil
		}
		for role, ids := range c.Roles {
			if slices.Contains(ids, who.Identity) {
				roles = append(roles, role)
			}
		}
		if c.Entitlements == nil {
			return roles, nil
		}
		mu.Lock()
		if made == nil || of != *c.Entitlements {
			of = *c.Entitlements
			made = Entitlements{Path: of.Path, Field: of.Field, Role: of.Role}.Enricher(docs, clock)
		}
		e := made
		mu.Unlock()
		more, err := e(ctx, who, at)
		return append(roles, more...), err
	}
}

// IdentityRole returns an enricher that gives a role to one identity.
func IdentityRole(identity, role string) Enricher {
	identity, _ = config.IdentityOf(identity)
	return func(_ context.Context, who *Auth, _ Place) ([]string, error) {
		if identity == "" || who.Identity != identity {
			return nil, nil
		}
		return []string{role}, nil
	}
}

// Restricted reports whether restrictions keep an identity, "" for nobody in particular, from an
// action on a collection.
func Restricted(c *config.Config, col *config.Collection, identity, action string) bool {
	shut := func(all []config.Restriction) bool {
		for _, r := range all {
			if len(r.Actions) > 0 && !slices.Contains(r.Actions, action) {
				continue
			}
			named := identity != "" && slices.Contains(r.Identities, identity)
			if named == r.Deny {
				return true
			}
		}
		return false
	}
	if shut(c.Restrictions) || shut(col.Restrictions) {
		return true
	}
	for _, n := range c.Namespaces {
		if n.Name == col.Namespace && shut(n.Restrictions) {
			return true
		}
	}
	return false
}

// HasRestrictions reports whether a configuration restricts anybody.
func HasRestrictions(c *config.Config) bool {
	any := len(c.Restrictions) > 0
	for _, n := range c.Namespaces {
		any = any || len(n.Restrictions) > 0
	}
	for _, col := range c.All() {
		any = any || len(col.Restrictions) > 0
	}
	return any
}

// Clock is a source of time; nil is time.Now.
type Clock func() time.Time

// Now returns the time.
func (c Clock) Now() time.Time {
	if c == nil {
		return time.Now()
	}
	return c()
}
