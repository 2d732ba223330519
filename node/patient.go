package node

import (
	"errors"
	"time"
)

// patient is a stream whose reads and writes end: each must make progress within idle, and, if
// until is not zero, all of them together must be done by then, however much progress they make.
// A peer that sends a byte at a time keeps the first rule for ever, so what a stranger can open
// has the second one, too.
type patient struct {
	Stream
	idle  time.Duration
	until time.Time
}

// within returns a stream whose reads and writes must make progress within idle.
func within(s Stream, idle time.Duration) patient { return patient{Stream: s, idle: idle} }

// endingIn returns the stream with a time by which everything must be done; 0 takes it away.
func (p patient) endingIn(d time.Duration) patient {
	p.until = time.Time{}
	if d > 0 {
		p.until = time.Now().Add(d)
	}
	return p
}

// deadline is the time by which the next read or write must make progress.
func (p patient) deadline() time.Time {
	t := time.Now().Add(p.idle)
	if !p.until.IsZero() && p.until.Before(t) {
		return p.until
	}
	return t
}

func (p patient) Read(b []byte) (int, error) {
	if err := p.SetReadDeadline(p.deadline()); err != nil {
		return 0, err
	}
	n, err := p.Stream.Read(b)
	return n, p.named(err)
}

func (p patient) Write(b []byte) (int, error) {
	if err := p.SetWriteDeadline(p.deadline()); err != nil {
		return 0, err
	}
	n, err := p.Stream.Write(b)
	return n, p.named(err)
}

func (p patient) named(err error) error {
	var timeout interface{ Timeout() bool }
	if errors.As(err, &timeout) && timeout.Timeout() {
		return &UnreachableError{Peer: p.Remote(), Timeout: p.idle, Err: err}
	}
	return err
}
