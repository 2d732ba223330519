// Package keyed is an identity of an engine (package localfirst) whose key is at hand, as a keyring
// has it when the person has given the password.
//
// What belongs here: what is derived from an identity key for engines. What never belongs here:
// keystores, and a key that is kept longer than somebody uses it.
//
// Start at [New].
package keyed

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"

	"github.com/skerry-sync/skerry/identity"
	"github.com/skerry-sync/skerry/localfirst"
)

// info stands before the purpose in what HKDF is given, so that an engine gets none of the keys
// that others derive from the same identity: of its vault, for one.
const info = "skerry localfirst identity 1\n"

type keyed struct {
	id  string
	key identity.Key
}

// New returns the identity of a secret. Its key id is the identity's id. A key is HKDF-SHA256 of
// the 32 bytes of the identity's key, without salt, with the info "skerry localfirst identity
// 1\n" and the purpose.
func New(s *identity.Secret) (localfirst.Identity, error) {
	if s == nil || s.Key.IsZero() {
		return nil, errors.New("an identity for the engine: there is no key")
	}
	return keyed{s.ID().String(), s.Key}, nil
}

// String hides the key.
func (k keyed) String() string { return k.id }

// GoString hides the key.
func (k keyed) GoString() string { return k.id }

// KeyID implements localfirst.Identity.
func (k keyed) KeyID(context.Context) (string, error) { return k.id, nil }

// Derive implements localfirst.Identity.
func (k keyed) Derive(_ context.Context, purpose string) (out [32]byte, err error) {
	secret := k.key.Secret()
	b, err := hkdf.Key(sha256.New, secret[:], nil, info+purpose, len(out))
	copy(out[:], b)
	return out, err
}
