package access

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/skerry-sync/skerry/collections/config"
	"github.com/skerry-sync/skerry/collections/document"
	"github.com/skerry-sync/skerry/collections/value"
)

// Entitlements says where each identity's features are listed.
type Entitlements struct {
	// Path is the template of a document's storage path, with {identity}; "" is
	// users/{identity}/entitlements.
	Path  string
	Field string        // the member with an array of names; "" is features
	Role  string        // what stands before a colon and the name in the role; "" is entitlement
	Keep  time.Duration // how long a list is remembered; 0 is a minute, less than 0 not at all
}

const maxRemembered = 10_000

// Enricher gives a role for each feature that the caller's document lists. What is no list gives
// none.
func (e Entitlements) Enricher(docs *document.Documents, clock Clock) Enricher {
	set := func(s *string, to string) {
		if *s == "" {
			*s = to
		}
	}
	set(&e.Path, config.DefaultEntitlements)
	set(&e.Field, "features")
	set(&e.Role, "entitlement")
	if e.Keep == 0 {
		e.Keep = time.Minute
	}
	type known struct {
		roles []string
		until time.Time
	}
	path := config.ParseTemplate(e.Path)
	var mu sync.Mutex
	remembered := map[string]known{}
	return func(ctx context.Context, who *Auth, _ Place) ([]string, error) {
		if who.Identity == "" {
			return nil, nil
		}
		now := clock.Now()
		mu.Lock()
		k, ok := remembered[who.Identity]
		mu.Unlock()
		if ok && now.Before(k.until) {
			return k.roles, nil
		}
		key, ok := path.Fill(map[string]string{config.IdentityParam: who.Identity})
		if !ok { // an identity that no path can name
			return nil, nil
		}
		doc, err := docs.Get(ctx, key)
		if errors.Is(err, document.ErrCorrupt) {
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("entitlements: %w", err)
		}
		var roles []string
		if doc != nil {
			v, _ := doc.Data.Get(e.Field)
			features, _ := v.(value.Array)
			for _, f := range features {
				if s, ok := f.(string); ok {
					roles = append(roles, e.Role+":"+s)
				}
			}
		}
		if e.Keep > 0 {
			mu.Lock()
			if len(remembered) >= maxRemembered {
				clear(remembered)
			}
			remembered[who.Identity] = known{roles, now.Add(e.Keep)}
			mu.Unlock()
		}
		return roles, nil
	}
}

// EntitlementsPath returns the template of the storage path of the lists that a configuration
// names; "" if it names none.
func EntitlementsPath(e *config.Entitlements) string {
	if e == nil {
		return ""
	}
	return cmp.Or(e.Path, config.DefaultEntitlements)
}
