// Package seldom keeps what happens again and again from being told each time.
//
// What belongs here: when a person is told of the same thing again. What never belongs here: what
// is told, and where.
package seldom

import (
	"sync"
	"time"
)

// every is how often a person is told of the same thing.
const every = time.Minute

// Told knows when something was last told. The zero value has told nothing. Its method may be
// called from many goroutines.
type Told struct {
	mu   sync.Mutex
	last time.Time
}

// Again reports whether it is to be told now, and takes it that it is.
func (t *Told) Again(now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now.Sub(t.last) < every {
		return false
	}
	t.last = now
	return true
}
