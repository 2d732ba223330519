package content

import (
	"context"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/internal/testkit"
	"github.com/skerry-sync/skerry/node/content/wire"
	"github.com/skerry-sync/skerry/node/link"
)

// A provider that answers so slowly that its stream ends is not asked for the rest, as one is that
// cannot give some of it: it would hold up the fetch as long with each piece.
func TestDrippingProviderIsDropped(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		net := &dripping{t: t}
		x := offline(t)
		x.cfg.Lied = func(peer.ID) bool { return false }
		x.cfg.NoteLie = func(peer.ID, error) { t.Error("it did not lie") }
		x.GoOnline(net)
		var claims []Claim
		for i := range 2 * mostPassed {
			claims = append(claims, Claim{blobs.Hash{byte(i)}, 100_000})
		}
		out, err := x.FetchClaims(context.Background(), Claims{Claims: claims, Lead: "p"})
		require.ErrorIs(t, err, link.ErrSlow)
		require.EqualValues(t, 1, net.opened.Load())
		require.Positive(t, net.given.Load(), "it was there")
		for i := range claims[1:] {
			require.Equal(t, Unasked, out.Untried[i+1], "it was not found to lack what it was not asked")
		}
	})
}

// dripping is a network in which everybody answers with a byte now and then.
type dripping struct {
	nobody
	t             *testing.T
	opened, given atomic.Int32
}

func (n *dripping) Connect(context.Context, peer.AddrInfo) error { return nil }

func (n *dripping) Open(_ context.Context, p peer.ID, _ string) (link.Stream, error) {
	n.opened.Add(1)
	head := wire.Head{
		Status: wire.StatusHere, Size: 100_000, Ranges: blobs.Ranges{{Start: 0, End: 100_000}},
	}
	answer, err := head.Append(nil)
	require.NoError(n.t, err)
	return &drip{net: n, p: p, answer: answer}, nil
}

// drip is a stream of dripping.
type drip struct {
	net    *dripping
	p      peer.ID
	answer []byte // zeros follow
	by     time.Time
}

func (s *drip) Read(b []byte) (int, error) {
	const pause = 10 * time.Second
	if left := time.Until(s.by); left < pause {
		time.Sleep(left)
		return 0, os.ErrDeadlineExceeded
	}
	time.Sleep(pause)
	b[0] = 0
	if len(s.answer) > 0 {
		b[0], s.answer = s.answer[0], s.answer[1:]
	}
	s.net.given.Add(1)
	return 1, nil
}

func (s *drip) SetReadDeadline(t time.Time) error { s.by = t; return nil }

func (s *drip) Write(b []byte) (int, error)      { return len(b), nil }
func (s *drip) Close() error                     { return nil }
func (s *drip) CloseWrite() error                { return nil }
func (s *drip) Reset() error                     { return nil }
func (s *drip) SetWriteDeadline(time.Time) error { return nil }
func (s *drip) Remote() peer.ID                  { return s.p }
