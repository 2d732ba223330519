package blobs

import (
	"errors"
	"fmt"
)

// Sequence is an ordered list of blobs treated as a unit: the children. It is itself a blob, made
// of their 32-byte hashes and nothing else.
type Sequence []Hash

// MaxChildren is how many children a sequence may have.
const MaxChildren = 1 << 22

// ErrNotSequence reports a blob that is not a whole number of hashes, or too many.
var ErrNotSequence = errors.New("blob is not a sequence of hashes")

// Bytes returns the content of the sequence's blob.
func (s Sequence) Bytes() []byte {
	b := make([]byte, 0, len(s)*HashSize)
	for _, h := range s {
		b = append(b, h[:]...)
	}
	return b
}

// ParseSequence reads the content of a sequence's blob.
func ParseSequence(b []byte) (Sequence, error) {
	if len(b)%HashSize != 0 || len(b)/HashSize > MaxChildren {
		return nil, fmt.Errorf("%w: %d bytes", ErrNotSequence, len(b))
	}
	s := make(Sequence, len(b)/HashSize)
	for i := range s {
		s[i] = Hash(b[i*HashSize:])
	}
	return s, nil
}
