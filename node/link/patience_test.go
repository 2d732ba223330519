package link_test

import (
	"os"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/node/link"
)

// taker is a stream to a peer that takes some bytes at the end of each step of time; none if step
// is 0: it takes all at once.
type taker struct {
	link.Stream
	step  time.Duration
	bytes int
	by    time.Time

	writes int
}

func (s *taker) SetWriteDeadline(by time.Time) error {
	s.by = by
	return nil
}

func (s *taker) Remote() peer.ID { return "taker" }

func (s *taker) Write(b []byte) (n int, err error) {
	s.writes++
	if s.step == 0 {
		return len(b), nil
	}
	for n < len(b) {
		if time.Now().Add(s.step).After(s.by) {
			time.Sleep(time.Until(s.by))
			return n, os.ErrDeadlineExceeded
		}
		time.Sleep(s.step)
		n += min(s.bytes, len(b)-n)
	}
	return n, nil
}

func TestWriteGoesOnWhileThePeerTakesEnough(t *testing.T) {
	const idle, length = 30 * time.Second, 256 << 10
	for _, c := range []struct {
		name  string
		step  time.Duration
		bytes int
		until time.Duration
		takes time.Duration
		err   error
	}{
		{name: "all at once"},
		{name: "a piece in each idle time", step: 20 * time.Second, bytes: 16 << 10, takes: 470 * time.Second},
		{name: "little at a time", step: time.Second, bytes: 1 << 10, takes: 256 * time.Second},
		{name: "less than a piece", step: time.Second, bytes: 500, takes: idle, err: os.ErrDeadlineExceeded},
		{name: "nothing", step: time.Hour, bytes: length, takes: idle, err: os.ErrDeadlineExceeded},
		{
			name: "longer than everything may take", step: time.Second, bytes: 1 << 10,
			until: 100 * time.Second, takes: 100 * time.Second, err: os.ErrDeadlineExceeded,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			testkit.Bubble(t, func(t *testing.T) {
				s := &taker{step: c.step, bytes: c.bytes}
				began := time.Now()
				n, err := link.Within(s, idle).Paced().EndingIn(c.until).Write(make([]byte, length))
				require.ErrorIs(t, err, c.err)
				require.Equal(t, c.takes, time.Since(began))
				require.Equal(t, err == nil, n == length, n)
				if c.step == 0 {
					require.Equal(t, 1, s.writes) // small pieces cost much
				}
			})
		})
	}
}

// What is not taken in time for the pace of a stream ends it, although each idle time brings
// enough.
func TestWriteHasAPace(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		s := &taker{step: 50 * time.Second, bytes: 20 << 10}
		_, err := link.Within(s, time.Hour).Paced().Write(make([]byte, 1<<20))
		require.ErrorIs(t, err, link.ErrSlow)
	})
}
