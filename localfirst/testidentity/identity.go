// Package testidentity is an identity for the tests of apps: whoever knows its name has its keys.
//
// What belongs here: an identity that needs no keystore, and refuses to be used outside of tests.
// What never belongs here: identities of people.
//
// Start at [New].
package testidentity

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"testing"

	"github.com/skerry-sync/skerry/internal/kind"
	"github.com/skerry-sync/skerry/localfirst"
)

// ErrNoTest reports a program that is no test.
var ErrNoTest = kind.New(kind.NotAllowed, "an identity for tests was used in a program that is no "+
	"test: its keys are no secret")

// isTest is replaced by the test of this package.
var isTest = testing.Testing

type named string

// New returns the identity of a name: the same for each call, so that two devices of a test have
// one by giving one name. Its methods return ErrNoTest in a program that go test has not made.
func New(name string) localfirst.Identity { return named(name) }

// KeyID implements localfirst.Identity.
func (n named) KeyID(context.Context) (string, error) {
	if !isTest() {
		return "", ErrNoTest
	}
	return "test identity " + string(n), nil
}

// Derive implements localfirst.Identity.
func (n named) Derive(_ context.Context, purpose string) (out [32]byte, err error) {
	if !isTest() {
		return out, ErrNoTest
	}
	b, err := hkdf.Key(sha256.New, []byte("skerry test identity\n"+n), nil, purpose, len(out))
	copy(out[:], b)
	return out, err
}
