// Package edsig is Ed25519 as Skerry uses it: signatures verified by the rules of ZIP-215, one by
// one or in batches with the same outcome, keys kept ready for verification, keys with which
// anybody could sign, and the same keys for X25519.
//
// What belongs here: all that is asked of curve25519-voi, which no other package imports, since a
// batch of 64 signatures or more is verified three times as fast by it as by the standard library.
// What never belongs here: what is signed, and by whom.
//
// Start at [Keys].
package edsig

import (
	"crypto/ed25519"

	lru "github.com/hashicorp/golang-lru/v2"
	voi "github.com/oasisprotocol/curve25519-voi/primitives/ed25519"
	"github.com/oasisprotocol/curve25519-voi/primitives/x25519"
)

// Rules say which signatures are right. Both are cofactored: the only ones under which verifying
// one by one and verifying in batches accept the same signatures, so that all nodes agree whichever
// way they check.
type Rules struct{ options *voi.Options }

var (
	// ZIP215 are those of ZIP-215. Under them anybody can make a signature for a key of small
	// order, such as one of zeros, for any message: see Weak.
	ZIP215 = Rules{&voi.Options{Verify: voi.VerifyOptionsZIP_215}}
	// NoWeakKeys are those of ZIP-215 without keys of small order.
	NoWeakKeys = Rules{&voi.Options{Verify: &voi.VerifyOptions{
		AllowSmallOrderR: true, AllowNonCanonicalA: true, AllowNonCanonicalR: true,
	}}}
)

// Sign signs a message with a key of 64 bytes. It is the signature of the standard library, in half
// the time.
func Sign(key ed25519.PrivateKey, msg []byte) [64]byte {
	return [64]byte(voi.Sign(voi.PrivateKey(key), msg))
}

// Verify reports whether sig is a signature of msg by a public key.
func (r Rules) Verify(public [32]byte, msg []byte, sig [64]byte) bool {
	return voi.VerifyWithOptions(public[:], msg, sig[:], r.options)
}

// Keys keeps public keys in the form that verification needs, at about 1.5 KiB each: those that
// were used last. Its methods may be called at the same time.
type Keys struct {
	rules Rules
	ready *lru.Cache[[32]byte, *voi.ExpandedPublicKey]
}

// NewKeys keeps up to most keys, at least 1.
func NewKeys(rules Rules, most int) *Keys {
	ready, err := lru.New[[32]byte, *voi.ExpandedPublicKey](max(most, 1))
	if err != nil {
		panic(err) // only of a size below 1
	}
	return &Keys{rules, ready}
}

// get returns nil for what is no point of the curve.
func (k *Keys) get(public [32]byte) *voi.ExpandedPublicKey {
	if x, ok := k.ready.Get(public); ok {
		return x
	}
	x, err := voi.NewExpandedPublicKey(public[:])
	if err != nil {
		x = nil
	}
	k.ready.Add(public, x)
	return x
}

// Verify reports whether sig is a signature of msg by a public key.
func (k *Keys) Verify(public [32]byte, msg []byte, sig [64]byte) bool {
	x := k.get(public)
	return x != nil && voi.VerifyExpandedWithOptions(x, msg, sig[:], k.rules.options)
}

// Batch is signatures that are verified together. It is for one goroutine.
type Batch struct {
	keys    *Keys
	v       *voi.BatchVerifier
	invalid bool // one of the keys is no point
}

// Batch makes a batch with room for n signatures.
func (k *Keys) Batch(n int) *Batch {
	return &Batch{keys: k, v: voi.NewBatchVerifierWithCapacity(n)}
}

// Add adds a signature. msg may be used again afterwards.
func (b *Batch) Add(public [32]byte, msg []byte, sig [64]byte) {
	x := b.keys.get(public)
	if x == nil {
		b.invalid = true
		return
	}
	b.v.AddExpandedWithOptions(x, msg, sig[:], b.keys.rules.options)
}

// Verify reports whether all signatures are right.
func (b *Batch) Verify() bool { return !b.invalid && b.v.VerifyBatchOnly(nil) }

// X25519Public returns the Montgomery form (RFC 7748, section 4.1) of a public key; ok is false for
// what is no point.
func X25519Public(public [32]byte) (point [32]byte, ok bool) {
	p, ok := x25519.EdPublicKeyToX25519(public[:])
	if !ok {
		return point, false
	}
	return [32]byte(p), true
}

// X25519Secret returns the secret scalar of the key with a seed (RFC 8032, section 5.1.5), for
// X25519, and its public key.
func X25519Secret(seed [32]byte) (scalar, public [32]byte) {
	key := voi.NewKeyFromSeed(seed[:])
	return [32]byte(x25519.EdPrivateKeyToX25519(key)), [32]byte(key[32:])
}
