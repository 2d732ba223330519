// Package testkit is what tests of several packages share and that knows nothing of them.
//
// What belongs here: content, clocks and the like. What never belongs here: what the program needs,
// and stores for tests, which stand beside what they store (kv/kvtest, blobs/blobstest).
package testkit

import (
	"math/rand/v2"
	"testing"
)

// Random returns n bytes that follow from the low 16 bits of a seed.
func Random[S ~int | ~uint8 | ~uint32 | ~uint64](seed S, n int) []byte {
	b := make([]byte, n)
	low := uint16(seed)
	_, _ = rand.NewChaCha8([32]byte{byte(low), byte(low >> 8)}).Read(b)
	return b
}

// Few returns all, or few if the race detector watches. See Race.
func Few(all, few int) int {
	if Race {
		return few
	}
	return all
}

// OneGoroutine is for a test that runs in one goroutine and takes long: the race detector would see
// nothing in it, so it is left to the run without.
func OneGoroutine(t *testing.T) {
	t.Helper()
	if Race {
		t.Skip("one goroutine, of which the race detector sees nothing")
	}
}
