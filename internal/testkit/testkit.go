// Package testkit is what tests of several packages share and that knows nothing of them.
//
// What belongs here: content, clocks and the like. What never belongs here: what the program needs,
// and stores for tests, which stand beside what they store (kv/kvtest, blobs/blobstest).
package testkit

import (
	"math/rand/v2"
	"os"
	"testing"
)

// Random returns n bytes that follow from the low 16 bits of a seed.
func Random[S ~int | ~uint8 | ~uint32 | ~uint64](seed S, n int) []byte {
	b := make([]byte, n)
	low := uint16(seed)
	_, _ = rand.NewChaCha8([32]byte{byte(low), byte(low >> 8)}).Read(b)
	return b
}

// Full tells that nothing is to be made short for the race detector, though it takes hours.
// .ci/full sets CI_FULL for that.
func Full() bool { return os.Getenv("CI_FULL") != "" }

// Few returns all, or few if the race detector watches. See Race.
func Few(all, few int) int {
	if Race && !Full() {
		return few
	}
	return all
}

// OneGoroutine is for a test that runs in one goroutine and takes long: the race detector would see
// nothing in it, so it is left to the run without, and to .ci/full.
func OneGoroutine(t *testing.T) {
	t.Helper()
	if Race && !Full() {
		t.Skip("one goroutine, of which the race detector sees nothing")
	}
}

// SeenElsewhere is for a test that takes long with the race detector, and whose goroutines are
// those of shorter tests, which it watches: those of a node meet in the simulations. It is left to
// the run without, and to .ci/full.
func SeenElsewhere(t *testing.T) {
	t.Helper()
	if Race && !Full() {
		t.Skip("the race detector sees these goroutines in shorter tests")
	}
}
