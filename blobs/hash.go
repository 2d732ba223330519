package blobs

import (
	"encoding/hex"
	"fmt"

	"lukechampine.com/blake3"

	"github.com/skerry-sync/skerry/internal/kind"
)

// HashSize is the length of a Hash in bytes.
const HashSize = 32

// Hash is the BLAKE3-256 hash that names a blob. Its text form is 64 lower-case hex digits.
type Hash [HashSize]byte

// EmptyHash names the blob of no bytes.
var EmptyHash = HashOf(nil)

// HashOf returns the hash of data.
func HashOf(data []byte) Hash {
	if len(data) <= GroupSize {
		return hashGroup(data, 0, true)
	}
	return blake3.Sum256(data)
}

// ErrNotHash reports text that is not 64 hex digits.
var ErrNotHash = kind.New(kind.Usage, "not a blob hash: expected 64 hex digits")

// ParseHash reads the text form; upper-case digits are accepted.
func ParseHash(s string) (h Hash, err error) {
	if len(s) != 2*HashSize {
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
	*h, err = ParseHash(string(b))
	return err
}
