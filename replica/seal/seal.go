// Package seal encrypts what an encrypted replica holds: the keys of its entries and their
// contents, so that whoever may only sync stores and serves them without understanding.
//
// What belongs here: the two forms, and opening them in parts. What never belongs here: where keys
// come from, who is given them, and entries themselves.
//
// Both forms are deterministic within an epoch: the same key, and the same content, give the same
// bytes, so that entries replace each other, prefixes stay prefixes, and content that is there
// already is not stored or sent again. Whoever syncs learns what follows from that, and nothing
// else: see docs/protocol/sealed.md.
//
// Start at [ReadKey].
package seal

import (
	"crypto/rand"
	"errors"
	"fmt"
	"sync"

	"lukechampine.com/blake3"

	"github.com/skerry-sync/skerry/internal/kind"
)

// ErrSealed reports bytes that this key does not open: they were changed, or sealed with another
// key.
var ErrSealed = kind.New(kind.Verification, "cannot be opened with this read key")

// ReadKey opens what was sealed in one epoch of a replica. It does not print itself.
type ReadKey [32]byte

// NewReadKey returns a random key.
func NewReadKey() (k ReadKey) {
	_, _ = rand.Read(k[:]) // never fails
	return k
}

// String hides the key.
func (ReadKey) String() string { return "[read key]" }

// GoString hides the key.
func (k ReadKey) GoString() string { return k.String() }

// Format hides the key, whatever the verb.
func (k ReadKey) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(k.String())) }

// MarshalText refuses: keys are written only by code that means to.
func (ReadKey) MarshalText() ([]byte, error) {
	return nil, errors.New("a read key is not written as text")
}

// derive returns the key for one purpose: BLAKE3 in its mode for deriving keys.
func (k ReadKey) derive(purpose string) (out [32]byte) {
	blake3.DeriveKey(out[:], "skerry 2026-11 "+purpose, k[:])
	return out
}

// keyedHash is BLAKE3 with one key, for many inputs. It may be used by many goroutines.
type keyedHash struct {
	key  [32]byte
	size int       // of its results, in bytes
	used sync.Pool // *blake3.Hasher, which are large
}

func newKeyedHash(key [32]byte, size int) *keyedHash { return &keyedHash{key: key, size: size} }

func (k *keyedHash) sum(parts ...[]byte) []byte {
	h, _ := k.used.Get().(*blake3.Hasher)
	if h == nil {
		h = blake3.New(k.size, k.key[:])
	}
	for _, p := range parts {
		_, _ = h.Write(p) // never fails
	}
	out := h.Sum(make([]byte, 0, k.size))
	h.Reset()
	k.used.Put(h)
	return out
}

// keyed is BLAKE3 with a key.
func keyed(key [32]byte, size int, parts ...[]byte) []byte {
	h := blake3.New(size, key[:])
	for _, p := range parts {
		_, _ = h.Write(p) // never fails
	}
	return h.Sum(nil)
}
