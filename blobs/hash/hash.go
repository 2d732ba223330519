// Package hash has the name of a blob, for those who name blobs and keep none.
//
// What belongs here: the name, and its text form. What never belongs here: how it is computed, and
// anything that needs a store (package blobs, which has the same type as blobs.Hash).
package hash

import (
	"encoding/hex"
	"fmt"

	"github.com/skerry-sync/skerry/internal/kind"
)

// Size is the length of a Hash in bytes.
const Size = 32

// Hash is the BLAKE3-256 hash that names a blob. Its text form is 64 lower-case hex digits.
type Hash [Size]byte

// ErrNotHash reports text that is not 64 hex digits.
var ErrNotHash = kind.New(kind.Usage, "not a blob hash: expected 64 hex digits")

// Parse reads the text form; upper-case digits are accepted. All else is ErrNotHash.
func Parse(s string) (h Hash, err error) {
	if len(s) != 2*Size {
		return h, fmt.Errorf("%w, got %d characters", ErrNotHash, len(s))
	}
	if _, err := hex.Decode(h[:], []byte(s)); err != nil {
		return Hash{}, fmt.Errorf("%w: %w", ErrNotHash, err)
	}
	return h, nil
}

// String returns the text form.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// Short returns the first 10 digits, for people.
func (h Hash) Short() string { return hex.EncodeToString(h[:5]) }

// MarshalText implements encoding.TextMarshaler.
func (h Hash) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h[:]), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *Hash) UnmarshalText(b []byte) (err error) {
	*h, err = Parse(string(b))
	return err
}
