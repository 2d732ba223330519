package collections

import (
	"context"
	"maps"
	"net/http"
	"sync"
	"time"
)

// Wrapping is what is done to all answers.
type Wrapping struct {
	Shared   Sharing // with pages of other origins
	Headers  bool    // of security are added
	Compress bool    // answers of some size, for those who take it
	// after which a request is answered with 408, the time in which its body comes included; 0 is
	// never
	Timeout time.Duration
}

// Wrap returns a handler whose answers are those of h, wrapped.
func Wrap(h http.Handler, w Wrapping) (http.Handler, error) {
	if err := w.Shared.Check(); err != nil {
		return nil, err
	}
	if w.Compress {
		var err error
		if h, err = compressed(h); err != nil {
			return nil, err
		}
	}
	if w.Headers {
		h = secured(h)
	}
	if len(w.Shared.Origins) > 0 {
		h = w.Shared.with(h)
	}
	if w.Timeout > 0 {
		h = within(h, w.Timeout)
	}
	return h, nil
}

func within(h http.Handler, timeout time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d := &deadline{Context: r.Context(), at: time.Now().Add(timeout)}
		defer d.end()
		if r.Body != nil && r.Body != http.NoBody {
			// A body may come as slowly as its sender likes, but for this. The server sets another
			// deadline before it reads the next request.
			_ = http.NewResponseController(w).SetReadDeadline(d.at) // not of all writers
		}
		h.ServeHTTP(w, r.WithContext(d))
	})
}

// deadline is a context that ends at a time, as context.WithDeadline makes it, but without a timer
// unless somebody waits for it: most requests are answered before anybody does.
type deadline struct {
	context.Context
	at time.Time

	mu     sync.Mutex
	inner  context.Context // with a timer; nil unless somebody waits
	cancel context.CancelFunc
	ended  bool
}

// Deadline implements context.Context.
func (d *deadline) Deadline() (time.Time, bool) {
	if at, ok := d.Context.Deadline(); ok && at.Before(d.at) {
		return at, true
	}
	return d.at, true
}

func (d *deadline) timed() context.Context {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.inner == nil {
		d.inner, d.cancel = context.WithDeadline(d.Context, d.at)
		if d.ended {
			d.cancel()
		}
	}
	return d.inner
}

// Done implements context.Context.
func (d *deadline) Done() <-chan struct{} { return d.timed().Done() }

// Err implements context.Context.
func (d *deadline) Err() error {
	d.mu.Lock()
	inner, ended := d.inner, d.ended
	d.mu.Unlock()
	switch {
	case inner != nil:
		return inner.Err()
	case d.Context.Err() != nil:
		return d.Context.Err()
	case ended:
		return context.Canceled
	case !time.Now().Before(d.at):
		return d.timed().Err()
	}
	return nil
}

func (d *deadline) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended = true; d.cancel != nil {
		d.cancel()
	}
}

func secured(h http.Handler) http.Handler {
	add := http.Header{
		"X-Content-Type-Options": {"nosniff"}, "X-Frame-Options": {"DENY"},
		"Strict-Transport-Security": {"max-age=31536000; includeSubDomains"},
		"X-Xss-Protection":          {"1; mode=block"},
		"Referrer-Policy":           {"strict-origin-when-cross-origin"},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		maps.Copy(w.Header(), add)
		h.ServeHTTP(w, r)
	})
}
