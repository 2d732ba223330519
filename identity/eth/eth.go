// Package eth is what Skerry needs of Ethereum's cryptography: addresses, keys on secp256k1,
// signatures from which the signer is recovered, and the digests that wallets sign.
//
// What belongs here: EIP-55 addresses, EIP-191 and EIP-712 digests, and signatures over them. What
// never belongs here: what is signed and by whom, which is package identity's and collections', and
// talking to a chain.
//
// Start at [Recover].
package eth

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
	"golang.org/x/crypto/sha3"
)

var (
	// ErrBadAddress reports text that is no address.
	ErrBadAddress = errors.New(
		"not an address: expected 0x and 40 hex digits, all lower case, all upper case, or with a " +
			"right EIP-55 checksum",
	)
	// ErrBadSignature reports a signature that is malformed or whose signer cannot be recovered.
	ErrBadSignature = errors.New("bad signature")
	// ErrBadKey reports 32 bytes that are no secret key: 0, or not below the order of the curve.
	ErrBadKey = errors.New("not a secp256k1 key")
)

// Keccak256 is the hash of the concatenation of parts, as Ethereum means it.
func Keccak256(parts ...[]byte) (sum [32]byte) {
	h := sha3.NewLegacyKeccak256()
	for _, p := range parts {
		_, _ = h.Write(p) // never fails
	}
	h.Sum(sum[:0])
	return sum
}

// Address is the last 20 bytes of the Keccak-256 hash of an uncompressed public key without its
// first byte.
type Address [20]byte

// ParseAddress reads an address: 0x and 40 hex digits, all lower case, all upper case, or with a
// right checksum (EIP-55). It returns ErrBadAddress.
func ParseAddress(s string) (a Address, err error) {
	digits, ok := strings.CutPrefix(s, "0x")
	if !ok || len(digits) != 40 {
		return a, fmt.Errorf("%w, got %q", ErrBadAddress, clip(s))
	}
	if _, err := hex.Decode(a[:], []byte(digits)); err != nil {
		return a, fmt.Errorf("%w, got %q", ErrBadAddress, clip(s))
	}
	if digits != strings.ToLower(digits) && digits != strings.ToUpper(digits) && s != a.String() {
		return a, fmt.Errorf("%w: the checksum of %s is wrong", ErrBadAddress, s)
	}
	return a, nil
}

func clip(s string) string { return s[:min(len(s), 64)] }

// String returns the address with its checksum (EIP-55).
func (a Address) String() string {
	low := []byte(hex.EncodeToString(a[:]))
	sum := Keccak256(low)
	for i, c := range low {
		if nibble := sum[i/2] >> (4 * (1 - i%2)) & 15; c >= 'a' && nibble >= 8 {
			low[i] = c - 'a' + 'A'
		}
	}
	return "0x" + string(low)
}

// Lower returns the address in lower case, as OBJECTS has it on the wire.
func (a Address) Lower() string { return "0x" + hex.EncodeToString(a[:]) }

// AddressOf returns the address of a public key in compressed SEC1 form, or ErrBadKey.
func AddressOf(public [33]byte) (Address, error) {
	k, err := secp256k1.ParsePubKey(public[:])
	if err != nil {
		return Address{}, fmt.Errorf("%w: %w", ErrBadKey, err)
	}
	return addressOf(k), nil
}

func addressOf(k *secp256k1.PublicKey) Address {
	sum := Keccak256(k.SerializeUncompressed()[1:])
	return Address(sum[12:])
}

// Key is a secret key on secp256k1. It never prints itself.
type Key struct{ key *secp256k1.PrivateKey }

// NewKey makes a key.
func NewKey() (Key, error) {
	k, err := secp256k1.GeneratePrivateKey()
	if err != nil {
		return Key{}, err
	}
	return KeyFromSecret([32]byte(k.Serialize()))
}

// KeyFromSecret returns the key of a secret scalar, or ErrBadKey.
func KeyFromSecret(secret [32]byte) (Key, error) {
	var s secp256k1.ModNScalar
	if overflow := s.SetBytes(&secret); overflow != 0 || s.IsZero() {
		return Key{}, ErrBadKey
	}
	return Key{secp256k1.NewPrivateKey(&s)}, nil
}

