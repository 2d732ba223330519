// Package flush lets concurrent calls of kv.Store.Sync share flushes of the disk.
//
// What belongs here: who waits for which flush, and who runs it. What never belongs here: what a
// flush does.
package flush

import (
	"errors"
	"sync"
)

// Group lets callers that arrive while a flush runs share the next one: a flush that has already
// begun may have missed their writes. One of those waiting runs it, so no goroutine outlives its
// caller and none is kept at work for others.
type Group struct {
	run func() error

	mu      sync.Mutex
	running bool
	next    *flush // joined by those who wait for the flush after the running one
}

// New returns a group whose flushes are calls of run, one at a time.
func New(run func() error) *Group { return &Group{run: run} }

type flush struct {
	lead chan struct{} // holds one token once it is this flush's turn
	done chan struct{}
	err  error
}

// errPanic is what those get who share a flush that panics. Whoever runs it gets the panic, and the
// next ones go on.
var errPanic = errors.New("flush: whoever ran it panicked")

// Wait returns after a flush that began after the call. A flush is bounded by the disk, so it
// cannot be cancelled.
func (g *Group) Wait() error {
	g.mu.Lock()
	if !g.running {
		g.running = true
		g.mu.Unlock()
		defer g.pass()
		return g.run()
	}
	if g.next == nil {
		g.next = &flush{lead: make(chan struct{}, 1), done: make(chan struct{})}
	}
	f := g.next
	g.mu.Unlock()

	select {
	case <-f.done:
		return f.err
	case <-f.lead:
	}
	g.mu.Lock()
	g.next = nil // those who come now wait for a later flush
	g.mu.Unlock()
	defer g.pass()
	defer close(f.done)
	f.err = errPanic
	f.err = g.run()
	return f.err
}

// pass hands the turn to one of those who wait.
func (g *Group) pass() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.next == nil {
		g.running = false
		return
	}
	g.next.lead <- struct{}{}
}
