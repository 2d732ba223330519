package collections

import (
	"errors"
	"net/http"
	"slices"

	"github.com/skerry-sync/skerry/collections/access"
	"github.com/skerry-sync/skerry/collections/capcert"
	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/openapi"
	"github.com/skerry-sync/skerry/collections/reach"
	"github.com/skerry-sync/skerry/collections/value"
)

// pullBundle answers with the documents of those collections of a bundle that the caller may read.
func (x *exchange) pullBundle() error {
	ctx := x.r.Context()
	who := &caller{}
	open := func(col *config.Collection) bool { return x.routes.reach.Open(col, reach.Pull) }
	if !slices.ContainsFunc(x.route.bundle, func(col *config.Collection) bool { return !open(col) }) {
		x.who = who
	} else {
		var err error
		if who, err = x.callerFor(ctx, x.params, reach.Pull); err != nil {
			return err
		}
		x.who = who
	}
	all, timestamp, now := &value.Object{}, int64(0), x.s.opts.Documents.Now()
	refused := map[reach.Refusal]int{}
	for _, col := range x.route.bundle {
		o, err := x.routes.reach.Object(col, x.params)
		if errors.Is(err, reach.ErrElsewhere) {
			continue
		} else if err != nil { // with the name of this collection the path is too long
			return badPath(err)
		}
		seer := who
		if open(col) { // what anybody may read shows nobody more here than elsewhere
			seer = &caller{}
		}
		if !x.mayMatch(seer, o.Key) {
			return tooManyPaths()
		}
		if why := x.routes.reach.Decide(&seer.Auth, o, reach.Pull); why != reach.Allowed {
			if why == reach.NoRole && who.unavailable != nil {
				return refuse(x.forbidden(who)) // rather than leaving out what the caller may have
			}
			refused[why]++
			continue
		}
		if wait, ok := x.count(x.routes.pulls[col], seer.Identity); !ok {
			x.w.Header().Set("Retry-After", seconds(wait))
			return refuse(http.StatusTooManyRequests, tooMany)
		}
		within := x.context(o, seer)
		if err := x.beforePull(within, o, seer); err != nil {
			return err
		}
		d, err := x.view(within, o, seer, now)
		if err != nil {
			return err
		}
		all.Set(
			col.Name,
			value.NewObject(
				value.Member{Key: "data", Value: d.Data()}, value.Member{Key: "hash", Value: d.hash},
			),
		)
		timestamp = now
		x.audit(
			ctx,
			AuditEntry{
				Action: reach.Pull, Namespace: col.Namespace, Collection: col.Name, Identity: seer.Identity,
				Key: o.Key, Status: http.StatusOK, Params: x.params,
			},
		)
	}
	if refused[reach.OutOfScope] == len(x.route.bundle) {
		return refuse(http.StatusForbidden, "Forbidden")
	}
	return x.answer(value.Append(nil, value.NewObject(
		value.Member{Key: "collections", Value: all},
		value.Member{Key: "timestamp", Value: float64(timestamp)})))
}

// maxRevocations is how long a list of revocations may be in bytes.
const maxRevocations = 1 << 20

// revoke takes a list of revocations. Its signature is all that its bearer must have.
func (x *exchange) revoke() error {
	body, err := x.readBody(maxRevocations)
	if err != nil {
		return err
	}
	v, err := value.ParseWithin(x.r.Context(), body, value.MaxDepth)
	if x.r.Context().Err() != nil {
		return x.r.Context().Err()
	}
	if err != nil {
		return refuse(http.StatusBadRequest, "Body must be a JSON object")
	}
	l, err := capcert.ParseRevocations(v)
	if err != nil {
		return refuse(http.StatusBadRequest, err.Error())
	}
	switch err := x.s.opts.Revocations.Accept(access.WithSource(x.r.Context(), x.address()), l); {
	case errors.Is(err, access.ErrStale):
		return refuse(http.StatusConflict, "stale-generation")
	case errors.Is(err, access.ErrTooLong):
		return refuse(http.StatusRequestEntityTooLarge, tooLarge)
	case errors.Is(err, access.ErrTooOften):
		return refuse(http.StatusTooManyRequests, "too-many-lists")
	case errors.Is(err, access.ErrTooManyIssuers):
		return refuse(http.StatusInsufficientStorage, "too-many-issuers")
	case err != nil:
		return err
	}
	reply(x.w, http.StatusOK, value.NewObject(value.Member{Key: "ok", Value: true}))
	return nil
}

// health answers whether the server is there.
func (x *exchange) health() error {
	reply(
		x.w, http.StatusOK,
		value.NewObject(
			value.Member{Key: "ok", Value: true},
			value.Member{Key: "ts", Value: float64(x.s.opts.Documents.Now())},
		),
	)
	return nil
}

// describe tells which collections there are.
func (x *exchange) describe() error {
	if x.routes.describe == DescribeNone {
		notFound(x.w)
		return nil
	}
	x.who = &caller{}
	if x.routes.describe == DescribeByRole {
		// who is not let in sees what nobody needs a role for
		if err := x.identify(x.r.Context()); err == nil {
			x.who = x.base
		}
	}
	shown := func(cols []*config.Collection) value.Array {
		a := value.Array{}
		for _, col := range cols {
			if x.routes.describe == DescribePublic || x.who.hasAny(col.ReadRoles) ||
				x.who.hasAny(col.WriteRoles) {
				a = append(a, info(col))
			}
		}
		return a
	}
	o := value.NewObject(value.Member{Key: "collections", Value: shown(x.routes.config.Collections)})
	if _, ok := x.routes.config.Object().Get("namespaces"); ok {
		all := &value.Object{}
		for _, n := range x.routes.config.Namespaces {
			all.Set(n.Name, value.NewObject(value.Member{Key: "collections", Value: shown(n.Collections)}))
		}
		o.Set("namespaces", all)
	}
	reply(x.w, http.StatusOK, o)
	return nil
}

// openAPI answers with the routes as OpenAPI describes them, to whomever may know all collections.
func (x *exchange) openAPI() error {
	if x.routes.describe != DescribePublic {
		notFound(x.w)
		return nil
	}
	url := x.s.opts.Prefix
	if x.s.opts.Origin != nil {
		url = x.s.opts.Origin.Scheme + "://" + x.s.opts.Origin.Host + url
	}
	reply(x.w, http.StatusOK, openapi.Describe(x.routes.config, openapi.Options{URL: url}))
	return nil
}

func (c *caller) hasAny(roles []string) bool {
	for _, r := range roles {
		if c.Has(r) {
			return true
		}
	}
	return false
}

// info is what clients are told of a collection.
func info(col *config.Collection) *value.Object {
	types := value.Array{}
	for _, m := range col.AllowedMimeTypes {
		types = append(types, m)
	}
	o := value.NewObject(
		value.Member{Key: "name", Value: col.Name},
		value.Member{Key: "maxBodyBytes", Value: float64(col.MaxBodyBytes)},
		value.Member{Key: "encryption", Value: string(col.Encryption)},
		value.Member{Key: "allowedMimeTypes", Value: types},
	)
	set := func(key string, is bool) {
		if is {
			o.Set(key, true)
		}
	}
	set("pullOnly", col.PullOnly)
	set("pushOnly", col.PushOnly)
	if col.AppendOnly != nil {
		o.Set("appendOnly", col.AppendOnly.Object())
	}
	if col.TTLMS != nil {
		o.Set("ttlMs", float64(*col.TTLMS))
	}
	set("forceFullFetch", col.ForceFullFetch)
	return o
}
