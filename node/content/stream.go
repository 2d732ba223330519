package content

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/node/content/wire"
	"github.com/skerry-sync/skerry/node/limits"
	"github.com/skerry-sync/skerry/node/link"
)

var (
	// errEnough ends a stream of which the rest is not wanted.
	errEnough = errors.New("enough")
	// errStale reports a stream that ended between two answers.
	errStale = errors.New("stream ended between answers")
)

// PeerFault is something that a peer sent and must not have sent.
type PeerFault struct{ What string }

func (e *PeerFault) Error() string { return "the peer breaks the protocol: " + e.What }

// stream is a stream on which one peer is asked for blobs, within the limits of a download.
type stream struct {
	x          *Exchange
	id         peer.ID
	background bool // nobody waits for what is asked

	raw  link.Stream // nil until it is open
	r    *bufio.Reader
	w    io.Writer
	stop func() bool
	used bool // has been answered before
}

// stream returns a stream that is not open yet.
func (x *Exchange) stream(p peer.ID, background bool) stream {
	return stream{x: x, id: p, background: background}
}

// open opens the stream if it is not open.
func (s *stream) open(ctx context.Context) error {
	if s.raw != nil {
		return nil
	}
	raw, err := s.x.net.Open(ctx, s.id, wire.Protocol)
	if err != nil {
		return err
	}
	s.raw = raw
	// So that a read that waits for the peer ends.
	s.stop = context.AfterFunc(ctx, func() { _ = raw.Reset() })
	quiet := link.Within(raw, idleTimeout).Paced()
	t := limits.Transfer{
		Limits: s.x.limits.Download(s.id), Background: s.background, Count: &s.x.received,
	}
	s.r = bufio.NewReaderSize(t.Reader(ctx, quiet), readBuffer)
	s.w = quiet
	return nil
}

// send asks, on an open stream.
func (s *stream) send(reqs []wire.Request) error {
	msg, err := wire.AppendRequests(nil, s.background, reqs)
	if err != nil {
		return err
	}
	if _, err := io.Copy(s.w, bytes.NewReader(msg)); err != nil {
		if s.used {
			return errors.Join(errStale, err)
		}
		return fmt.Errorf("ask for blobs: %w", err)
	}
	return nil
}

func (s *stream) close(broken bool) {
	if s.raw == nil {
		return
	}
	if s.stop() && !broken {
		_ = s.raw.CloseWrite() // the provider then ends the stream, too
		_ = s.raw.Close()
		return
	}
	_ = s.raw.Reset() // it is of no more use
}
