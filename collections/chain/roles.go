package chain

import (
	"context"
	"errors"
	"time"

	"github.com/skerry-sync/skerry/collections/access"
	"github.com/skerry-sync/skerry/identity/eth"
)

// The roles of whom a chain says that it owns the item which a path names, or that it may use it;
// an owner has both.
const (
	RoleOwner  = "owner"
	RoleMember = "member"
)

// ItemParam is the parameter of a path that is the number of an item.
const ItemParam = "productId"

// Enricher returns an enricher that gives RoleOwner and RoleMember to callers who are known by
// their address. What is not the number of an item is one that nobody owns.
func (r *Registry) Enricher() access.Enricher {
	return func(
		ctx context.Context, who *access.Auth, at access.Place,
	) (roles []string, err error) {
		text, there := at.Params[ItemParam]
		if !there || who.Identity == "" {
			return nil, nil
		}
		item, err := ParseItem(text)
		if err != nil {
			return nil, nil
		}
		address, err := eth.ParseAddress(who.Identity)
		if err != nil { // the caller has proved itself otherwise
			return nil, nil
		}
		s, err := r.Standing(ctx, Ask{item, address, at.Write, access.SourceOf(ctx)})
		if s.Owner {
			roles = append(roles, RoleOwner)
		}
		if s.Member {
			roles = append(roles, RoleMember)
		}
		if err != nil {
			after := time.Second
			var down *UnavailableError
			if errors.As(err, &down) {
				after = down.RetryAfter
			}
			err = &access.UnavailableError{Reason: "Chain unavailable", RetryAfter: after, Err: err}
		}
		return roles, err
	}
}
