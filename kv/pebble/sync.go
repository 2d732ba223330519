package pebble

import "sync"

// syncer lets callers that arrive while a flush runs share the next one: a flush that has already begun may have
// missed their writes. One of those waiting runs it, so no goroutine outlives its caller and none is kept at work for others.
type syncer struct {
	run func() error

	mu      sync.Mutex
	running bool
	next    *flush // joined by those who wait for the flush after the running one
}

type flush struct {
	lead chan struct{} // holds one token once it is this flush's turn
	done chan struct{}
	err  error
}

// wait returns after a flush that began after the call. A flush is bounded by the disk, so it cannot be cancelled.
func (s *syncer) wait() error {
	s.mu.Lock()
	if !s.running {
		s.running = true
		s.mu.Unlock()
		err := s.run()
		s.pass()
		return err
	}
	if s.next == nil {
		s.next = &flush{lead: make(chan struct{}, 1), done: make(chan struct{})}
	}
	f := s.next
	s.mu.Unlock()

	select {
	case <-f.done:
		return f.err
	case <-f.lead:
	}
	s.mu.Lock()
	s.next = nil // those who come now wait for a later flush
	s.mu.Unlock()
	f.err = s.run()
	close(f.done)
	s.pass()
	return f.err
}

// pass hands the turn to one of those who wait.
func (s *syncer) pass() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next == nil {
		s.running = false
		return
	}
	s.next.lead <- struct{}{}
}
