package node

import (
	"context"
	"sync"
	"time"
)

// handing knows whether content is being given to peers.
type handing struct {
	mu   sync.Mutex
	now  int       // items being answered
	last time.Time // when the last one ended
}

func (h *handing) begin() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now++
}

func (h *handing) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now--
	h.last = time.Now()
}

// idle returns since when nothing is given; zero if nothing ever was. It is false while something is.
func (h *handing) idle() (since time.Time, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.last, h.now == 0
}

// HandOver waits until peers have fetched what they have just been told of: for up to first until one begins, and then until none has asked for anything for a while. It is for nodes that go away right after a session,
// whose entries would else be known and their content not.
func (n *Node) HandOver(ctx context.Context, first, quiet time.Duration) error {
	start := time.Now()
	for {
		since, idle := n.handing.idle()
		var left time.Duration
		switch {
		case !idle:
			left = quiet
		case since.IsZero():
			left = time.Until(start.Add(first))
		default:
			left = time.Until(since.Add(quiet))
		}
		if left <= 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(left):
		}
	}
}
