// Package vault is the replica that catalogues all replicas of an identity, which only the identity
// can even find: its keys, derived from that of the identity, and its entries, which say nothing to
// whoever hosts them; and the keyring, which lets apps read it when the person approves.
//
// What belongs here: the derivation and the catalogue, as OBJECTS has them (RFC-003, draft 0.1),
// and the keyring that holds identity keys and answers apps. What never belongs here: networking,
// and identity keys outside of the keyring other than for the moment of deriving.
//
// Start at [Derive] and [Keyring].
package vault

import (
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/skerry-sync/skerry/identity"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/replica/seal"
)

const (
	derivationInfo = "OBJECTS-protocol-vault-namespace-v1"
	readKeyInfo    = "skerry vault read key 1"
	restoreInfo    = "skerry vault restore key 1"
)

// Keys are those of a vault. They never print themselves.
type Keys struct {
	Replica   replica.SecretKey // the vault's replica key: who has it may write the vault, and find it
	Catalogue CatalogueKey
	// that the vault's replica begins with: it is an encrypted one, so that its hosts do not see the
	// ids of projects
	ReadKey seal.ReadKey
	Restore RestoreKey
}

// First returns the read key of the first epoch of the vault's replica.
func (k *Keys) First() replica.EpochKey { return replica.EpochKey{Epoch: 1, Key: k.ReadKey} }

// CatalogueKey seals the entries of the catalogue. It does not print itself.
type CatalogueKey [32]byte

// String hides the key.
func (CatalogueKey) String() string { return "[catalogue key]" }

// GoString hides the key.
func (k CatalogueKey) GoString() string { return k.String() }

// Format hides the key, whatever the verb.
func (k CatalogueKey) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(k.String())) }

// MarshalText refuses: keys are written only by code that means to.
func (CatalogueKey) MarshalText() ([]byte, error) {
	return nil, errors.New("a catalogue key is not written as text")
}

// Derive returns the keys of an identity's vault: HKDF-SHA256 of the 32-byte secret of its
// signing key, without salt, with the info "OBJECTS-protocol-vault-namespace-v1", gives 64 bytes,
// of which the first 32 are the Ed25519 seed of the vault's replica, and the others the catalogue
// key. Two more keys, which OBJECTS does not know, come the same way, with infos of their own. The
// kind of key does not enter. Nobody without the identity's key can compute either, or even the
// vault's id.
func Derive(key identity.Key) (k Keys, err error) {
	if key.IsZero() {
		return k, errors.New("derive vault: there is no key")
	}
	secret := key.Secret()
	okm, err := hkdf.Key(sha256.New, secret[:], nil, derivationInfo, 64)
	if err != nil {
		return k, fmt.Errorf("derive vault: %w", err)
	}
	k = Keys{Replica: replica.SecretKeyFromSeed([32]byte(okm)), Catalogue: CatalogueKey(okm[32:])}
	for info, to := range map[string][]byte{readKeyInfo: k.ReadKey[:], restoreInfo: k.Restore[:]} {
		b, err := hkdf.Key(sha256.New, secret[:], nil, info, 32)
		if err != nil {
			return Keys{}, fmt.Errorf("derive vault: %w", err)
		}
		copy(to, b)
	}
	return k, nil
}

// RestoreKey seals what a person's own devices need to have a project whole again; see Restore.
// Apps are never given it. It does not print itself.
type RestoreKey [32]byte

// String hides the key.
func (RestoreKey) String() string { return "[restore key]" }

// GoString hides the key.
func (k RestoreKey) GoString() string { return k.String() }

// Format hides the key, whatever the verb.
func (k RestoreKey) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(k.String())) }

// MarshalText refuses: keys are written only by code that means to.
func (RestoreKey) MarshalText() ([]byte, error) {
	return nil, errors.New("a restore key is not written as text")
}
