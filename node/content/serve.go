package content

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/skerry-sync/skerry/blobs"
	"github.com/skerry-sync/skerry/node/content/wire"
	"github.com/skerry-sync/skerry/node/limits"
	"github.com/skerry-sync/skerry/node/link"
)

const (
	idleTimeout = 30 * time.Second
	// requestTime is how long a peer has for a whole request, from its first byte.
	requestTime = 30 * time.Second
	blobBuffer  = 256 << 10 // of an answer that is being written
	readBuffer  = 4 << 10   // of one that is being read: content passes it by
	// strangeBuffer is that of an answer to a stranger.
	strangeBuffer = 64 << 10
	// segmentsOfUnit is how many segments of a partial blob are looked at for a unit of work.
	segmentsOfUnit = 16
	// childrenOfUnit is how many children of a sequence are told to a collection likewise.
	childrenOfUnit = 1024
)

// Serve answers the requests of one stream, until ctx ends.
func (x *Exchange) Serve(ctx context.Context, s link.Stream) {
	err := x.answerBlobs(ctx, s)
	if unreadable, is := errors.AsType[*unreadableError](err); is {
		x.log.Debug("serving blobs", "peer", s.Remote(), "error", unreadable)
		_ = s.CloseWrite() // a reset would take what is on its way from the peer
		_ = s.Close()
		return
	}
	if err != nil {
		x.log.Debug("serving blobs", "peer", s.Remote(), "error", err)
		_ = s.Reset() // ends it for the peer, too; it may be gone
		return
	}
	_ = s.Close() // the peer has everything
}

// unreadableError reports content that this node could not read for a peer. The peer has all
// answers before it, so that it knows what to do without.
type unreadableError struct{ err error }

func (e *unreadableError) Error() string { return e.err.Error() }
func (e *unreadableError) Unwrap() error { return e.err }

// answerBlobs reads one request after the other, each within requestTime, and answers it to a peer
// that reads steadily.
func (x *Exchange) answerBlobs(ctx context.Context, s link.Stream) error {
	v := link.VisitOf(s)
	p := new(link.Patient)
	*p = link.Within(s, idleTimeout)
	r := bufio.NewReader(p)
	for {
		*p = p.EndingIn(0)
		if _, err := r.Peek(1); errors.Is(err, io.EOF) {
			return s.CloseWrite()
		} else if err != nil {
			return err
		}
		*p = p.EndingIn(requestTime)
		background, reqs, held, err := wire.ReadRequests(r, v)
		if err == nil {
			err = x.answerRequests(ctx, s, reqs, background)
		}
		v.Give(held)
		if err != nil {
			return err
		}
	}
}

// answering is the answer to one request.
type answering struct {
	x          *Exchange
	ctx        context.Context
	s          link.Stream
	to         io.Writer // the peer, at its pace
	background bool
	place      limits.Place
	w          *bufio.Writer
}

func (x *Exchange) answerRequests(
	ctx context.Context, s link.Stream, reqs []wire.Request, background bool,
) error {
	v, out := link.VisitOf(s), x.limits.Upload(s.Remote())
	size := blobBuffer
	if v.Stranger() {
		size = strangeBuffer
	}
	if err := v.Take(size); err != nil {
		return err
	}
	defer v.Give(size)
	a := &answering{x: x, ctx: ctx, s: s, background: background}
	paced := link.Within(giving{link.Uncounted(s), x.cfg.Gave}, idleTimeout).Paced()
	t := limits.Transfer{Limits: out, Background: background, Count: &x.sent}
	a.to = t.Writer(ctx, paced)
	a.w = bufio.NewWriterSize(a, size)
	defer a.rest()
	for i := range reqs {
		if err := a.one(&reqs[i]); err != nil {
			if ctx.Err() == nil && a.w.Flush() == nil { // else it is the peer that has failed
				err = &unreadableError{err}
			}
			return err
		}
	}
	a.rest()
	return a.w.Flush()
}

// work takes a place to work. Only so many answers are worked on at a time.
func (a *answering) work() (err error) {
	a.place, err = a.x.limits.Enter(a.ctx, a.s, a.background)
	return err
}

// rest gives the place back.
func (a *answering) rest() {
	a.place.Leave()
	a.place = limits.Place{}
}

// Write brings a part of the answer to the peer, and holds no place meanwhile. What is written is
// held until the peer has it.
func (a *answering) Write(b []byte) (int, error) {
	v, working := link.VisitOf(a.s), a.place.Held()
	a.rest()
	if err := v.Take(len(b)); err != nil {
		return 0, err
	}
	total, err := a.to.Write(b)
	if v.Give(len(b)); err == nil && working {
		err = a.work()
	}
	return total, err
}

