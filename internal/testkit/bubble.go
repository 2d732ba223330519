package testkit

import (
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
)

var bubbles struct {
	mu    sync.Mutex
	count int
	procs int // outside of them
}

// Bubble runs f in a bubble with a clock of its own. With the race detector, all bubbles run on one
// processor: timers of one bubble that are due at once run wherever they are set, and share one
// context of the detector without a lock, which crashes it (golang/go issue 78156, as of Go 1.26).
// It misses nothing for that: it goes by what is ordered, not by what happens to overlap.
func Bubble(t *testing.T, f func(t *testing.T)) {
	if Race {
		bubbles.mu.Lock()
		if bubbles.count++; bubbles.count == 1 {
			bubbles.procs = runtime.GOMAXPROCS(1)
		}
		bubbles.mu.Unlock()
		defer func() {
			bubbles.mu.Lock()
			defer bubbles.mu.Unlock()
			if bubbles.count--; bubbles.count == 0 {
				runtime.GOMAXPROCS(bubbles.procs)
			}
		}()
	}
	synctest.Test(t, f)
}
