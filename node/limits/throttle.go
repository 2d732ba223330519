package limits

import (
	"context"
	"io"
	"sync"
	"sync/atomic"

	"golang.org/x/time/rate"
)

// Piece is how many bytes pass at most between two looks at a limit.
const Piece = 64 << 10

// throttle is a limit of bytes a second that several goroutines share. Background work waits while
// other work is waiting.
type throttle struct {
	rate   *rate.Limiter // nil without a limit
	passed atomic.Uint64 // bytes, while there is a limit

	mu      sync.Mutex
	waiting int           // of those that somebody waits for
	free    chan struct{} // closed when waiting is 0 again
}

func newThrottle(bytesPerSecond uint64) *throttle {
	t := &throttle{}
	if bytesPerSecond > 0 {
		// A burst of a tenth of a second, but never less than one piece, which must fit in it.
		t.rate = rate.NewLimiter(rate.Limit(bytesPerSecond), max(Piece, int(bytesPerSecond/10)))
	}
	return t
}

// wait returns when n bytes, at most Piece, may pass.
func (t *throttle) wait(ctx context.Context, n int, background bool) error {
	if t.rate == nil {
		return nil
	}
	if background {
		for {
			t.mu.Lock()
			busy := t.free
			t.mu.Unlock()
			if busy == nil {
				break
			}
			select {
			case <-busy:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return t.pass(ctx, n)
	}
	t.mu.Lock()
	if t.waiting++; t.free == nil {
		t.free = make(chan struct{})
	}
	t.mu.Unlock()
	err := t.pass(ctx, n)
	t.mu.Lock()
	if t.waiting--; t.waiting == 0 {
		close(t.free)
		t.free = nil
	}
	t.mu.Unlock()
	return err
}

// pass waits for the rate alone. The limiter gives up at once if it sees that ctx will have ended
// by then; that is no other failure.
func (t *throttle) pass(ctx context.Context, n int) error {
	if t.rate.WaitN(ctx, n) == nil {
		t.passed.Add(uint64(n))
		return nil
	}
	<-ctx.Done()
	return ctx.Err()
}

// Throttles are the limits of one direction: of all peers together, and of one.
type Throttles []*throttle

// Wait returns when n bytes may pass. What is in the background waits for the rest.
func (ts Throttles) Wait(ctx context.Context, n int, background bool) error {
	for ; n > 0; n -= Piece {
		for _, t := range ts {
			if err := t.wait(ctx, min(n, Piece), background); err != nil {
				return err
			}
		}
	}
	return nil
}

// limited reports whether any throttle of a direction has a limit.
func (ts Throttles) limited() bool {
	for _, t := range ts {
		if t.rate != nil {
			return true
		}
	}
	return false
}

// Transfer is one stream of bytes in one direction.
type Transfer struct {
	Limits     Throttles
	Background bool           // nobody waits for it
	Count      *atomic.Uint64 // of bytes
	piece      int            // bytes between two looks at the limits
}

// Writer returns w, which then takes no more than the limits allow.
func (t Transfer) Writer(ctx context.Context, w io.Writer) io.Writer {
	t.piece = Piece
	return limitedWriter{t, ctx, w}
}

type limitedWriter struct {
	Transfer
	ctx context.Context
	w   io.Writer
}

func (l limitedWriter) Write(b []byte) (total int, err error) {
	defer func() { l.Count.Add(uint64(total)) }()
	if !l.Limits.limited() {
		return l.w.Write(b)
	}
	for len(b) > 0 {
		piece := b[:min(len(b), l.piece)]
		if err := l.Limits.Wait(l.ctx, len(piece), l.Background); err != nil {
			return total, err
		}
		n, err := l.w.Write(piece)
		if total += n; err != nil {
			return total, err
		}
		b = b[n:]
	}
	return total, nil
}

// Reader returns r, which then gives no more than the limits allow. What is not read stays with the
// sender, who waits.
func (t Transfer) Reader(ctx context.Context, r io.Reader) io.Reader {
	return limitedReader{t, ctx, r}
}

type limitedReader struct {
	Transfer
	ctx context.Context
	r   io.Reader
}

func (l limitedReader) Read(b []byte) (n int, err error) {
	defer func() { l.Count.Add(uint64(n)) }()
	if !l.Limits.limited() {
		return l.r.Read(b)
	}
	n, err = l.r.Read(b[:min(len(b), Piece)])
	if n > 0 {
		if waitErr := l.Limits.Wait(l.ctx, n, l.Background); waitErr != nil {
			return n, waitErr
		}
	}
	return n, err
}