// spent counts work, of which some has yielded bytes, and waits without a place if the peer has
// asked for much that yields little.
func (a *answering) spent(units int, yielded uint64) error {
	if units -= int(min(yielded/limits.YieldOfUnit, uint64(units))); units == 0 {
		return nil
	}
	working := a.place.Held()
	a.rest()
	err := a.x.limits.Worked(a.ctx, a.s, units)
	if err == nil && working {
		err = a.work()
	}
	return err
}

// one answers one item.
func (a *answering) one(q *wire.Request) error {
	if err := a.work(); err != nil {
		return err
	}
	defer a.rest()
	if _, err := a.x.answerBlob(a, q, 0); err != nil || q.Children == nil {
		return err
	}
	return a.x.answerChildren(a, q)
}

// answerBlob answers for one blob, of which it returns how many bytes it sent; of one that is
// larger than limit, it tells only the size.
func (x *Exchange) answerBlob(
	a *answering, q *wire.Request, limit uint64,
) (sent uint64, err error) {
	// What is being sent is not collected. Each blob is held alone: of a sequence there are millions.
	held, release := x.blobs.Hold()
	defer release()
	w, units := a.w, 1
	defer func() {
		if err == nil {
			err = a.spent(units, sent)
		}
	}()
	head := wire.Head{Status: wire.StatusNotHere}
	e, err := held.Encoder(a.ctx, q.Hash)
	if err != nil && !errors.Is(err, blobs.ErrNotFound) {
		return 0, err
	}
	var last blobs.Ranges
	if err == nil {
		last = wire.LastGroup(e.Info.Size)
		if e.Info.Present < e.Info.Size {
			// Segments of which nothing is here are not looked at, and a size costs nothing to claim.
			segments := min(e.Info.Size/blobs.SegmentSize, e.Info.Present/blobs.GroupSize)
			units += int(segments)/segmentsOfUnit + len(e.Present)
		}
		switch {
		case limit > 0 && e.Info.Size > limit:
			head = wire.Head{Status: wire.StatusLarger, Size: e.Info.Size}
		case q.ProveSize && len(last.Without(e.Present)) > 0:
		default:
			head = wire.Head{
				Status: wire.StatusHere, Size: e.Info.Size, Ranges: q.Ranges.Intersect(e.Present),
			}
			if q.ProveSize {
				head.Ranges = head.Ranges.Without(last)
			}
			head.Ranges = head.Ranges[:min(len(head.Ranges), blobs.MaxWireRanges)]
		}
	}
	b, err := head.Append(nil)
	if err != nil {
		return 0, err
	}
	if _, err := w.Write(b); err != nil || head.Status != wire.StatusHere || q.Describe {
		return 0, err
	}
	if q.ProveSize {
		if err := e.Encode(w, last); err != nil {
			return 0, err
		}
		sent = last.Count()
	}
	if len(head.Ranges) == 0 {
		return sent, nil
	}
	return sent + head.Ranges.Count(), e.Encode(w, head.Ranges)
}

// answerChildren answers for the children of a sequence; there are none if it is not here whole, or
// is no sequence.
func (x *Exchange) answerChildren(a *answering, q *wire.Request) error {
	held, release := x.blobs.Hold()
	defer release()
	w := a.w
	c, count := q.Children, uint64(0)
	list, err := held.Reader(a.ctx, q.Hash)
	if err != nil && !errors.Is(err, blobs.ErrNotFound) {
		return err
	}
	if err == nil {
		has, err := held.Has(a.ctx, q.Hash)
		if err != nil {
			return err
		}
		size := uint64(list.Size())
		if has && mayBeSequence(size) && size/blobs.HashSize > c.First {
			count = min(c.Count, size/blobs.HashSize-c.First)
		}
	}
	if _, err := w.Write(binary.AppendUvarint(nil, count)); err != nil || count == 0 {
		return err
	}
	if err := held.TouchChildren(a.ctx, q.Hash, c.First, count); err != nil {
		return err
	}
	if err := a.spent(int(count)/childrenOfUnit, 0); err != nil { // a collection looks at each
		return err
	}
	part := io.NewSectionReader(
		list, int64(c.First)*blobs.HashSize, int64(count)*blobs.HashSize,
	)
	hashes := bufio.NewReaderSize(part, 32<<10)
	var total uint64
	for range count {
		if c.Budget > 0 && total >= c.Budget {
			return w.WriteByte(wire.StatusSpent)
		}
		child := wire.Request{ProveSize: true, Ranges: c.Ranges}
		if _, err := io.ReadFull(hashes, child.Hash[:]); err != nil {
			return err
		}
		sent, err := x.answerBlob(a, &child, c.Limit)
		if err != nil {
			return err
		}
		total += sent
	}
	return nil
}

// giving is a stream of content to a peer, which tells what it gives.
type giving struct {
	link.Stream
	gave func(p peer.ID, bytes int) // may be nil
}

func (g giving) Write(b []byte) (n int, err error) {
	if n, err = g.Stream.Write(b); g.gave != nil {
		g.gave(g.Remote(), n)
	}
	return n, err
}
