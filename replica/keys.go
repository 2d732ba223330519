package replica

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"

	"github.com/skerry-sync/skerry/internal/edsig"
	"github.com/skerry-sync/skerry/replica/ids"
)

// ID names a replica: the Ed25519 public key of the replica key. The type is that of package ids,
// which links no store.
type ID = ids.Replica

// ParseID reads the text form of a replica id. With a key of small order, the error is ErrWeakKey.
func ParseID(s string) (ID, error) { return ids.ParseReplica(s) }

// AuthorID names an author: the Ed25519 public key that entries are signed with.
type AuthorID = ids.Author

// ParseAuthorID reads the text form of an author id. With ErrWeakKey, it also returns the id.
func ParseAuthorID(s string) (AuthorID, error) { return ids.ParseAuthor(s) }

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

func (k SecretKey) sign(msg []byte) (sig [64]byte) {
	if k.IsZero() {
		return sig
	}
	return edsig.Sign(k.key, msg)
}

// ErrWeakKey reports an id that is a key of small order: anybody could sign with it.
var ErrWeakKey = ids.ErrWeakKey

// isWeak reports whether a public key is of small order, of which ErrWeakKey is. What such an
// author states or writes counts nowhere: it is void, as if no grant had ever been for it.
func isWeak(public [32]byte) bool { return edsig.Weak(public) }

// verify goes by ZIP-215 without weak keys, as verifyAll does: all nodes agree whichever way they
// check.
func verify(public [32]byte, msg []byte, sig [64]byte) bool {
	return edsig.NoWeakKeys.Verify(public, msg, sig)
}
