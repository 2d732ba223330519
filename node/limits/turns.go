package limits

import (
	"context"
	"sync"
	"time"
)

// Turns let background fetches wait for those that a person waits for. The zero value is ready.
type Turns struct {
	mu     sync.Mutex
	waited int           // fetches that somebody waits for
	nobody chan struct{} // closed when there is none any more
}

// Begin notes a fetch, until the function that it returns is called.
func (t *Turns) Begin(background bool) (end func()) {
	if background {
		return func() {}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.waited++; t.nobody == nil {
		t.nobody = make(chan struct{})
	}
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.waited--; t.waited == 0 {
			close(t.nobody)
			t.nobody = nil
		}
	}
}

// trickle is how long a background fetch waits for its next block while others are under way.
const trickle = 500 * time.Millisecond

// Wait returns when a fetch may ask for its next block.
func (t *Turns) Wait(ctx context.Context, background bool) error {
	if !background {
		return ctx.Err()
	}
	t.mu.Lock()
	nobody := t.nobody
	t.mu.Unlock()
	if nobody == nil {
		return ctx.Err()
	}
	select {
	case <-nobody:
	case <-time.After(trickle):
	case <-ctx.Done():
	}
	return ctx.Err()
}
