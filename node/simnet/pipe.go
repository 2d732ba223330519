package simnet

import (
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// window is how many bytes a stream takes that nobody has read yet. Without a window, two ends
// that both write would wait for each other.
const window = 256 << 10

// newPipe returns the two ends of a stream in memory.
func newPipe() (net.Conn, net.Conn) {
	a, b := newHalf(), newHalf()
	return &conn{in: a, out: b}, &conn{in: b, out: a}
}

// half is one direction of a stream.
type half struct {
	mu          sync.Mutex
	changed     *sync.Cond
	buf         []byte
	closed      bool
	read, write time.Time // deadlines
}

func newHalf() *half {
	h := &half{}
	h.changed = sync.NewCond(&h.mu)
	return h
}

func late(deadline time.Time) bool { return !deadline.IsZero() && !time.Now().Before(deadline) }

func (h *half) setDeadline(at *time.Time, t time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	*at = t
	h.changed.Broadcast()
	if !t.IsZero() && !h.closed {
		// One timer is not stopped for another: both ends may have one.
		time.AfterFunc(time.Until(t), h.changed.Broadcast)
	}
}

func (h *half) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	h.changed.Broadcast()
}

type conn struct{ in, out *half }

func (c *conn) Read(b []byte) (int, error) {
	h := c.in
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		switch {
		case late(h.read):
			return 0, os.ErrDeadlineExceeded
		case len(h.buf) > 0:
			n := copy(b, h.buf)
			h.buf = h.buf[n:]
			h.changed.Broadcast()
			return n, nil
		case h.closed:
			return 0, io.EOF
		}
		h.changed.Wait()
	}
}

func (c *conn) Write(b []byte) (n int, err error) {
	h := c.out
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(b) > 0 {
		switch {
		case h.closed:
			return n, io.ErrClosedPipe
		case late(h.write):
			return n, os.ErrDeadlineExceeded
		}
		if room := window - len(h.buf); room > 0 {
			m := min(room, len(b))
			h.buf = append(h.buf, b[:m]...)
			b, n = b[m:], n+m
			h.changed.Broadcast()
			continue
		}
		h.changed.Wait()
	}
	return n, nil
}

// Close closes both directions.
func (c *conn) Close() error {
	c.in.close()
	c.out.close()
	return nil
}

func (c *conn) LocalAddr() net.Addr  { return nil }
func (c *conn) RemoteAddr() net.Addr { return nil }

func (c *conn) SetDeadline(t time.Time) error {
	_ = c.SetReadDeadline(t) // never fails
	return c.SetWriteDeadline(t)
}

func (c *conn) SetReadDeadline(t time.Time) error {
	c.in.setDeadline(&c.in.read, t)
	return nil
}
func (c *conn) SetWriteDeadline(t time.Time) error {
	c.out.setDeadline(&c.out.write, t)
	return nil
}
