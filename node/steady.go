package node

import (
	"fmt"
	"time"
)

const (
	// steadyRate is how many bytes a second a peer must take or send, while this node waits for it.
	steadyRate = 1 << 10
	// steadyGrace is how long a peer may lag behind that.
	steadyGrace = 30 * time.Second
	// steadyPiece is how many bytes are written between two looks at the rate: at the least rate,
	// in half of the grace.
	steadyPiece = 16 << 10
)

// steady is a stream that ends if its peer is slower than steadyRate. It is for answers and requests
// that may be as long as they want, and so can have no fixed time by which they end. Only the time
// of reads and writes counts.
type steady struct {
	Stream
	read, write allowance
}

// newSteady returns a steady stream. One goroutine may read from it and another may write.
func newSteady(s Stream) *steady {
	return &steady{Stream: s, read: allowance{credit: steadyGrace}, write: allowance{credit: steadyGrace}}
}

// allowance is how long a peer may still be waited for.
type allowance struct{ credit time.Duration }

// deadline returns until when the next piece may take.
func (p *allowance) deadline(now time.Time) (time.Time, error) {
	if p.credit <= 0 {
		return now, fmt.Errorf("the peer is slower than %d bytes a second", steadyRate)
	}
	return now.Add(p.credit), nil
}

func (p *allowance) passed(took time.Duration, bytes int) {
	p.credit = min(steadyGrace, p.credit-took+time.Duration(bytes)*time.Second/steadyRate)
}

func (s *steady) Read(b []byte) (int, error) {
	start := time.Now()
	until, err := s.read.deadline(start)
	if err == nil {
		err = s.SetReadDeadline(until)
	}
	if err != nil {
		return 0, err
	}
	n, err := s.Stream.Read(b)
	s.read.passed(time.Since(start), n)
	return n, err
}

func (s *steady) Write(b []byte) (total int, err error) {
	for {
		piece := b[:min(len(b), steadyPiece)]
		start := time.Now()
		until, err := s.write.deadline(start)
		if err == nil {
			err = s.SetWriteDeadline(until)
		}
		if err != nil {
			return total, err
		}
		n, err := s.Stream.Write(piece)
		s.write.passed(time.Since(start), n)
		total += n
		if b = b[n:]; err != nil || len(b) == 0 {
			return total, err
		}
	}
}