// Secret returns the scalar.
func (k Key) Secret() [32]byte { return [32]byte(k.key.Serialize()) }

// Public returns the public key in compressed SEC1 form.
func (k Key) Public() [33]byte { return [33]byte(k.key.PubKey().SerializeCompressed()) }

// Address returns the address of the key.
func (k Key) Address() Address { return addressOf(k.key.PubKey()) }

// String hides the key.
func (k Key) String() string { return "[secret key]" }

// GoString hides the key.
func (k Key) GoString() string { return k.String() }

// Signature is r ‖ s ‖ v: 32, 32 and 1 bytes.
type Signature [65]byte

// Sign signs a digest, deterministically (RFC 6979), with the lower s and v 27 or 28.
func (k Key) Sign(digest [32]byte) (sig Signature) {
	compact := ecdsa.SignCompact(k.key, digest[:], false) // v first, 27 or 28
	copy(sig[:], compact[1:])
	sig[64] = compact[0]
	return sig
}

// ParseSignature reads 130 hex digits, with or without 0x before them. Whether they are a signature
// is for Recover to say.
func ParseSignature(s string) (sig Signature, err error) {
	digits := strings.TrimPrefix(s, "0x")
	if len(digits) != 130 {
		return sig, fmt.Errorf("%w: expected 130 hex digits", ErrBadSignature)
	}
	if _, err := hex.Decode(sig[:], []byte(digits)); err != nil {
		return sig, fmt.Errorf("%w: expected 130 hex digits", ErrBadSignature)
	}
	return sig, nil
}

// String returns 0x and 130 hex digits.
func (s Signature) String() string { return "0x" + hex.EncodeToString(s[:]) }

// Recover returns the public key whose holder signed a digest, in compressed SEC1 form. v must be
// 0, 1, 27 or 28, r and s within the order of the curve and not 0, and s in its lower half, so that
// a signature has one form but for v (EIP-2). It returns ErrBadSignature.
func Recover(digest [32]byte, sig Signature) (public [33]byte, err error) {
	k, err := recoverKey(digest, sig)
	if err != nil {
		return public, err
	}
	return [33]byte(k.SerializeCompressed()), nil
}

// RecoverAddress is Recover for callers who know the signer by its address.
func RecoverAddress(digest [32]byte, sig Signature) (a Address, err error) {
	k, err := recoverKey(digest, sig)
	if err != nil {
		return a, err
	}
	return addressOf(k), nil
}

func recoverKey(digest [32]byte, sig Signature) (*secp256k1.PublicKey, error) {
	_, _, odd, err := parts(sig)
	if err != nil {
		return nil, err
	}
	compact := [65]byte{27}
	if odd {
		compact[0] = 28
	}
	copy(compact[1:], sig[:64])
	k, _, err := ecdsa.RecoverCompact(compact[:], digest[:])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadSignature, err)
	}
	return k, nil
}

// parts returns r, s, and whether the y of the point that r is the x of is odd.
func parts(sig Signature) (r, s secp256k1.ModNScalar, odd bool, err error) {
	v := sig[64]
	if v < 27 {
		v += 27
	}
	switch {
	case v != 27 && v != 28:
		err = fmt.Errorf("%w: v is %d, expected 0, 1, 27 or 28", ErrBadSignature, sig[64])
	case r.SetByteSlice(sig[:32]) || s.SetByteSlice(sig[32:64]) || r.IsZero() || s.IsZero():
		err = fmt.Errorf("%w: r or s is out of range", ErrBadSignature)
	case s.IsOverHalfOrder():
		err = fmt.Errorf("%w: s is in the upper half", ErrBadSignature)
	}
	return r, s, v == 28, err
}

// TextDigest is what a wallet signs for a text (EIP-191, version 0x45).
func TextDigest(text []byte) [32]byte {
	return Keccak256([]byte("\x19Ethereum Signed Message:\n"+strconv.Itoa(len(text))), text)
}
