// Package gate lets the Close of a store wait for the calls that are under way: a database that is
// closed under a reader panics, or takes its files out of memory, which kills the process.
//
// What belongs here: who is inside, and whether anybody may still enter. What never belongs here:
// what is done inside.
package gate

import (
	"context"
	"sync"

	"github.com/skerry-sync/skerry/kv"
)

// Gate counts the calls under way. The zero value is open.
type Gate struct {
	mu     sync.Mutex
	calls  int
	closed bool
	idle   chan struct{} // made by the first Close; closed when nobody is inside any more
}

// Enter begins a call, which Leave ends. It returns kv.ErrClosed once Close has been called, also
// within a call that began before.
func (g *Gate) Enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return kv.ErrClosed
	}
	g.calls++
	return nil
}

// Leave ends a call.
func (g *Gate) Leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.calls--; g.calls == 0 && g.closed {
		close(g.idle)
	}
}

// Close returns once no call is under way, and reports whether it is the first: whoever called
// that one is to close what lies behind. It must not be called within a call.
func (g *Gate) Close() (first bool) {
	g.mu.Lock()
	if first = !g.closed; first {
		g.closed, g.idle = true, make(chan struct{})
		if g.calls == 0 {
			close(g.idle)
		}
	}
	g.mu.Unlock()
	<-g.idle
	return first
}
