package link

import (
	"errors"
	"sync"
	"time"
)

// Patient is a stream whose reads and writes end: each must make progress within idle, and, if
// until is not zero, all of them together must be done by then, however much progress they make.
// A peer that sends a byte at a time keeps the first rule for ever, so what a stranger can open
// has the second one, too. What may rightly take long, such as a session, has a pace instead.
type Patient struct {
	Stream
	idle  time.Duration
	until time.Time
	pace  *pace // nil: none
}

// Within returns a stream whose reads and writes must make progress within idle. It takes the place
// of the patience that a stream has already.
func Within(s Stream, idle time.Duration) Patient {
	if p, ok := s.(Patient); ok {
		s = p.Stream
	}
	return Patient{Stream: s, idle: idle}
}

// EndingIn returns the stream with a time by which everything must be done; 0 takes it away.
func (p Patient) EndingIn(d time.Duration) Patient {
	p.until = time.Time{}
	if d > 0 {
		p.until = time.Now().Add(d)
	}
	return p
}

// Paced returns the stream with a least pace: see pace.
func (p Patient) Paced() Patient {
	p.pace = &pace{credit: FirstCredit}
	return p
}

// begin returns the time by which the next read or write must make progress; end follows it.
func (p Patient) begin() time.Time {
	t := time.Now().Add(p.idle)
	if !p.until.IsZero() && p.until.Before(t) {
		t = p.until
	}
	if p.pace != nil {
		if last := p.pace.begin(); last.Before(t) {
			t = last
		}
	}
	return t
}

func (p Patient) end(n int) {
	if p.pace != nil {
		p.pace.end(n)
	}
}

func (p Patient) Read(b []byte) (n int, err error) {
	by := p.begin()
	defer func() { p.end(n) }()
	if err := p.SetReadDeadline(by); err != nil {
		return 0, err
	}
	n, err = p.Stream.Read(b)
	return n, p.named(err)
}

// Write writes in pieces of writePiece bytes, each of which must make progress within idle.
func (p Patient) Write(b []byte) (total int, err error) {
	for {
		n, err := p.writeOne(b[:min(len(b), writePiece)])
		total += n
		if b = b[n:]; err != nil || len(b) == 0 {
			return total, err
		}
	}
}

func (p Patient) writeOne(b []byte) (n int, err error) {
	by := p.begin()
	defer func() { p.end(n) }()
	if err := p.SetWriteDeadline(by); err != nil {
		return 0, err
	}
	n, err = p.Stream.Write(b)
	return n, p.named(err)
}

func (p Patient) named(err error) error {
	var timeout interface{ Timeout() bool }
	if errors.As(err, &timeout) && timeout.Timeout() {
		if p.pace != nil && p.pace.spent() {
			return &UnreachableError{Peer: p.Remote(), Err: ErrSlow}
		}
		return &UnreachableError{Peer: p.Remote(), Timeout: p.idle, Err: err}
	}
	return err
}

const (
	// writePiece is how many bytes are written between two looks at the time: at the least rate, in
	// about the time of an idle stream.
	writePiece = 16 << 10
	// LeastRate is how many bytes a second, both ways together, a peer must take or give on
	// average while it is waited for. A link of 1 KiB/s keeps twice this pace.
	LeastRate = 512
	// FirstCredit is how long a peer may be waited for in all before it has moved a byte.
	FirstCredit = time.Minute
	// MaxCredit is the most that it can earn: so long may an honest peer store what it was sent.
	MaxCredit = 10 * time.Minute
)

// ErrSlow reports a peer that does not make the least progress that is asked of it.
var ErrSlow = errors.New("it makes too little progress")

// pace is the least progress of a stream. A peer has a credit of time. It spends the time in which
// this node waits for it, in a read, a write or both, and earns some with each byte that passes.
// When the credit is spent, the stream ends. What this node does meanwhile costs the peer nothing.
type pace struct {
	mu      sync.Mutex
	credit  time.Duration
	waiting int       // reads and writes under way
	since   time.Time // when the first of them began, or was last charged
}

// begin notes that a read or write begins, and returns when the credit ends if nothing passes.
func (p *pace) begin() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.charge(now)
	p.waiting++
	return now.Add(p.credit)
}

// end notes that a read or write has ended with n bytes.
func (p *pace) end(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.charge(time.Now())
	p.waiting--
	p.credit = min(p.credit+time.Duration(n)*time.Second/LeastRate, MaxCredit)
}

// spent reports whether nothing is left of the credit, during a read or write.
func (p *pace) spent() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.charge(time.Now())
	return p.credit <= 0
}

func (p *pace) charge(now time.Time) {
	if p.waiting > 0 {
		p.credit -= now.Sub(p.since)
	}
	p.since = now
}
