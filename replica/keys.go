package replica

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/skerry-sync/skerry/internal/edsig"
)

// text32 is the text form of keys: lower-case base32 without padding, 52 characters for 32 bytes.
var text32 = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

func parse32(s, what string) (id [32]byte, err error) {
	b, err := text32.DecodeString(strings.ToLower(s))
	if err != nil || len(b) != 32 || text32.EncodeToString(b) != strings.ToLower(s) {
		return id, fmt.Errorf("not %s: expected 52 characters of base32, got %d", what, len(s))
	}
	return [32]byte(b), nil
}

// ID names a replica: the Ed25519 public key of the replica key.
type ID [32]byte

// ParseID reads the text form of a replica id.
func ParseID(s string) (ID, error) {
	id, err := parse32(s, "a replica id")
	if err == nil {
		err = checkPoint(id, "replica id")
	}
	if err != nil {
		return ID{}, err
	}
	return ID(id), nil
}

func (id ID) String() string { return text32.EncodeToString(id[:]) }

// Short returns the first 10 characters, for people.
func (id ID) Short() string { return id.String()[:10] }

// MarshalText implements encoding.TextMarshaler.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *ID) UnmarshalText(b []byte) (err error) {
	if string(b) == (ID{}).String() { // none: nothing can be signed with it
		*id = ID{}
		return nil
	}
	*id, err = ParseID(string(b))
	return err
}

// Check returns ErrWeakKey if the id is a key with which anybody could sign.
func (id ID) Check() error { return checkPoint(id, "replica id") }

// AuthorID names an author: the Ed25519 public key that entries are signed with.
type AuthorID [32]byte

// ParseAuthorID reads the text form of an author id. With ErrWeakKey, it also returns the id.
func ParseAuthorID(s string) (AuthorID, error) {
	id, err := parse32(s, "an author id")
	if err == nil {
		err = checkPoint(id, "author id")
	}
	return AuthorID(id), err
}

func (id AuthorID) String() string { return text32.EncodeToString(id[:]) }

// MarshalText implements encoding.TextMarshaler.
func (id AuthorID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *AuthorID) UnmarshalText(b []byte) (err error) {
	if string(b) == (AuthorID{}).String() { // none, as with an ID
		*id = AuthorID{}
		return nil
	}
	*id, err = ParseAuthorID(string(b))
	return err
}

// SecretKey is an Ed25519 key: of a replica (whoever holds it may write, and grant others to write)
// or of an author. It never prints itself. The zero key is none: its ids and its signatures are
// zeros, which nothing accepts.
type SecretKey struct{ key ed25519.PrivateKey }

// NewSecretKey makes a new key from the system's randomness.
func NewSecretKey() SecretKey {
	var seed [32]byte
	_, _ = rand.Read(seed[:]) // never fails
	return SecretKeyFromSeed(seed)
}

// SecretKeyFromSeed returns the key of a 32-byte Ed25519 seed.
func SecretKeyFromSeed(seed [32]byte) SecretKey {
	return SecretKey{ed25519.NewKeyFromSeed(seed[:])}
}

// secretKey returns the key of a replica whose seed and id are known: without the work of
// SecretKeyFromSeed.
func secretKey(seed [32]byte, id ID) SecretKey {
	return SecretKey{append(append(make([]byte, 0, 64), seed[:]...), id[:]...)}
}

// Seed returns the 32 secret bytes.
func (k SecretKey) Seed() (seed [32]byte) {
	if !k.IsZero() {
		copy(seed[:], k.key)
	}
	return seed
}

// IsZero reports whether there is no key.
func (k SecretKey) IsZero() bool { return k.key == nil }

func (k SecretKey) public() (public [32]byte) {
	if !k.IsZero() {
		copy(public[:], k.key[ed25519.SeedSize:])
	}
	return public
}

// Replica returns the id of the replica whose key this is.
func (k SecretKey) Replica() ID { return k.public() }

// Author returns the id of the author whose key this is.
func (k SecretKey) Author() AuthorID { return k.public() }

// String hides the key.
func (k SecretKey) String() string { return "[secret key]" }

// GoString hides the key.
func (k SecretKey) GoString() string { return k.String() }

// Format hides the key, whatever the verb.
func (k SecretKey) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, k.String()) }

// MarshalText refuses: secrets are written only by code that means to.
func (k SecretKey) MarshalText() ([]byte, error) {
	return nil, errors.New("a secret key is not written as text")
}

// Sign signs a message of another package. It must begin with a line that says what it is and that
// no other message begins with, so that no signature can be taken for one of something else.
func (k SecretKey) Sign(msg []byte) [64]byte { return k.sign(msg) }

// Verify reports whether the author has signed a message of another package.
func (id AuthorID) Verify(msg []byte, sig [64]byte) bool { return verify(id, msg, sig) }

func (k SecretKey) sign(msg []byte) (sig [64]byte) {
	if k.IsZero() {
		return sig
	}
	return edsig.Sign(k.key, msg)
}

// ErrWeakKey reports an id that is a key of small order: anybody could sign with it.
var ErrWeakKey = errors.New("is a key of small order, with which anybody could sign")

// checkPoint returns ErrWeakKey for a public key under which everybody can sign. Bytes that are no
// point of the curve are no danger: nothing is ever right under them.
func checkPoint(public [32]byte, what string) error {
	if edsig.Weak(public) {
		return fmt.Errorf("%s %s %w", what, text32.EncodeToString(public[:]), ErrWeakKey)
	}
	return nil
}

// isWeak reports whether checkPoint would return ErrWeakKey. What such an author states or writes
// counts nowhere: it is void, as if no grant had ever been for it.
func isWeak(public [32]byte) bool { return edsig.Weak(public) }

// verify goes by ZIP-215 without weak keys, as verifyAll does: all nodes agree whichever way they
// check.
func verify(public [32]byte, msg []byte, sig [64]byte) bool {
	return edsig.NoWeakKeys.Verify(public, msg, sig)
}
