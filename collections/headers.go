package collections

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"
)

// HeaderTimeouts returns l for srv to serve, and has srv's callers told 408 when the headers of a
// request do not come within ReadHeaderTimeout: net/http closes the connection and says nothing.
// Over TLS it stays like that. It sets srv.ConnState.
func HeaderTimeouts(srv *http.Server, l net.Listener) net.Listener {
	srv.ConnState = func(c net.Conn, state http.ConnState) {
		if t, ok := c.(*tls.Conn); ok {
			c = t.NetConn()
		}
		if h, ok := c.(*headerConn); ok {
			// A server tells of a request when it has read its headers.
			h.reading.Store(state == http.StateNew || state == http.StateIdle)
			h.came.Store(0)
		}
	}
	return &headerListener{Listener: l}
}

type headerListener struct{ net.Listener }

// Accept implements net.Listener.
func (l *headerListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &headerConn{Conn: c}, nil
}

// headerConn is a connection that tells its peer when the time for headers is over.
type headerConn struct {
	net.Conn
	reading atomic.Bool  // no request is being answered
	came    atomic.Int64 // bytes since that is so
	secret  atomic.Bool  // what is read and written is TLS
}

const tlsHandshake = 22 // the first byte of a TLS connection (RFC 8446, section 5.1)

// farewellTime is how long a peer may take to read that it was too slow.
const farewellTime = time.Second

// Read implements net.Conn.
func (c *headerConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 && b[0] == tlsHandshake { // no request begins like that
		c.secret.Store(true)
	}
	came := c.came.Add(int64(n))
	if came > 0 && c.reading.Load() && !c.secret.Load() && errors.Is(err, os.ErrDeadlineExceeded) {
		const body = `{"error":"` + timedOut + `"}`
		_ = c.SetWriteDeadline(time.Now().Add(farewellTime))
		_, _ = fmt.Fprintf(c.Conn, "HTTP/1.1 408 Request Timeout\r\nContent-Type: application/json\r\n"+
			"Content-Length: %d\r\nConnection: close\r\n\r\n%s", len(body), body)
	}
	return n, err
}

// CloseWrite lets a server end a connection so that its peer reads the last answer (see net/http).
func (c *headerConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}
