package blobs

import (
	"lukechampine.com/blake3"

	"github.com/skerry-sync/skerry/blobs/hash"
)

// HashSize is the length of a Hash in bytes.
const HashSize = hash.Size

// Hash is the BLAKE3-256 hash that names a blob. Its text form is 64 lower-case hex digits. The
// type is that of package hash, which links no store.
type Hash = hash.Hash

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
var ErrNotHash = hash.ErrNotHash

// ParseHash reads the text form; upper-case digits are accepted. All else is ErrNotHash.
func ParseHash(s string) (Hash, error) { return hash.Parse(s) }
