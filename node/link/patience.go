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

// Write ends if less than leastWritten bytes, or than what is left, have been taken within idle.
// How b goes out is for the stream: in pieces that are small, moving much costs a fifth more.
func (p Patient) Write(b []byte) (total int, err error) {
	for {
		n, goesOn, err := p.writeSome(b)
		total += n
		if b = b[n:]; !goesOn {
			return total, err
		}
	}
}

// writeSome writes until all is written, or there is something to be told, or it is time to look
// whether the write goes on.
func (p Patient) writeSome(b []byte) (n int, goesOn bool, err error) {
	by := p.begin()
	defer func() { p.end(n) }()
	if err := p.SetWriteDeadline(by); err != nil {
		return 0, false, err
	}
	n, err = p.Stream.Write(b)
	if timedOut(err) && n >= leastWritten && !p.ended() {
		return n, true, nil
	}
	return n, false, p.named(err)
}

// ended reports whether everything should be done by now.
func (p Patient) ended() bool { return !p.until.IsZero() && !time.Now().Before(p.until) }

func timedOut(err error) bool {
	var timeout interface{ Timeout() bool }
	return errors.As(err, &timeout) && timeout.Timeout()
}

func (p Patient) named(err error) error {
	if timedOut(err) {
		if p.pace != nil && p.pace.spent() {
			return &UnreachableError{Peer: p.Remote(), Err: ErrSlow}
		}
		return &UnreachableError{Peer: p.Remote(), Timeout: p.idle, Err: err}
	}
	return err
}

const (
	// leastWritten is how many bytes a write must move within the time of an idle stream: at the least
	// rate, about what that time gives.
	leastWritten = 16 << 10
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
