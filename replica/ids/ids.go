// Package ids has the names of replicas and of authors, and what their holders may do, for those
// who name replicas and keep none.
//
// What belongs here: ids, their text forms, capabilities, and how long the key of an entry may be.
// What never belongs here: secret keys, entries, and anything that needs a store (package replica,
// which has the same types as replica.ID, replica.AuthorID and replica.Capability).
package ids

import (
	"encoding/base32"
	"errors"
	"fmt"
	"strings"

	"github.com/skerry-sync/skerry/internal/edsig"
	"github.com/skerry-sync/skerry/internal/kind"
)

// MaxKey is the longest key of an entry in bytes.
const MaxKey = 65535

// ErrKeyTooLong reports a key over MaxKey bytes.
var ErrKeyTooLong = kind.New(kind.Usage, "key is longer than 65,535 bytes")

// text32 is the text form of public keys: lower-case base32 without padding, 52 characters for 32
// bytes.
var text32 = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// Decode reads the text form of a public key, what names it in the error, and does not ask whether
// the key is of small order: for the beginnings of ids. Upper case is accepted.
func Decode(s, what string) (id [32]byte, err error) {
	b, err := text32.DecodeString(strings.ToLower(s))
	if err != nil || len(b) != 32 || text32.EncodeToString(b) != strings.ToLower(s) {
		return id, fmt.Errorf("not %s: expected 52 characters of base32, got %d", what, len(s))
	}
	return [32]byte(b), nil
}

// Replica names a replica: the Ed25519 public key of the replica key. Its text form is 52
// characters of lower-case base32.
type Replica [32]byte

// ParseReplica reads the text form of a replica's id; upper case is accepted. With a key of small
// order, the error is ErrWeakKey.
func ParseReplica(s string) (Replica, error) {
	id, err := Decode(s, "a replica id")
	if err == nil {
		err = checkKey(id, "replica id")
	}
	if err != nil {
		return Replica{}, err
	}
	return Replica(id), nil
}

func (id Replica) String() string { return text32.EncodeToString(id[:]) }

// Short returns the first 10 characters, for people.
func (id Replica) Short() string { return id.String()[:10] }

// MarshalText implements encoding.TextMarshaler.
func (id Replica) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *Replica) UnmarshalText(b []byte) (err error) {
	if string(b) == (Replica{}).String() { // none: nothing can be signed with it
		*id = Replica{}
		return nil
	}
	*id, err = ParseReplica(string(b))
	return err
}

// Check returns ErrWeakKey if the id is a key with which anybody could sign.
func (id Replica) Check() error { return checkKey(id, "replica id") }

// Author names an author: the Ed25519 public key that entries are signed with. Its text form is 52
// characters of lower-case base32.
type Author [32]byte

// ParseAuthor reads the text form of an author's id; upper case is accepted. With ErrWeakKey, it
// also returns the id.
func ParseAuthor(s string) (Author, error) {
	id, err := Decode(s, "an author id")
	if err == nil {
		err = checkKey(id, "author id")
	}
	return Author(id), err
}

func (id Author) String() string { return text32.EncodeToString(id[:]) }

// MarshalText implements encoding.TextMarshaler.
func (id Author) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *Author) UnmarshalText(b []byte) (err error) {
	if string(b) == (Author{}).String() { // none, as with a Replica
		*id = Author{}
		return nil
	}
	*id, err = ParseAuthor(string(b))
	return err
}

// Verify reports whether the author has signed a message. It goes by ZIP-215 without keys of small
// order, as all checks of entries do: all nodes agree.
func (id Author) Verify(msg []byte, sig [64]byte) bool {
	return edsig.NoWeakKeys.Verify(id, msg, sig)
}

// ErrWeakKey reports an id that is a key of small order: anybody could sign with it.
var ErrWeakKey = errors.New("is a key of small order, with which anybody could sign")

// checkKey returns ErrWeakKey for a public key under which everybody can sign; what names it in the
// error. Bytes that are no point of the curve are no danger: nothing is ever right under them.
func checkKey(public [32]byte, what string) error {
	if edsig.Weak(public) {
		return fmt.Errorf("%s %s %w", what, text32.EncodeToString(public[:]), ErrWeakKey)
	}
	return nil
}
