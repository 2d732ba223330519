// Package identity is who a person is, as OBJECTS has it: an id that stands for the public key of a
// wallet or passkey, and signatures of such keys over a few kinds of statements.
//
// What belongs here: ids and handles, the texts and structs that are signed, verifying signatures,
// keys, and the file and the words that they are kept in. What never belongs here: the vault and
// other things that are derived from keys, and asking a person.
//
// Facts from OBJECTS RFC-001, draft 0.1; see Message, Signature and Key.
package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/big"
	"strings"

	"github.com/mr-tron/base58"

	"github.com/skerry-sync/skerry/identity/eth"
	"github.com/skerry-sync/skerry/internal/kind"
)

var (
	// ErrNotID reports text that is no identity id.
	ErrNotID = kind.New(kind.Usage, "not an identity id: expected obj_ and 15 bytes in base58")
	// ErrBadHandle reports a handle that nobody can have.
	ErrBadHandle = errors.New("bad handle")
	// ErrBadPublicKey reports bytes that are no public key of their kind.
	ErrBadPublicKey = errors.New("bad public key")
)

// IDSize is the length of an id in bytes.
const IDSize = 15

const idPrefix = "obj_"

// ID names an identity: the first 15 bytes of the SHA-256 hash of its public key and a nonce.
type ID [IDSize]byte

// Nonce is chosen once for an identity, so that its id does not follow from its key alone.
type Nonce [8]byte

// NewNonce returns a random nonce.
func NewNonce() (n Nonce) {
	_, _ = rand.Read(n[:]) // never fails
	return n
}

// PublicKey is a public key of either kind in compressed SEC1 form.
type PublicKey [33]byte

// IDOf returns the id of a key with a nonce.
func IDOf(public PublicKey, nonce Nonce) ID {
	h := sha256.Sum256(append(public[:], nonce[:]...))
	return ID(h[:IDSize])
}

// ParseID reads the text form: obj_ and the base58 (Bitcoin alphabet) of exactly 15 bytes. It
// returns ErrNotID.
func ParseID(s string) (ID, error) {
	digits, ok := strings.CutPrefix(s, idPrefix)
	if !ok || len(digits) > 22 {
		return ID{}, fmt.Errorf("%w, got %q", ErrNotID, s[:min(len(s), 64)])
	}
	b, err := base58.Decode(digits)
	if err != nil || len(b) != IDSize || base58.Encode(b) != digits {
		return ID{}, fmt.Errorf("%w, got %q", ErrNotID, s)
	}
	return ID(b), nil
}

func (id ID) String() string { return idPrefix + base58.Encode(id[:]) }

// MarshalText implements encoding.TextMarshaler.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *ID) UnmarshalText(b []byte) (err error) {
	*id, err = ParseID(string(b))
	return err
}

// reserved are handles that nobody can have.
var reserved = strings.Fields(
	"admin administrator root system objects protocol support help info contact api www mail ftp",
)

// ParseHandle returns a handle in lower case and without the @ that it may be shown with, or
// ErrBadHandle: 1 to 30 of a to z, 0 to 9, _ and ., not beginning with . or _, not ending with .,
// without two dots in a row, and not a reserved word.
func ParseHandle(s string) (string, error) {
	h := strings.ToLower(strings.TrimPrefix(s, "@"))
	bad := func(why string) (string, error) {
		return "", fmt.Errorf("%w %q: %s", ErrBadHandle, s[:min(len(s), 64)], why)
	}
	switch {
	case strings.ContainsFunc(s, func(c rune) bool {
		return c > 127 // some of these have lower cases that are ASCII
	}),
		strings.ContainsFunc(h, func(c rune) bool {
			return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789_.", c)
		}):
		return bad("only letters a to z, digits, _ and . can be in it")
	case len(h) < 1 || len(h) > 30:
		return bad("it must have 1 to 30 characters")
	case h[0] == '.' || h[0] == '_':
		return bad("it must not begin with . or _")
	case h[len(h)-1] == '.':
		return bad("it must not end with .")
	case strings.Contains(h, ".."):
		return bad("two dots must not follow each other")
	}
	for _, r := range reserved {
		if h == r {
			return bad("it is reserved")
		}
	}
	return h, nil
}

// Kind is the kind of key that signs for an identity.
type Kind byte

// The kinds, by their numbers in OBJECTS' SignerType.
const (
	Passkey Kind = 1 // P-256, signing as WebAuthn
	Wallet  Kind = 2 // secp256k1, signing as Ethereum wallets
)

