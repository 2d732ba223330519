package versions

import (
	"errors"
	"sync"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/replica"
	"github.com/skerry-sync/skerry/versions/record"
)

// seen is what has been found out about what others have written. It can be forgotten, and is found
// again.
type seen struct {
	mu    sync.Mutex
	false map[falseClaim]bool
	parts map[record.Dot]int  // by the first part of a batch: how many from there on have come
	told  map[record.Dot]bool // by the first part of a batch: Arrived has said that it is whole
	// keys are those in manifests, and keysSize what they take, in bytes.
	keys     map[blobs.Hash][][]byte
	keysSize int
	// earned is how many looks the entries of an author have earned, and free how many of those that
	// all have without any were taken.
	earned map[replica.AuthorID]int
	free   int
}

// falseClaim is a content that an entry claims, and that is another.
type falseClaim struct {
	claimed record.Hash
	stored  blobs.Hash
}

// maxSeen is how much is remembered of each kind.
const maxSeen = 1 << 14

// maxKeysSize is how many bytes the keys in manifests take, or those of one take more.
const maxKeysSize = 2 * record.MaxManifest

// Whoever may write can have any number of manifests name 65,536 keys each: they can share one
// content, and what one version says that it supersedes can be all of their parts. So each author's
// entries pay for the looks at its batches. An author who has no looks left has its batches count
// as whole: its versions are shown as they come.
const (
	// looksAnEntry is how many looks an entry earns for its author. A part of a batch needs one.
	looksAnEntry = 4
	// freeLooks is how many looks there are for all authors together, which no entry has earned: for
	// batches that are read before their entries have been given to Arrived.
	freeLooks = 1 << 14
	// fewSlots is how many versions of a key a look that finds nothing may cost.
	fewSlots = 8
	// manifestALook is how many bytes of a manifest are read for a look.
	manifestALook = 4 << 10
)

// errSpent reports an author who has no looks left.
var errSpent = errors.New("the author has not written as much as is to be looked at")

// earn gives an author what one of its entries earns.
func (x *seen) earn(author replica.AuthorID) {
	x.mu.Lock()
	defer x.mu.Unlock()
	note(&x.earned, author, x.earned[author]+looksAnEntry)
}

// spend takes n looks of an author, and reports whether it had as many.
func (x *seen) spend(author replica.AuthorID, n int) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	own := min(n, x.earned[author])
	if n-own > freeLooks-x.free {
		return false
	}
	if own > 0 {
		x.earned[author] -= own
	}
	x.free += n - own
	return true
}

func (x *seen) isFalse(k falseClaim) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.false[k]
}

func (x *seen) noteFalse(k falseClaim) {
	x.mu.Lock()
	defer x.mu.Unlock()
	note(&x.false, k, true)
}

// partsOf returns how many parts of a batch are known to have come, from the first on.
func (x *seen) partsOf(first record.Dot) int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.parts[first]
}

func (x *seen) noteParts(first record.Dot, n int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	note(&x.parts, first, n)
}

func (x *seen) isTold(first record.Dot) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.told[first]
}

func (x *seen) noteTold(first record.Dot) {
	x.mu.Lock()
	defer x.mu.Unlock()
	note(&x.told, first, true)
}

func (x *seen) keysOf(manifest blobs.Hash) (keys [][]byte, ok bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	keys, ok = x.keys[manifest]
	return keys, ok
}

func (x *seen) noteKeys(manifest blobs.Hash, keys [][]byte) {
	const each = 40 // bytes, beside the key's own
	size := each
	for _, k := range keys {
		size += each + len(k)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.keysSize += size; x.keys == nil || x.keysSize > maxKeysSize {
		x.keys, x.keysSize = map[blobs.Hash][][]byte{}, size
	}
	x.keys[manifest] = keys
}

func note[K comparable, V any](m *map[K]V, k K, v V) {
	if *m == nil || len(*m) >= maxSeen {
		*m = map[K]V{}
	}
	(*m)[k] = v
}