var kindNames = map[Kind]string{Passkey: "passkey", Wallet: "wallet"}

func (k Kind) String() string {
	if s, ok := kindNames[k]; ok {
		return s
	}
	return fmt.Sprintf("kind of key %d", byte(k))
}

// ParseKind reads "passkey" or "wallet".
func ParseKind(s string) (Kind, error) {
	for k, name := range kindNames {
		if name == s {
			return k, nil
		}
	}
	return 0, fmt.Errorf("unknown kind of key %q: use wallet or passkey", s)
}

// Key is a secret key of an identity: a scalar on the curve of its kind. It never prints itself.
type Key struct {
	kind   Kind
	wallet eth.Key
	p256   *ecdsa.PrivateKey
}

// ErrBadKey reports 32 bytes that are no secret key of their kind: 0, or not below the order of the
// curve.
var ErrBadKey = errors.New("not a secret key")

// NewKey makes a key from the system's randomness.
func NewKey(kind Kind) (Key, error) {
	for {
		var secret [32]byte
		_, _ = rand.Read(secret[:]) // never fails
		if k, err := KeyFromSecret(kind, secret); !errors.Is(err, ErrBadKey) {
			return k, err // one in 2^32 at worst is none
		}
	}
}

// Nonce returns a nonce that follows from the secret key, so that the words of a mnemonic are
// enough to have the same identity again: the first 8 bytes of HKDF-SHA256 of the secret with the
// info "skerry identity nonce 1". From the public key alone it does not follow.
func (k Key) Nonce() (n Nonce) {
	secret := k.Secret()
	b, err := hkdf.Key(sha256.New, secret[:], nil, "skerry identity nonce 1", len(n))
	if err != nil {
		panic(err) // only for lengths that are too great
	}
	copy(n[:], b)
	return n
}

// KeyFromSecret returns the key of a secret scalar, or ErrBadKey.
func KeyFromSecret(kind Kind, secret [32]byte) (Key, error) {
	switch kind {
	case Wallet:
		k, err := eth.KeyFromSecret(secret)
		if err != nil {
			return Key{}, ErrBadKey
		}
		return Key{kind: Wallet, wallet: k}, nil
	case Passkey:
		k, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), secret[:])
		if err != nil {
			return Key{}, ErrBadKey
		}
		return Key{kind: Passkey, p256: k}, nil
	}
	return Key{}, fmt.Errorf("unknown %s", kind)
}

// Kind returns the kind of the key.
func (k Key) Kind() Kind { return k.kind }

// IsZero reports whether there is no key.
func (k Key) IsZero() bool { return k.kind == 0 }

// Secret returns the scalar.
func (k Key) Secret() (s [32]byte) {
	if k.kind == Wallet {
		return k.wallet.Secret()
	}
	b, err := k.p256.Bytes()
	if err != nil || len(b) != len(s) {
		// KeyFromSecret makes no other
		panic(fmt.Sprintf("identity: a P-256 key of %d bytes: %v", len(b), err))
	}
	return [32]byte(b)
}

// Public returns the public key.
func (k Key) Public() PublicKey {
	if k.kind == Wallet {
		return k.wallet.Public()
	}
	return compress(&k.p256.PublicKey)
}

// String hides the key.
func (k Key) String() string { return "[secret key]" }

// GoString hides the key.
func (k Key) GoString() string { return k.String() }

// MarshalText refuses: secrets are written only by code that means to.
func (k Key) MarshalText() ([]byte, error) {
	return nil, errors.New("a secret key is not written as text")
}

func compress(k *ecdsa.PublicKey) (p PublicKey) {
	b, err := k.Bytes() // 04 x y
	if err != nil || len(b) != 65 {
		// it has been checked
		panic(fmt.Sprintf("identity: a P-256 public key of %d bytes: %v", len(b), err))
	}
	p[0] = 2 + b[64]&1
	copy(p[1:], b[1:33])
	return p
}

// p256Key returns the key of its compressed form, or ErrBadPublicKey.
func p256Key(p PublicKey) (*ecdsa.PublicKey, error) {
	x, y := elliptic.UnmarshalCompressed(elliptic.P256(), p[:])
	if x == nil {
		return nil, fmt.Errorf("%w: not a point of P-256", ErrBadPublicKey)
	}
	return p256Point(x, y)
}

func p256Point(x, y *big.Int) (*ecdsa.PublicKey, error) {
	b := make([]byte, 65)
	b[0] = 4
	x.FillBytes(b[1:33])
	y.FillBytes(b[33:])
	k, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), b)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadPublicKey, err)
	}
	return k, nil
}
